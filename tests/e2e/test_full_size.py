"""Commands over a data set of the release's size: 5,035 takes, 40,280 videos, 40 MB of JSON."""

import pytest

from tests.support.release import full_size
from tests.support.used import used

# Seconds of CPU and MB of memory that a command may take.
SECONDS, MEGABYTES = 6.0, 250


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return full_size().write(tmp_path_factory.mktemp("release"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("takes", "{}"), "5035 takes, 35245 streams, 35.2 MB"),
        (("takes", "{}", "--resolution", "448", "--json"), '"size":'),
        (("plan", "--dataset", "{}", "--output", "{}/out"), "35.24 MB (33.61 MiB) to read"),
    ],
)
def test_it_takes_little(root: str, command: tuple[str, ...], said: str) -> None:
    took = used(*(word.format(root) for word in command))
    assert said in took.said
    assert took.cpu <= SECONDS
    assert took.mib <= MEGABYTES
