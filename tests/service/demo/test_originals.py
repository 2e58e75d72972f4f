"""The originals that the example is cut from are those of the package that they come from."""

from itertools import pairwise

import av
import numpy as np
import pytest

from service.demo.originals import (
    CAMERAS,
    FOLDER,
    ORIGINALS,
    PICTURES,
    SIZE,
    original,
    pictures,
    shown,
)
from tests.support.originals import packaged, smaller


def test_every_camera_is_whole_and_their_notice_is_beside_them() -> None:
    for name in ORIGINALS:
        for camera in CAMERAS:
            with av.open(str(original(name, camera))) as container:
                frames = [(f.width, f.height) for f in container.decode(video=0)]
                assert container.streams.video[0].average_rate == 60
            assert frames == [SIZE] * PICTURES
    assert "Copyright (c) 2022, perfanalytics" in (FOLDER / "LICENSE").read_text()
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 2e6


def test_an_original_goes_forth_and_back() -> None:
    numbers = [shown(number) for number in range(300)]
    assert numbers[:100] == list(range(100))
    assert numbers[99:199] == list(range(99, -1, -1))
    assert {abs(a - b) for a, b in pairwise(numbers)} == {1}


@pytest.mark.slow
def test_they_show_what_the_package_shows() -> None:
    files = packaged()
    for name in ORIGINALS:
        for camera in CAMERAS:
            ours = pictures(name, camera)
            theirs = smaller(files[f"{name}/cam{camera:02}.mp4"])
            for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                if number % 25 == 0:
                    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
                    assert 10 * np.log10(255**2 / error) > 32, (name, camera, number)
