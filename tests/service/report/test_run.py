"""The report of a run: a page without a network, and the same from the command line."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from service.cli.main import run
from service.report.run import find_report, html_of
from service.report.summary import report_facts, write_report
from takestream.errors import StorageError
from takestream.storage import S3Options
from tests.service.report.test_summary import make_recipe, make_report
from tests.workers.run.test_history import unit
from workers.run.tasks import Failure

EVIL = "<script>alert(1)</script>"


class Links(HTMLParser):
    """What a page asks for from elsewhere, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asked += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]


def facts(**changes: Any) -> dict[str, Any]:
    report = make_report(
        failures=[Failure(EVIL, "cam01_0", "no such object", uri="s3://b/k")],
        problems={"b": {"cam02_0": ("3 frames are damaged",)}},
        left_out=["host9: it cannot write the output"],
    )
    for number in range(30):
        outcome = "failed" if number == 7 else "done"
        report.history.add(unit(number % 3, 100.0 + number, 1.0, outcome))
    return {**report_facts(make_recipe(), report), **changes}


def test_the_page_has_everything_and_asks_for_nothing() -> None:
    page = html_of(facts())
    links = Links()
    links.feed(page)
    assert links.asked == []
    assert "script" not in links.tags
    assert EVIL not in page
    for words in (
        "no such object", "3 frames are damaged", "machine left out", "host9", "decoding",
        "host cpu 2", "2 of 2 takes", "60",
    ):  # fmt: skip
        assert words in page, words
    assert page.count('class="lost"') == 1
    assert page.count('class="work"') == 29
    assert len(page) < 100_000


def test_a_report_of_before_has_no_timeline() -> None:
    old = facts()
    del old["history"]
    assert "No unit was computed" in html_of(old)


_SHARE = {"value": 0.8312, "low": 0.7, "high": 0.9}
_ROW = {
    "view": "ego", "probe": "linear probe", "samples": 40, "takes": 40, "top1": _SHARE,
    "top5": None, "macro_f1": _SHARE, "mean_ap": None, "majority": _SHARE, "shuffled": None,
}  # fmt: skip
EVALUATION = {
    "encoder_id": "tiny-0123456789", "rows": [_ROW], "leaks": ["a <leak>"], "classes": ["A"],
    "groups": 4, "folds": 4, "left_out": {"takes without a label": 3}, "refused": [],
    "notes": [], "settings": {"labels": "task", "group_by": "take_uid", "folds": "grouped"},
}  # fmt: skip


def test_evaluations_beside_the_stores_are_a_section() -> None:
    page = html_of(facts(), [EVALUATION])
    for words in ("on task", "83.1 [70.0, 90.0]", "Leak: a &lt;leak&gt;", "3 takes without"):
        assert words in page, words


def test_the_newest_report_of_an_output_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe(tmp_path)
    assert run(["report", str(tmp_path)]) == 2
    assert "there is no report of a run" in capsys.readouterr().err
    write_report(recipe, make_report(seconds=1.0))
    where = write_report(recipe, make_report(seconds=77.0))
    assert where is not None
    assert Path(where).with_suffix(".html").read_text().startswith("<!doctype html>")
    uri, found = find_report(str(tmp_path), S3Options())
    assert (uri, found["seconds"]) == (where, 77.0)
    assert run(["report", str(tmp_path)]) == 0
    assert "2 of 2 takes complete, 60 clips written, 0 failures, 77.0 s" in capsys.readouterr().out
    assert run(["report", where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    page = tmp_path / "page.html"
    assert run(["report", str(tmp_path / recipe.target.encoder_id), "--html", str(page)]) == 0
    assert page.read_text() == html_of(found)
    # What was judged beside the stores is on the page.
    kept = Path(where).parents[1] / "evaluations" / "0.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps(EVALUATION))
    assert run(["report", str(tmp_path), "--html", str(page)]) == 0
    assert "83.1 [70.0, 90.0]" in page.read_text()


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"report_version": '])
def test_what_is_no_report_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(StorageError, match="is no report of a run"):
        find_report(str(tmp_path / "x.json"), S3Options())
