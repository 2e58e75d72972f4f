"""What people and pipes see: tables that fit, a line a row, CSV; help that says defaults."""

import csv
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import takestream
from service.cli.help import EXAMPLES, options
from service.cli.jobs import _rows
from service.cli.main import build_parser, run
from service.jobs.records import Records
from service.report import table
from service.report.table import print_rows
from tests.service.cli.test_jobs import ID, make_record

HEADINGS = ("take", "uid", "streams", "missing")
ROWS = [
    ("cmu_bike01_2", "8bec7be4-bc8f-5a1e-b8eb-fd7d3a8eebfe", "aria01_rgb cam01_0 cam02_0", ""),
    ("a_long_name_that_is_never_cut", "uid", " ".join(f"cam{n:02d}_0" for n in range(12)), "x, y"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    print_rows(HEADINGS, ROWS, spare=("uid", "streams"), file=file)
    lines = [line.rstrip() for line in re.sub(r"\x1b\[\d*m", "", file.getvalue()).splitlines()]
    assert max(map(len, lines)) <= width
    assert any(line.startswith("a_long_name_that_is_never_cut") for line in lines)
    said = [line for line in lines if line.startswith("without ")]
    assert said == {
        40: ["without uid, streams: --format csv has"],
        80: ["without uid, streams: --format csv has all"],
        200: [],
    }[width]  # fmt: skip


def test_a_pipe_gets_every_column_and_a_line_a_row() -> None:
    file = io.StringIO()
    print_rows(HEADINGS, ROWS, spare=("uid", "streams"), file=file)
    lines = file.getvalue().splitlines()
    assert len(lines) == 1 + len(ROWS)
    assert lines[0].split() == list(HEADINGS)
    assert ROWS[0][1] in lines[1]


def test_csv_is_csv() -> None:
    file = Terminal()
    print_rows(HEADINGS, ROWS, form="csv", file=file)
    assert list(csv.reader(io.StringIO(file.getvalue()))) == [list(HEADINGS), *map(list, ROWS)]


def test_long_lists_are_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MOST_FITTED", 1)
    file = Terminal()
    print_rows(HEADINGS, ROWS, file=file)
    assert len(file.getvalue().splitlines()) == 3


def test_every_help_has_an_example_and_its_defaults() -> None:
    (commands,) = [a for a in build_parser()._actions if hasattr(a, "choices") and a.choices]
    # By parser, because a command may have a second name.
    first = {parser: name for name, parser in reversed(commands.choices.items())}
    named = {name: parser for parser, name in first.items() if name != "perform"}
    assert set(named) == set(EXAMPLES)
    for name, parser in named.items():
        assert EXAMPLES[name] in parser.format_help(), name
        assert max(map(len, parser.format_help().splitlines())) <= 80, name
        assert "(default: )" not in parser.format_help(), name
        for action in options(parser):
            assert action.help, f"{name} {action.dest}"
    text = " ".join(named["extract"].format_help().split())
    for words in (
        "(default: efficientnet_lite)", "(default: float16)", "(default: auto)",
        "(default: full)", "(default: the preset's)", "a Ray cluster (default: Ray starts here)",
        "(default: 4096)",
    ):  # fmt: skip
        assert words in text, words
    assert "Undefined" not in text
    assert "(default: 20)" in named["jobs"].format_help()


def test_a_default_of_a_job_is_none_of_other_commands() -> None:
    (commands,) = [a for a in build_parser()._actions if hasattr(a, "choices") and a.choices]
    texts = {name: " ".join(p.format_help().split()) for name, p in commands.choices.items()}
    for name in ("catalogue", "evaluate", "export", "facts", "ls", "segments"):
        assert "--encoder NAME" in texts[name]
        assert "(default: efficientnet_lite)" not in texts[name], name
    for name in ("jobs", "logs", "stop", "submit"):
        assert "--address" in texts[name]
        assert "Ray starts here" not in texts[name], name
    assert "(default: all)" in texts["ls"]


def test_sentences_go_below_a_table_that_is_too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for width, whole in ((60, False), (200, True)):
        monkeypatch.setenv("COLUMNS", str(width))
        file = Terminal()
        rows = [("a-1", "9", "what it is, in words " * 3), ("b-2", "7", "another")]
        print_rows(("id", "clips", "words"), rows, spare=("clips",), below="words", file=file)
        lines = [line.rstrip() for line in re.sub(r"\x1b\[\d*m", "", file.getvalue()).splitlines()]
        assert (lines[0] == "id   clips") != whole
        assert any(line.startswith("a-1: what it is") for line in lines) != whole
        assert max(map(len, lines)) <= width
        assert "without" not in file.getvalue()


@pytest.mark.parametrize(
    "flags",
    [("plan", "--clips-per-second", "0"), ("plan", "--clips-per-second", "nan"),
     ("plan", "--price-per-hour", "-1"), ("prune", "x", "--min-age", "-1")],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(
    flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(flags)
    assert stop.value.code == 2
    assert f"argument {flags[-2]}: '{flags[-1]}' is no number" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_example_parses(name: str) -> None:
    if name == "completion":
        return
    words = shlex.split(EXAMPLES[name].replace("\\\n", ""))
    assert words[0] == "takestream"
    assert build_parser().parse_args(words[1:]).command == name


def test_encoders_say_which_is_the_default_and_which_work_offline(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["encoders", "--format", "csv"]) == 0
    rows = {row["encoder"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert [name for name, row in rows.items() if row["default"]] == ["efficientnet_lite"]
    assert rows["efficientnet_lite"]["here"] == "yes"
    assert rows["videomae-base"]["here"] == "no"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_can_complete(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "extract" in script
    assert "resolution" in script
    if shell == "bash":
        asked = f"{script}\nCOMP_WORDS=(takestream ext) COMP_CWORD=1\n_shtab_takestream\n"
        done = subprocess.run(
            ["bash", "-c", asked + 'echo "${COMPREPLY[@]}"'],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.split() == ["extract"]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["--version"])
    assert capsys.readouterr().out == f"takestream {takestream.__version__}\n"
    assert takestream.__version__[0].isdigit() or takestream.__version__ == "checkout"


def test_jobs_are_listed_by_short_ids_and_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["jobs", "--output", str(tmp_path), "--watch"]) == 0
    assert capsys.readouterr().err == "no jobs\n"
    records = Records(str(tmp_path))
    progress = {"clips": 9, "clips_reached": 4, "clips_asked": 12, "takes": 2, "takes_done": 1}
    records.save(make_record(status="failed").model_copy(update={"progress": progress}))
    assert run(["jobs", "--output", str(tmp_path), "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["job"] == ID
    (short,) = _rows([make_record(status="failed").facts()], short=True)
    assert short[0] == ID.split("-")[-1]
    assert (row["takes"], row["clips"]) == ("1/2", "4/12")
    # What has ended is not waited for.
    assert run(["jobs", "--output", str(tmp_path), "--watch"]) == 0
    assert run(["jobs", short[0], "--output", str(tmp_path), "--watch"]) == 1


def test_a_job_is_watched_to_its_end(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    progress = {
        "clips": 9, "clips_reached": 4, "clips_asked": 12, "takes": 2, "takes_done": 1,
        "clips_per_s": 2.51, "seconds": 7.8, "seconds_left": 3.2,
    }  # fmt: skip
    records.save(make_record(status="running").model_copy(update={"progress": progress}))
    process = subprocess.Popen(
        [sys.executable, "-m", "takestream", "jobs", "--output", str(tmp_path), "--watch"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    far = "takes=1/2 clips=4/12 clips_per_s=2.5 elapsed_s=8 eta_s=3"
    assert process.stdout.readline() == f"{ID} running {far}\n"
    records.save(make_record(status="succeeded"))
    assert process.communicate(timeout=30)[0] == f"{ID} succeeded\n"
    assert process.returncode == 0
