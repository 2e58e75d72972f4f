"""`takestream sync`, from films with sound to its tables, with the offsets the right way round."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from service.cli.main import run
from tests.support.rooms import RATE, activity, bustle, heard, write_film

SECONDS = 12


def film(path: Path, scene, offset: float, seed: int, rate: int = RATE) -> None:
    """What a camera records that shows every moment `offset` seconds later than the others."""
    sound = heard(scene, offset=offset, seed=seed, seconds=SECONDS, rate=rate, noise=-20)
    write_film(path, activity(SECONDS * 30, offset=offset, seed=seed), sound, rate=rate)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two takes: of the first one camera began 300 ms late, and one has no sound."""
    root = tmp_path_factory.mktemp("data set")
    scene = bustle(SECONDS + 3, 1)
    film(root / "ego.mp4", scene, 0.0, 1)
    # Its recording begins 300 ms late: what the others show at 10.0 s it shows at 9.7 s.
    film(root / "late.mp4", scene, -0.3, 2, 44_100)
    film(root / "sister.mp4", scene, 0.004, 3)
    write_film(root / "mute.mp4", activity(SECONDS * 30, offset=0.2, seed=4))
    film(root / "foreign.mp4", bustle(SECONDS + 3, 2), 0.0, 5)
    (root / "broken.mp4").write_bytes(b"no video")
    (root / "takes.csv").write_text(
        "take,camera,uri,ego\n"
        "one,ego,ego.mp4,true\none,late,late.mp4,\none,sister,sister.mp4,\none,mute,mute.mp4,\n"
        "two,a,ego.mp4,\ntwo,b,broken.mp4,\n"
    )
    return root / "takes.csv"


def test_a_table_for_people(dataset, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "takestream", "sync", dataset, "--output", tmp_path / "out"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    late = next(line for line in lines if "late_0" in line)
    assert late.split()[1].startswith("-300.")
    assert "9 frames early" in late
    assert any("mute_0" in line and "by sight alone" in line for line in lines)
    assert any("b_0" in line and "it cannot be read" in line for line in lines)
    assert "2 takes, 6 streams: 2 in step, 2 off by a frame or more, 2 cannot be told" in lines
    with (tmp_path / "out" / "sync.csv").open(encoding="utf-8") as text:
        rows = {(row["take_name"], row["stream"]): row for row in csv.DictReader(text)}
    assert float(rows["one", "late_0"]["offset_ms"]) == pytest.approx(-300, abs=2)
    table = pq.read_table(tmp_path / "out" / "sync.parquet").to_pylist()
    assert json.loads((tmp_path / "out" / "sync.json").read_text()) == table
    assert [row["stream"] for row in table] == [key[1] for key in rows]


def test_facts_for_a_script(dataset, capsys):
    assert run(["sync", str(dataset), "--take", "one", "--json", "--processes", "1"]) == 0
    (take,) = json.loads(capsys.readouterr().out)
    streams = take["streams"]
    assert take["reference"] == "ego_0"
    assert {name: one["frames"] for name, one in streams.items()} == {
        "ego_0": 0, "late_0": -9, "sister_0": 0, "mute_0": 6,
    }  # fmt: skip
    assert streams["late_0"]["offset_ms"] == pytest.approx(-300, abs=2)
    assert streams["late_0"]["sight"]["offset_ms"] == pytest.approx(-300, abs=16)
    assert streams["late_0"]["confidence"] == "high"
    assert streams["late_0"]["witness"] == "sound and sight"
    assert streams["sister_0"]["offset_ms"] == pytest.approx(4, abs=2)
    assert streams["mute_0"]["offset_ms"] == pytest.approx(200, abs=16)
    assert (streams["mute_0"]["witness"], streams["mute_0"]["confidence"]) == ("sight", "good")
    assert streams["mute_0"]["sound"]["why"] == "no sound track"


def test_one_witness_alone(dataset, capsys):
    for method, witness in (("sound", "sound"), ("sight", "sight"), ("clock", "none")):
        arguments = ["--take", "one", "--streams", "ego*", "late*", "--method", method]
        assert run(["sync", str(dataset), *arguments, "--json"]) == 0
        (take,) = json.loads(capsys.readouterr().out)
        assert take["streams"]["late_0"]["witness"] == witness
        assert take["streams"]["late_0"]["clock"]["frames"] == SECONDS * 30


def test_sound_that_contradicts_sight_is_not_believed(dataset, capsys):
    # The pictures of one moment with the sound of another: neither outvotes the other.
    root = dataset.parent
    scene = bustle(SECONDS + 3, 1)
    sound = heard(scene, offset=0.4, seed=6, seconds=SECONDS)
    write_film(root / "dubbed.mp4", activity(SECONDS * 30, offset=0.0, seed=6), sound)
    (root / "dubbed.csv").write_text(
        "take,camera,uri\none,ego,ego.mp4\none,dubbed,dubbed.mp4\nother,ego,ego.mp4\n"
        "other,foreign,foreign.mp4\n"
    )
    assert run(["sync", str(root / "dubbed.csv"), "--json", "--processes", "1"]) == 0
    one, other = json.loads(capsys.readouterr().out)
    assert one["streams"]["dubbed_0"]["confidence"] == "low"
    assert "sound says +400" in one["streams"]["dubbed_0"]["verdict"]
    assert other["streams"]["foreign_0"]["sound"]["offset_ms"] is None


def test_what_cannot_be_asked(dataset, capsys):
    assert run(["sync", str(dataset), "--take", "three"]) == 2
    assert "no take name 'three'" in capsys.readouterr().err
    assert run(["sync", str(dataset.parent / "absent.csv")]) == 2
