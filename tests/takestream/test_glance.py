"""A dataset at a glance."""

import xml.etree.ElementTree as ET
from pathlib import Path

import takestream
from tests.takestream.training.test_windows import write


def test_cameras_validity_and_provenance_at_a_glance(tmp_path: Path) -> None:
    dataset = takestream.open(write(str(tmp_path), "uid-a").uri)
    dataset.attrs |= {
        "encoder": {"encoder_id": "tiny-0123456789", "weights": "w", "sha256": "ab" * 32},
        "grid": {"fps": 30.0, "window": 32, "stride": 16},
        "provenance": {
            "versions": {"takestream": "9.1"},
            "git_commit": "c" * 40,
            "streams": {"cam01_0": {"uri": "s3://b/<cam>.mp4", "is_ego": True}},
        },
    }
    said = repr(takestream.overview(dataset))
    assert said.splitlines() == [
        "name of uid-a, tiny-0123456789, complete",
        "  take: uid-a",
        "  clips: 37 of 32 frames, one every 16, at 30 fps",
        "  features: 16 numbers, float16",
        "  weights: w, SHA-256 abababababab…",
        "  made by: takestream 9.1, commit cccccccccc",
        "  licences: videos: not said; encoder: not said",
        "  aria01_rgb  ego  37 of 37 clips valid",
        "  cam01_0     ego  35 of 37 clips valid",
        "              2 of 37 clips are invalid: 2 with a missing frame",
    ]


def test_in_a_notebook_as_a_table(tmp_path: Path) -> None:
    dataset = takestream.open(write(str(tmp_path), "uid-a").uri)
    dataset.attrs["take"] = {"take_name": "<script>alert(1)</script>"}
    html = takestream.overview(dataset)._repr_html_()
    assert "<script>" not in html
    root = ET.fromstring(html.replace("<br>", "<br/>"))  # our own words
    rows = root.findall(".//tbody/tr")
    shown = [["".join(cell.itertext()) for cell in row.findall("td")][:3] for row in rows]
    assert shown == [["aria01_rgb", "ego", "37 of 37"], ["cam01_0", "exo", "35 of 37"]]
    marks = [len(row.findall(".//rect")) for row in rows]
    assert marks == [1, 3]  # what is valid, and on it the clips 3 and 36
    assert [title.text for title in root.iter("title")] == [
        "all clips are valid",
        "2 of 37 clips are invalid",
    ]


def test_the_name_stays_a_function(tmp_path: Path) -> None:
    import takestream.glance  # whatever was imported before

    for name in takestream.__all__:
        assert callable(getattr(takestream, name)), name
