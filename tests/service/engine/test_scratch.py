"""Stores of grids that are not the service's own: bounded, and never taken from who reads them."""

import asyncio
from pathlib import Path

import pytest

from configs.load import parse
from configs.schema import ServeSpec
from service.engine import scratch as scratch_module
from service.engine.ondemand import Busy
from service.engine.scratch import STORE_BYTES, Scratch
from service.features.catalogue import Catalogue
from takestream.storage import S3Options
from takestream.stores import ON_DEMAND, list_stores, store_uri
from tests.support.takestores import fill, make_layout
from workers.store.takestore import TakeStore

ENCODER = "enc-0123456789"


@pytest.fixture(autouse=True)
def no_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch_module, "IDLE_SECONDS", 0.0)


def made(output: Path, number: int) -> str:
    uri = store_uri(f"{output}/{ON_DEMAND}", ENCODER, f"uid-{number}")
    fill(TakeStore.create(uri, make_layout()))
    return uri


async def asked(scratch: Scratch, output: Path, number: int) -> str:
    uri = store_uri(f"{output}/{ON_DEMAND}", ENCODER, f"uid-{number}")
    await scratch.make_room(uri)
    if not Path(uri).exists():
        made(output, number)
    await scratch.made(uri)
    return uri


def there(output: Path) -> set[str]:
    return {path.name for path in output.glob(f"{ON_DEMAND}/*/*.zarr")}


def test_the_least_recently_used_go_first_and_readers_list_none(tmp_path: Path) -> None:
    async def test() -> None:
        left = made(tmp_path, 0)  # by a service before this one
        scratch = Scratch(str(tmp_path), S3Options(), int(3.3 * STORE_BYTES))
        for number in (1, 2):
            await asked(scratch, tmp_path, number)
        assert there(tmp_path) == {"uid-0.zarr", "uid-1.zarr", "uid-2.zarr"}
        await scratch.make_room(left)  # used again
        for number in range(3, 40):
            await asked(scratch, tmp_path, number)
            await scratch.make_room(left)
            assert len(there(tmp_path)) <= 3
        assert there(tmp_path) == {"uid-0.zarr", "uid-38.zarr", "uid-39.zarr"}
        assert list_stores(str(tmp_path), S3Options()) == []

    asyncio.run(test())


def test_what_is_in_use_stays_and_a_full_room_is_busy(tmp_path: Path) -> None:
    async def test() -> None:
        scratch = Scratch(str(tmp_path), S3Options(), int(1.5 * STORE_BYTES))
        first = await asked(scratch, tmp_path, 1)
        with scratch.in_use(first):
            with pytest.raises(Busy, match="in use"):
                await asked(scratch, tmp_path, 2)
            assert Path(first).exists()
        await asked(scratch, tmp_path, 4)
        assert not Path(first).exists()

    asyncio.run(test())


def test_a_store_that_is_damaged_is_removed_like_others(tmp_path: Path) -> None:
    async def test() -> None:
        Path(made(tmp_path, 1), "zarr.json").write_text("{")
        scratch = Scratch(str(tmp_path), S3Options(), int(1.5 * STORE_BYTES))
        await asked(scratch, tmp_path, 2)
        assert there(tmp_path) == {"uid-2.zarr"}

    asyncio.run(test())


def test_a_grid_is_kept_for_good_where_it_is_the_services_or_a_jobs(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    places = {"dataset": str(tmp_path / "data"), "output": str(tmp_path / "out")}
    spec = parse(ServeSpec, {"job": places}, "test")
    catalogue = Catalogue(spec)

    def output_of(fps: float | None) -> str:
        recipe = catalogue.variant(None, fps).recipe
        assert recipe is not None
        return recipe.job.output

    own = str(tmp_path / "out")
    assert output_of(None) == own
    assert {output_of(fps) for fps in (7.0, 7.5)} == {f"{own}/{ON_DEMAND}"}
    encoder_id = catalogue.variant(None, 7.0).encoder_id
    assert catalogue.variant(encoder_id, 7.0).recipe == catalogue.variant(None, 7.0).recipe
    fill(TakeStore.create(store_uri(own, encoder_id, "uid-1"), make_layout()))
    assert Catalogue(spec).variant(None, 7.0).recipe.job.output == own  # type: ignore[union-attr]
