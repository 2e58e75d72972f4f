"""Pictures, drawn by our own settings of matplotlib, whatever those of the user."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from takestream.storage import S3Options
from workers.store.takestore import TakeStore

if TYPE_CHECKING:
    from service.evaluate.evaluation import Evaluation


def draw_store(
    store: TakeStore | str,
    path: Path,
    s3: S3Options | None = None,
    *,
    reference: str | None = None,
) -> None:
    """Draw a store as a PNG; see `service.report.picture.draw_store`."""
    with own_style():
        from service.report import picture

        picture.draw_store(store, path, s3, reference=reference)


def draw_evaluation(evaluation: "Evaluation", path: Path) -> None:
    """Draw which class is taken for which; see `service.report.confusion.draw_confusion`."""
    with own_style():
        from service.report import confusion

        confusion.draw_confusion(evaluation, path)


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib as it comes.

    A notebook hands the commands that it starts a MPLBACKEND that need not be installed here, and
    matplotlib refuses to be imported then. A style of the user's, such as one that needs LaTeX, is
    for their own pictures.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        from matplotlib import style  # takes a while

        with style.context("default", after_reset=True):
            yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
