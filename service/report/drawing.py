"""The picture of a store, drawn by our own settings of matplotlib, whatever those of the user."""

import os
from pathlib import Path

from takestream.storage import S3Options
from workers.store.takestore import TakeStore


def draw_store(
    store: TakeStore | str,
    path: Path,
    s3: S3Options | None = None,
    *,
    reference: str | None = None,
) -> None:
    """Draw a store as a PNG; see `service.report.picture.draw_store`.

    A notebook hands the commands that it starts a MPLBACKEND that need not be installed here, and
    matplotlib refuses to be imported then. A style of the user's, such as one that needs LaTeX, is
    for their own pictures.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        from matplotlib import style  # takes a while

        from service.report import picture
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    with style.context("default", after_reset=True):
        picture.draw_store(store, path, s3, reference=reference)
