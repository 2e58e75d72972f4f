"""The table of a store's arrays, and what is derived from it."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore, StorePath

from takestream import schema
from takestream.schema import Sizes

README = Path(__file__).parents[2] / "README.md"


def test_readme_shows_the_table() -> None:
    text = README.read_text()
    begin, end = "takestream.schema.markdown_table -->\n", "<!-- end of store arrays -->"
    assert text.partition(begin)[2].partition(end)[0] == schema.markdown_table(), (
        "README's table of arrays is not `takestream.schema.markdown_table()`"
    )


@pytest.mark.parametrize("spec", schema.TABLE, ids=lambda spec: spec.name)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_zarr_understands_and_repeats_the_metadata(spec: schema.ArraySpec, dtype: str) -> None:
    metadata = spec.metadata(Sizes(23, 2, 5, 8, 4, dtype))
    array = zarr.Array.from_dict(StorePath(MemoryStore(), spec.name), metadata)
    assert array.shape == spec.shape(Sizes(23, 2, 5, 8, 4, dtype))
    again = array.metadata.to_dict()
    assert {key: again[key] for key in ("shape", "dimension_names")} == {
        "shape": tuple(metadata["shape"]),
        "dimension_names": tuple(metadata["dimension_names"]),
    }
    assert set(metadata) == set(again)
    assert np.asarray(array[:]).size == np.prod(array.shape)


def test_a_store_says_the_lowest_version_that_describes_it() -> None:
    assert schema.version_with(schema.ARRAYS) == 2
    assert schema.version_with([*schema.ARRAYS, schema.SEGMENT_NAME]) == "2.1"
    assert max(spec.since for spec in schema.TABLE) == schema.SCHEMA_MINOR
