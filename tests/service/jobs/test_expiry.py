"""Keys that end: by what is known of them, and a job that waits for new ones."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from configs.load import load_job
from configs.schema import JobSpec
from service.demo.s3server import ObjectStore
from service.jobs import expiry
from service.jobs.expiry import KeyLife, key_life, ran_out, wait_for_keys
from takestream.errors import ErrorKind
from workers.run.recipe import make_recipe
from workers.run.report import Progress, Report
from workers.run.tasks import Failure

NOW = datetime(2026, 11, 26, 8, tzinfo=UTC)


@pytest.fixture(autouse=True)
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of profiles, and nothing else that knows keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return file


def profile(file: Path, key: str, secret: str = "s", **more: str) -> None:
    lines = {"aws_access_key_id": key, "aws_secret_access_key": secret, **more}
    file.write_text("[egoexo]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items()))


def job(root: Path, dataset: str = "egoexo://v2", **keys: Any) -> JobSpec:
    places = {"dataset": dataset, "output": str(root / "out"), "s3": {"profile": "egoexo"}}
    return load_job(None, {**places, "run": {"keys": keys}})


def test_the_day_of_issue_is_a_setting(aws: Path, tmp_path: Path) -> None:
    profile(aws, "KEY")
    life = key_life(job(tmp_path, issued="2026-11-20"))
    assert life is not None
    assert life.ends == datetime(2026, 12, 4, tzinfo=UTC)
    assert life.words(now=NOW) == (
        "the keys of profile egoexo end on 2026-12-04 00:00 UTC (issued 2026-11-20, 14 days): "
        "7.7 days are left"
    )
    assert life.words(12, NOW).endswith("the job needs up to 12.0 h")
    assert "renew them before it starts" in life.words(300, NOW)
    assert "renew them" in life.words(now=datetime(2026, 12, 5, tzinfo=UTC))
    # Of a bucket of one's own they do not end, unless it is said.
    assert key_life(job(tmp_path, "s3://mine/egoexo")) is None
    assert key_life(job(tmp_path, "s3://mine/egoexo", issued="2026-11-20", days=1)) is not None
    assert key_life(job(tmp_path, str(tmp_path), issued="2026-11-20")) is None


def test_keys_of_the_release_are_known_by_the_day_they_were_first_seen(
    aws: Path, tmp_path: Path
) -> None:
    assert key_life(job(tmp_path)) is None  # no keys at all
    profile(aws, "AKIAFIRSTKEY")
    first = key_life(job(tmp_path))
    assert first is not None
    assert timedelta(days=13.9) < first.left() <= timedelta(days=14)
    (note,) = (tmp_path / "out" / "keys").iterdir()
    assert "AKIAFIRSTKEY" not in note.name + note.read_text()
    note.write_text(json.dumps({"first_seen": "2026-11-20T10:00:00+00:00"}))
    again = key_life(job(tmp_path))
    assert again is not None
    assert again.ends == datetime(2026, 12, 4, 10, tzinfo=UTC)
    # Other keys begin anew, and a setting counts more than what was seen.
    profile(aws, "AKIASECONDKEY")
    renewed = key_life(job(tmp_path))
    assert renewed is not None
    assert renewed.left() > timedelta(days=13.9)
    said = key_life(job(tmp_path, issued="2026-11-25"))
    assert said is not None
    assert said.ends == datetime(2026, 12, 9, tzinfo=UTC)


def test_an_end_that_the_keys_carry_counts_most(
    aws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile(aws, "KEY", aws_session_token="t", x_security_token_expires="2026-11-26T20:00:00Z")
    life = key_life(job(tmp_path, issued="2026-11-25"))
    assert life == KeyLife(
        "egoexo", datetime(2026, 11, 26, 20, tzinfo=UTC), "they say so themselves"
    )
    profile(aws, "KEY", aws_session_token="t", aws_expiration="soon")
    other = key_life(job(tmp_path, issued="2026-11-25"))
    assert other is not None
    assert other.known_by.startswith("issued")


@pytest.mark.e2e
def test_a_job_that_waits_goes_on_with_the_profile_that_was_renewed(
    aws: Path, tmp_path: Path
) -> None:
    with ObjectStore(tmp_path / "s3") as server:
        profile(aws, server.access_key, server.secret_key)
        bucket = server.make_bucket("keys")
        places = {
            "dataset": f"{bucket}/data",
            "output": f"{bucket}/out",
            "s3": {"profile": "egoexo", "endpoint_url": server.endpoint_url},
        }
        recipe = make_recipe(load_job(None, places))
        (tmp_path / "takes.json").write_text("[]")
        import s3fs

        s3fs.S3FileSystem(**server.storage_options()).put(
            str(tmp_path / "takes.json"), f"{bucket}/data/takes.json"
        )
        profile(aws, "AKIAGONE", "gone")
        looks: list[float] = []

        def renewed_after_two(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) == 2:
                profile(aws, server.access_key, server.secret_key)

        assert wait_for_keys(recipe, renewed_after_two)
        assert looks == [expiry.LOOK_SECONDS] * 2
        profile(aws, "AKIAGONE", "gone")
        past = {"run": {"budget": {"deadline": "2026-01-01"}}}
        late = make_recipe(load_job(None, {**places, **past}))
        assert not wait_for_keys(late, lambda seconds: pytest.fail("it waited"))


def test_only_keys_that_are_refused_are_waited_for() -> None:
    def ended(kind: ErrorKind) -> Report:
        return Report(Progress(1), failures=[Failure("t", None, "why", kind)])

    assert ran_out(ended(ErrorKind.CREDENTIALS))
    assert not ran_out(ended(ErrorKind.DENIED))
    assert not ran_out(Report(Progress(1)))


def test_a_job_on_a_cluster_shows_how_long_its_keys_live(
    aws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[float] = []
    monkeypatch.setattr(expiry.RayMetrics, "keys", lambda self, left: shown.append(left))
    monkeypatch.setattr(expiry, "SHOW_SECONDS", 0.01)
    issued = datetime.now(UTC).date() - timedelta(days=1)
    profile(aws, "AKIA1")
    issued_then = job(tmp_path, "s3://bucket/root", issued=str(issued), days=14)

    async def some() -> None:
        showing = asyncio.create_task(expiry.show_keys(issued_then))
        while len(shown) < 2:
            assert not showing.done()
            await asyncio.sleep(0.01)
        showing.cancel()

    asyncio.run(asyncio.wait_for(some(), 30))
    assert all(11 * 86400 < left <= 13 * 86400 for left in shown)
