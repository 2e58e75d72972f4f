"""Which layouts of data sets there are, and which one a URI is of."""

from collections.abc import Callable

from configs.schema import JobSpec, Resolution
from takestream.storage import S3Options
from workers.dataset.base import Dataset
from workers.dataset.egoexo import EgoExo
from workers.dataset.table import CameraTable

# By the end of the URI; a folder is Ego-Exo4D's.
LAYOUTS: dict[str, Callable[[str, Resolution, S3Options], Dataset]] = {
    ".csv": lambda uri, resolution, s3: CameraTable(uri, s3),
}


def is_file_layout(uri: str) -> bool:
    """Whether a data set at `uri` would be one file that may name objects anywhere."""
    return any(uri.lower().endswith(ending) for ending in LAYOUTS)


def open_dataset(uri: str, resolution: Resolution = "full", s3: S3Options | None = None) -> Dataset:
    """The data set at `uri`, by its layout; nothing is read yet."""
    for ending, layout in LAYOUTS.items():
        if uri.lower().endswith(ending):
            return layout(uri, resolution, s3 or S3Options())
    return EgoExo(uri, resolution, s3)


def dataset_of(job: JobSpec, resolution: Resolution | None = None) -> Dataset:
    """The data set of a job, at its own resolution or another."""
    return open_dataset(job.dataset, resolution or job.select.resolution, job.s3)
