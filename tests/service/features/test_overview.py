"""What an output holds, from its catalogue's rows and from real stores."""

from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from configs.load import parse
from configs.schema import ServeSpec
from service.api.app import create_app
from service.api.context import ApiContext
from service.features.overview import MOST_KINDS, encoder_overview, overview
from takestream.catalogue import COLUMNS
from takestream.storage import S3Options
from tests.support.feature_stores import ENCODER_ID, facts_of, feature_store


def row(uid: str, **more: Any) -> dict[str, Any]:
    plain = {"take_uid": uid, "status": "complete", "valid_clips": 9, "invalid_clips": 1}
    return {**dict.fromkeys(COLUMNS), **plain, "sync": [], "problems": [], **more}


def test_takes_are_counted_by_how_their_stores_are() -> None:
    rows = [
        row("a", fps=30.0, sync=["high", None, "low"]),
        row("b", status="partial", valid_clips=None, invalid_clips=None, sync=["high"]),
        row("c", status="damaged", valid_clips=None, invalid_clips=None),
        row("not listed", invalid_clips=5),
    ]
    found = encoder_overview("net-0123456789", frozenset("abcde"), rows)
    assert (found.complete, found.partial, found.damaged, found.none) == (1, 1, 1, 2)
    assert found.elsewhere == 1
    assert (found.clips, found.valid, found.fps) == (10, 9, 30.0)
    assert found.sync == {"high": 2, "low": 1}


def test_problems_that_differ_in_numbers_are_of_one_kind() -> None:
    rows = [
        row("a", problems=["3 of 93 clips are invalid; ends 12 frames early", None]),
        row("b", problems=["5 of 60 clips are invalid", "7 of 60 clips are invalid"]),
    ]
    found = encoder_overview("net-0123456789", frozenset("ab"), rows)
    first, second = found.problems
    assert (first.words, first.streams, first.takes) == ("3 of 93 clips are invalid", 3, 2)
    assert first.examples == ("a", "b")
    assert (second.words, second.streams, second.takes) == ("ends 12 frames early", 1, 1)
    words = "; ".join("x" * (n + 1) for n in range(MOST_KINDS + 4))
    many = encoder_overview("net-0123456789", frozenset("a"), [row("a", problems=[words])])
    assert (len(many.problems), many.more_problems) == (MOST_KINDS, 4)


def test_an_output_is_looked_over(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "takes.json").write_text(
        '[{"take_uid": "t0", "take_name": "t0"}, {"take_uid": "t1", "take_name": "t1"}]'
    )
    output = tmp_path / "out"
    job = {"dataset": str(tmp_path / "data"), "output": str(output)}
    context = ApiContext(parse(ServeSpec, {"job": job}, "test"), None, b"secret", None)
    assert overview(str(output), ["t0"], S3Options()) == []
    feature_store(str(output), facts_of("t0"), np.zeros((4, 2, 8)), ["aria01_rgb", "cam01_0"])
    answer = TestClient(create_app(context), "http://localhost").get("/v1/overview").json()
    assert answer["takes"] == 2
    (one,) = answer["encoders"]
    assert (one["encoder_id"], one["complete"], one["none"]) == (ENCODER_ID, 1, 1)
    assert (one["clips"], one["valid"]) == (8, 8)
