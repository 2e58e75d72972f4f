"""Which layouts of data sets there are, and which one a URI is of."""

from collections.abc import Callable, Mapping

from configs.schema import JobSpec, Resolution, Selection
from takestream.licence import Licence
from takestream.storage import S3Options
from workers.dataset.annotations import Annotations, read_annotations
from workers.dataset.base import Dataset
from workers.dataset.egoexo import LICENCE, EgoExo
from workers.dataset.lerobot import INFO, LeRobot
from workers.dataset.mirrors import Mirrors
from workers.dataset.regions import Reach
from workers.dataset.release import release_root
from workers.dataset.table import CameraTable
from workers.dataset.take import DatasetError, Take

# By the end of the URI; a folder is Ego-Exo4D's.
LAYOUTS: dict[str, Callable[[str, S3Options], Dataset]] = {
    ".csv": CameraTable,
    ".parquet": CameraTable,
    INFO: LeRobot,
}


def is_file_layout(uri: str) -> bool:
    """Whether a data set at `uri` would be one file that may name objects anywhere."""
    return any(uri.lower().endswith(ending) for ending in LAYOUTS)


def open_dataset(
    uri: str,
    resolution: Resolution = "full",
    s3: S3Options | None = None,
    *,
    mirrors: Mapping[str, str] | None = None,
    buckets: Mapping[str, S3Options] | None = None,
    annotated: bool = False,
) -> Dataset:
    """The data set at `uri`, by its layout; nothing is read yet.

    Args:
        uri: of its root or file.
        resolution: of the videos.
        s3: how to reach it.
        mirrors: partial copies of a release; see `EgoExo`.
        buckets: how to reach some buckets; see `EgoExo`.
        annotated: whether splits and benchmarks are asked for.

    Raises:
        DatasetError: there is no release of that name, or the layout takes no mirror.
    """
    for ending, layout in LAYOUTS.items():
        if uri.lower().endswith(ending):
            if mirrors:
                raise DatasetError(f"{uri}: such a data set has no mirror; leave mirrors out")
            return layout(uri, s3 or S3Options())
    return EgoExo(uri, resolution, s3, mirrors=mirrors, buckets=buckets, annotated=annotated)


def dataset_of(job: JobSpec, resolution: Resolution | None = None) -> Dataset:
    """The data set of a job, at its own resolution or another."""
    return open_dataset(
        job.dataset,
        resolution or job.select.resolution,
        job.s3,
        mirrors=job.mirrors,
        buckets=job.buckets,
        annotated=needs_annotations(job.select),
    )


def mirrors_of(job: JobSpec) -> Mirrors:
    """The mirrors that a job names."""
    return Mirrors(job.mirrors, Reach(release_root(job.dataset), job.s3, job.buckets))


def annotations_of(job: JobSpec, old: Annotations | None = None) -> Annotations:
    """What the data set's `annotations/` say; nothing for a layout that has none. `old` as before.

    Raises:
        DatasetError: there is no release of that name.
    """
    if is_file_layout(job.dataset):
        return old or Annotations({}, {}, ())
    root = release_root(job.dataset)
    return read_annotations(root, Reach(root, job.s3, job.buckets)(root), old)


def licence_of(job: JobSpec, take: Take | None = None) -> Licence | None:
    """Under which licence the videos of a job, or of one take of it, are used.

    What the job says; else what the take's own entry says; else that of the layout, as a folder
    with `takes.json` is Ego-Exo4D's. None for a table of cameras of which nobody said.
    """
    return job.dataset_licence or own_licence(job.dataset, take)


def own_licence(uri: str, take: Take | None = None) -> Licence | None:
    """What the data set at `uri` itself says, as `licence_of` has it."""
    if take is not None and take.licence is not None:
        return take.licence
    return None if is_file_layout(uri) else LICENCE


def needs_annotations(selection: Selection) -> bool:
    """Whether a selection asks for what `annotations/splits.json` says."""
    return bool(selection.splits or selection.benchmarks)
