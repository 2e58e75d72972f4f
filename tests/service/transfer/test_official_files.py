"""Files that hold no features cost themselves, whatever their bytes make torch and numpy raise."""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.transfer.official import NoFeatures, parse_file


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda more: b"PK\x03\x04" + more))
def test_whatever_bytes_a_file_holds(data: bytes) -> None:
    for name in ("a.pt", "a.npy"):
        with pytest.raises(NoFeatures):
            parse_file(name, data)


@pytest.mark.parametrize("value", [torch.zeros(2, 3).to_sparse(), torch.zeros(2, 3).cfloat()])
def test_tensors_that_are_no_features(value: torch.Tensor) -> None:
    data = io.BytesIO()
    torch.save(value, data)
    with pytest.raises(NoFeatures):
        parse_file("a.pt", data.getvalue())
