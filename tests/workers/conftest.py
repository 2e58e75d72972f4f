"""What the tests of workers share: films made once, objects in memory, a local folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from service.demo.footage import encode_video
from tests.support.films import EDITED, FILMS, FRAMES, GOP12, CountedSource, Film, pictures
from tests.support.mp4 import Mp4
from workers.media import sparse

_numbers = itertools.count()


@pytest.fixture(scope="session")
def encode(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Encodes a film: `encode_video`'s settings, and `count`, `size`, `suffix`, `seed`."""
    folder = tmp_path_factory.mktemp("films")

    def encode(
        count: int = FRAMES,
        size: tuple[int, int] = (160, 120),
        suffix: str = ".mp4",
        seed: int = 0,
        **settings: Any,
    ) -> bytes:
        path = folder / f"{next(_numbers)}{suffix}"
        encode_video(path, pictures(count, *size, seed), **settings)
        data = path.read_bytes()
        path.unlink()
        return data

    return encode


@pytest.fixture(scope="session")
def film(encode: Callable[..., bytes]) -> Callable[[str], Film]:
    """The film of that name, made once."""
    films: dict[str, Film] = {}

    def get(name: str) -> Film:
        if name not in films:
            if name in EDITED:
                films[name] = Film(EDITED[name](encode(**GOP12, audio=False)))
            else:
                films[name] = Film(encode(**FILMS[name]))
        return films[name]

    return get


@pytest.fixture(params=[*FILMS, *EDITED])
def any_film(request: pytest.FixtureRequest, film: Callable[[str], Film]) -> Film:
    """Every film in turn."""
    return film(request.param)


@pytest.fixture
def stored() -> Iterator[Callable[[bytes], CountedSource]]:
    """Puts bytes into an object and gives its source."""
    memory = fsspec.filesystem("memory")
    uris = []

    def put(data: bytes) -> CountedSource:
        uris.append(f"memory://films/{next(_numbers)}.mp4")
        memory.pipe(uris[-1], data)
        return CountedSource(uris[-1])

    yield put
    for uri in uris:
        memory.rm(uri)


@pytest.fixture
def tiny_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that these small films are read as large ones are."""
    monkeypatch.setattr(sparse, "BLOCK", 512)
    monkeypatch.setattr(sparse, "READ", 4096)
    monkeypatch.setattr(sparse, "TAIL", 8192)


@pytest.fixture
def mp4() -> type[Mp4]:
    """The box editor."""
    return Mp4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where local files go: a path with capitals and spaces."""
    path = tmp_path / "A Data Set"
    path.mkdir()
    return path
