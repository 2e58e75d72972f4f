"""Made-up features of known accuracy, features that only know people, and stores that leak."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.cli.evaluate import compared
from service.cli.main import run
from service.evaluate.errors import EvaluationRefused
from service.evaluate.evaluation import LINEAR, NEIGHBOURS, Evaluation, Settings, evaluate_stores
from service.evaluate.paired import differences
from service.evaluate.results import kept
from service.transfer.stored import choose_stores
from takestream.storage import S3Options
from tests.service.evaluate.conftest import CLASSES, DIM, Made
from tests.support.feature_stores import facts_of, feature_store

S3 = S3Options()


def judged(folder: str, **settings: Any) -> Evaluation:
    return evaluate_stores(choose_stores(folder, None, None, S3), Settings(**settings), S3)


def top1(found: Evaluation, view: str, probe: str) -> float:
    (row,) = [row for row in found.rows if (row.view, row.probe) == (view, probe)]
    return row.top1.value


def bayes(gap: float, draws: int = 400_000) -> float:
    """How often the class with the largest of its numbers is the true one: nobody does better."""
    random = np.random.default_rng(7)
    values = random.normal(size=(draws, len(CLASSES)))
    values[:, 0] += gap
    return float((values.argmax(axis=1) == 0).mean())


def test_a_known_accuracy_is_found(made: Made) -> None:
    found = judged(made(2.0, people=48))
    (row,) = [r for r in found.rows if (r.view, r.probe) == ("ego", LINEAR)]
    assert row.top1.low <= bayes(2.0) <= row.top1.high + 0.03
    assert row.macro_f1 is not None
    assert abs(row.macro_f1.value - row.top1.value) < 0.05
    assert (row.samples, row.takes, row.top5) == (144, 144, None)
    # Two cameras see more than one; neighbours use every number, the probe those that help.
    assert top1(found, "ego + exo", LINEAR) > row.top1.value
    assert row.shuffled is not None
    for floor in (row.majority, row.shuffled):
        assert floor.value < 0.4
    assert (found.leaks, found.folds, found.groups) == ((), 5, 48)
    assert {r.view for r in found.rows} == {"ego", "exo mean", "ego + exo"}


def test_features_that_know_people_alone_are_at_chance_with_folds_that_keep_people_apart(
    made: Made,
) -> None:
    folder = made(0.0, person=4.0, one_task=True, people=24)
    apart = judged(folder)
    for probe in (NEIGHBOURS, LINEAR):
        assert top1(apart, "ego", probe) < 0.5
    assert apart.leaks == ()
    assert any("has one label only" in note for note in apart.notes)
    # The same with people on both sides: high, and said to be worth nothing.
    mixed = judged(folder, group_by="take_uid")
    assert top1(mixed, "ego", NEIGHBOURS) > 0.95
    (leak,) = mixed.leaks
    assert leak.startswith("shuffled labels are guessed in")


def test_the_same_footage_under_two_names_is_a_leak(made: Made, tmp_path: Path) -> None:
    folder = made(1.0)
    for uid, who in (("x", "p90"), ("y", "p91")):
        take = facts_of(uid, parent_task_name="A", participant_uid=who)
        feature_store(str(tmp_path), take, np.ones((4, 2, DIM)))
    (leak,) = judged(folder).leaks
    assert "2 samples of ego have the very features of a sample of another participant_uid" in leak


def test_official_splits(made: Made) -> None:
    found = judged(made(2.0), folds="official")
    assert (found.folds, found.rows[0].samples) == (1, 18)
    with pytest.raises(EvaluationRefused, match="and 0 of test, of 48"):
        judged(made(2.0, encoder_id="other-0123456789"), folds="official", test=("test",))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"parent_task_name": None}, "none of 10 complete stores says its parent_task_name"),
        ({"participant_uid": None}, "none of 10 labelled takes says its participant_uid"),
        ({"parent_task_name": "A"}, "1 of 1 classes are of two or more .* 10 samples of 2"),
    ],
)
def test_too_little_is_refused_with_the_counts(
    made: Made, facts: dict[str, Any], words: str
) -> None:
    with pytest.raises(EvaluationRefused, match=words):
        judged(made(people=2, takes=5, **facts))


def test_a_class_of_one_person_alone_is_left_out_by_name(made: Made, tmp_path: Path) -> None:
    folder = made(2.0)
    for uid in ("x", "y"):
        take = facts_of(uid, parent_task_name="Rare", participant_uid="p90")
        feature_store(str(tmp_path), take, np.random.default_rng(3).normal(size=(4, 2, DIM)))
    feature_store(str(tmp_path), facts_of("z", parent_task_name="A"), np.ones((4, 2, DIM)))
    found = judged(folder)
    (refused,) = found.refused
    assert (refused.label, refused.samples, refused.groups) == ("Rare", 2, 1)
    assert "Rare" not in found.classes
    assert found.left_out["takes that do not say their participant_uid"] == 1
    assert found.left_out["samples of classes that are left out"] == 2


@pytest.mark.slow
def test_which_of_two_is_better(made: Made) -> None:
    weak, strong, twin = (
        judged(made(gap, encoder_id=f"{name}-0123456789", seed=seed, people=24))
        for name, gap, seed in (("weak", 1.0, 1), ("strong", 2.5, 2), ("twin", 2.5, 3))
    )
    better = {(d.view, d.probe): d for d in differences(weak, strong)}
    assert better["ego", LINEAR].words.startswith("B is better by ")
    assert better["ego", LINEAR].gain.low > 0.1
    back = {(d.view, d.probe): d for d in differences(strong, weak)}
    assert back["ego", LINEAR].words.startswith("A is better by ")
    same = {(d.view, d.probe): d for d in differences(strong, twin)}
    assert same["ego + exo", LINEAR].words.startswith("no difference can be seen")


def test_segments_of_a_file_some_with_two_labels(made: Made, tmp_path: Path) -> None:
    folder = made(3.0, clips=8)
    lines = ["take,start,end,label,name"]
    for number in range(48):
        who, which = divmod(number, 3)
        task = CLASSES[(who + which) % 4]
        lines.append(f"t{number:03},0,4,{task},Name of {task}")
        lines.append(f"t{number:03},4,8,{task},")
        if task in "AB":
            lines.append(f"t{number:03},4,8,first,")
    labels = tmp_path / "steps.csv"
    labels.write_text("\n".join(lines))
    found = judged(folder, labels=str(labels))
    row = found.rows[0]
    assert (row.samples, row.takes) == (96, 48)
    assert set(found.classes) == {*CLASSES, "first"}
    assert found.words["A"] == "Name of A"
    assert row.macro_f1 is None
    assert row.mean_ap is not None
    assert row.mean_ap.value > 0.8


def test_a_view_without_valid_clips_loses_its_own_samples_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(40):
        take = facts_of(
            f"t{number}", parent_task_name="AB"[number % 2], participant_uid=f"p{number // 4}"
        )
        valid = np.ones((4, 2), bool)
        valid[:, 1] = number >= 8
        features = random.normal(size=(4, 2, DIM)) + 3 * (number % 2)
        feature_store(str(tmp_path), take, features, valid=valid)
    found = judged(str(tmp_path))
    counts = {row.view: row.samples for row in found.rows}
    assert counts == {"ego": 40, "exo mean": 32, "ego + exo": 32}


def test_the_command(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(1.0, encoder_id="weak-0123456789", seed=1)
    made(3.0, encoder_id="strong-0123456789", seed=2)
    picture, page = tmp_path / "what.png", tmp_path / "what.html"
    asked = [
        "evaluate", "weak-0123456789", "strong-0123456789", "--output", str(tmp_path),
        "--picture", str(picture), "--html", str(page),
    ]  # fmt: skip
    assert run([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["encoder_id"] for one in found["evaluations"]] == asked[1:3]
    assert {one["probe"] for one in found["differences"]} == {NEIGHBOURS, LINEAR}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "B is better by" in page.read_text()
    assert run(asked) == 0
    said = capsys.readouterr().out
    assert "strong-0123456789 on parent_task: 4 classes, 16 different participant_uid" in said
    assert "95 %" in said
    # It is kept beside the stores, for reports.
    (stored,) = kept(f"{tmp_path}/weak-0123456789", S3)
    assert stored["rows"]
    assert run(["evaluate", "weak-0123456789"]) == 2
    assert "say where its features are by --output" in capsys.readouterr().err
    # By their presets.
    presets = ["evaluate", "weak", "strong", "--output", str(tmp_path), "--json"]
    assert run(presets) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == found["differences"]
    assert run(["evaluate", f"{tmp_path}/weak-0123456789", "--labels", "participant"]) == 2
    assert "0 of 16 classes are of two or more participant_uids" in capsys.readouterr().err


def test_shuffled_labels_of_people_who_all_do_the_same_in_turn_are_at_chance(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(0)
    for number in range(60):
        who, task = divmod(number, 5)
        take = facts_of(f"t{number:02}", task_name=f"step {task}", participant_uid=f"p{who}")
        features = random.normal(size=(1, 1, DIM))
        features[..., task] += 6
        feature_store(str(tmp_path), take, features, ["aria01_rgb"])
    found = judged(str(tmp_path), labels="task")
    for row in found.rows:
        assert row.top1.value > 0.9
        assert row.shuffled is not None
        assert row.shuffled.value < 0.45
    assert found.leaks == ()


def test_classes_of_few_samples_make_fewer_folds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(12):
        take = facts_of(f"t{number}", task_name=f"{number % 4}", participant_uid=f"p{number // 2}")
        feature_store(str(tmp_path), take, random.normal(size=(1, 1, DIM)), ["aria01_rgb"])
    found = judged(str(tmp_path), labels="task")
    assert (found.folds, found.rows[0].samples) == (3, 12)


def test_two_versions_are_compared_in_lines(made: Made, tmp_path: Path) -> None:
    a = made(0.5, encoder_id="old-0123456789", seed=1)
    # Stores of before facts were kept: the others say who is in the takes.
    bare = {"parent_task_name": None, "participant_uid": None}
    b = made(4.0, encoder_id="new-0123456789", seed=2, **bare)
    head, *lines = compared(a, S3, b, S3, "parent_task")
    assert head == "On parent_task, A = old-0123456789 against B = new-0123456789:"
    assert len(lines) == 6
    assert all("B is better by" in line for line in lines)
    (why,) = compared(a, S3, b, S3, "task")
    assert why.startswith("Not judged on task: labels task: none of 48 complete stores")
    (same,) = compared(a, S3, a, S3, "parent_task")
    assert "A and B are both old-0123456789" in same


def test_blank_facts_are_absent_and_falsy_ones_are_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(40):
        who = "p0" + " " * (number % 2) if number < 8 else "" if number < 12 else f"p{number // 4}"
        take = facts_of(
            f"t{number:02}", participant_uid=who, task_id=number // 8,
            parent_task_name=" " if number == 39 else "AB"[number % 2],
        )  # fmt: skip
        feature_store(str(tmp_path), take, random.normal(size=(1, 1, DIM)), ["aria01_rgb"])
    found = judged(str(tmp_path))
    assert found.classes == ("A", "B")
    assert found.left_out["takes without a label"] == 1
    # Four say a blank, and with blanks around it p0 is one person.
    assert found.left_out["takes that do not say their participant_uid"] == 4
    assert found.groups == 8
    # The task with number 0 is one task, not one for each of its takes.
    assert judged(str(tmp_path), group_by="task_id").groups == 5


def test_takes_that_do_not_say_when_their_task_is_done_are_told(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(40):
        # Of one take the end comes before the start, and three say nothing.
        ends = 0.5 if number == 0 else None if number < 4 else 3.0
        take = facts_of(
            f"t{number:02}", participant_uid=f"p{number // 4}", parent_task_name="AB"[number % 2],
            task_start_sec=1.0, task_end_sec=ends,
        )  # fmt: skip
        feature_store(str(tmp_path), take, random.normal(size=(4, 2, DIM)))
    assert judged(str(tmp_path)).notes == ()
    (note,) = judged(str(tmp_path), task_only=True).notes
    assert note.startswith("4 of 40 takes do not say from when to when their task is done")


def test_what_is_learnt_is_not_judged_on_itself(made: Made) -> None:
    with pytest.raises(EvaluationRefused, match="--test train: it is what is learnt"):
        judged(made(2.0), folds="official", test=("val", "train"))


def test_a_view_of_a_few_samples_is_left_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(40):
        task = "AB"[number % 2]
        take = facts_of(f"t{number}", parent_task_name=task, participant_uid=f"p{number // 4}")
        valid = np.ones((4, 2), bool)
        valid[:, 0] = number < 9
        feature_store(str(tmp_path), take, random.normal(size=(4, 2, DIM)), valid=valid)
    found = judged(str(tmp_path))
    assert {row.view for row in found.rows} == {"exo mean"}
    assert found.left_out["view ego: too few samples with a valid clip"] == 9


def test_labels_of_a_file_alike_though_written_differently(made: Made, tmp_path: Path) -> None:
    folder = made(3.0)
    steps = tmp_path / "steps.json"
    written = (0, 0.0, "0", " 0 ")
    segments = [
        {"take_uid": f"t{n:03}", "start_time": 0, "end_time": 2,
         "step_id": written[n % 4] if (n // 3 + n % 3) % 2 else "one", "step_name": " Cut "}
        for n in range(48)
    ]  # fmt: skip
    elsewhere = [{**segments[0], "take_uid": uid} for uid in ("u1", "u1", "u2")]
    steps.write_text(json.dumps([*segments, *elsewhere]))
    found = judged(folder, labels=str(steps))
    assert found.left_out == {"labelled takes without a complete store": 2}
    assert found.classes == ("0", "one")
    assert found.words["0"] == "Cut"
    bare = tmp_path / "bare.csv"
    bare.write_text("take,start,end\n" + "\n".join(f"t{n:03},0,2" for n in range(48)))
    with pytest.raises(EvaluationRefused, match="its segments have no labels: a CSV needs a"):
        judged(folder, labels=str(bare))
