"""Licences as settings, as attributes of stores, and in print."""

from typing import Any

import pytest

from configs.load import SettingsError, load_job, over_job
from takestream.licence import ATTRIBUTE, Licence, Licences

URL = "https://example.org/terms"
PLACES = {"dataset": "data", "output": "out"}


@pytest.mark.parametrize(
    ("given", "licence"),
    [
        (None, None),
        ({"name": "CC-BY-4.0", "url": URL}, Licence("CC-BY-4.0", URL)),
        ({"name": "ours"}, Licence("ours")),
        (f"The terms of the lab {URL}", Licence("The terms of the lab", URL)),
        ("The terms of the lab", Licence("The terms of the lab")),
    ],
)
def test_a_job_says_it_in_full_or_in_short(given: Any, licence: Licence | None) -> None:
    assert load_job(None, {**PLACES, "dataset_licence": given}).dataset_licence == licence


def test_what_is_said_in_short_replaces_both() -> None:
    job = load_job(None, {**PLACES, "dataset_licence": f"one {URL}"})
    from_file = job.model_dump(mode="json")
    merged = over_job(from_file, {"dataset_licence": "two"}, "job")
    assert merged["dataset_licence"] == {"name": "two", "url": None}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "a line of 1 to 200"),
        ({"name": "x" * 201}, "a line of 1 to 200"),
        ({"name": "two\nlines"}, "a line of 1 to 200"),
        ({"name": "x", "url": "javascript:alert(1)"}, "begins with http"),
        ({"name": "x", "url": "https://a b"}, "begins with http"),
        ({"name": "x", "link": URL}, "unknown setting 'dataset_licence.link'"),
        ({"url": URL}, "'dataset_licence.name' is missing"),
        # Made up: an address with a password in it is what has to be refused.
        (
            {"name": "x", "url": "https://me:secret@example.org/"},  # pragma: allowlist secret
            "password",
        ),
        (7, "dataset_licence: must be settings"),
    ],
)
def test_what_is_no_licence_is_refused(given: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_job(None, {**PLACES, "dataset_licence": given})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("CC-BY-NC-4.0", True),
        ("CC BY-NC-SA 3.0", True),
        ("Non-Commercial Licence", True),
        ("for noncommercial use", True),
        ("Apache-2.0", False),
        ("NCSA", False),
        ("Ego-Exo4D license agreement", False),
    ],
)
def test_non_commercial_is_what_a_name_says(name: str, found: bool) -> None:
    assert Licence(name).is_non_commercial is found


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {ATTRIBUTE: None, "encoder": {}},
        {ATTRIBUTE: "MIT", "encoder": {"licence": "unknown", "source": "https://x.org"}},
        {ATTRIBUTE: {"name": 7}, "encoder": None},
        {ATTRIBUTE: {"name": "x", "url": 7}},
        {ATTRIBUTE: {"name": "x", "url": "file:///etc"}},
    ],
)
def test_stores_that_do_not_say_it_are_read(attributes: dict[str, Any]) -> None:
    found = Licences.of(attributes)
    assert found == Licences(None, None)
    assert found.words() == "videos: not said; encoder: not said"


def test_both_licences_of_a_store() -> None:
    licence = Licence("terms", URL)
    encoder = {"licence": "MIT", "source": "https://example.org/net (arXiv:1234.5678)"}
    found = Licences.of({ATTRIBUTE: licence.facts(), "encoder": encoder})
    assert found == Licences(licence, Licence("MIT", "https://example.org/net"))
    assert found.words() == f"videos: terms, {URL}; encoder: MIT, https://example.org/net"
