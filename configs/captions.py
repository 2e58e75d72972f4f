"""A dozen pictures that packages carry, and their captions: `configs/captions.yaml`."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from configs.base import Settings

CAPTIONS = Path(__file__).with_name("captions.yaml")
Part = Annotated[float, Field(ge=0, le=1)]


class Captioned(Settings):
    """One picture.

    package: that carries it, as it is imported.
    file: in the package; a picture or a film.
    frame: of a film.
    part: left, top, right and bottom of what is shown, as parts of width and height.
    caption: what is on it.
    """

    package: str
    file: str
    caption: str
    frame: int | None = None
    part: tuple[Part, Part, Part, Part] = (0, 0, 1, 1)


def captioned() -> list[Captioned]:
    """All of them, in the file's order."""
    return [Captioned.model_validate(each) for each in yaml.safe_load(CAPTIONS.read_text())]
