"""Random windows of synchronised streams, for training with PyTorch.

windows = takestream.Windows("s3://bucket/features", streams=["aria*_rgb", "cam*"])
loader = torch.utils.data.DataLoader(windows, batch_size=32, num_workers=4)
"""

import contextlib
import itertools
import os
import random
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from takestream import schema
from takestream.access import asked
from takestream.storage import S3Options, as_uri
from takestream.stores import StoredTake, choose_streams, encoder_id_of
from takestream.training import aligned, sections, selection, sharing
from takestream.training.padding import FILL, padded
from takestream.training.sections import Cut, Plan, Section

if TYPE_CHECKING:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
else:
    try:
        import torch
        from torch.utils.data import IterableDataset, get_worker_info
    except ModuleNotFoundError:
        torch = None

        class IterableDataset:
            """Stands in, so that this module can be imported without torch."""

            __class_getitem__ = classmethod(lambda cls, _: cls)


# Sections that are being read while others are used.
_AHEAD = 4

Sample = dict[str, Any]


class Windows(IterableDataset[Sample]):
    """An iterable data set of windows over takes, by one encoder or several, each once per epoch.

    A sample is a dict: `features` float [length, S, D], 0 where invalid; `mask` bool [length, S],
    True where valid; `clip` int64 [length], numbers in the take; `start_time`, `end_time` float64
    [length], seconds on the take's clock; `take`, its uid. A take shorter than a window is padded:
    mask False, clip -1, times NaN, label "". Streams a take does not have are masked out.

    With several encoders `features` and `mask` are dicts by the name of the encoder as it was
    given. The clips are those of the first one. Of each other, the clip stands beside it whose
    middle is nearest to its middle, masked out where that lies outside of it: encoders of one grid
    see the same clips, one of single images gives the frame in the middle.

    With `shuffle`, sections of takes are read in random order, each chunk once, and windows are
    drawn from as many sections as `memory` holds. The order depends on `seed`, the epoch and the
    number of ranks and workers alone; call `set_epoch` before each epoch. Nothing is open before a
    worker iterates, so it goes through fork and spawn.

    Args:
        output: URI under which `takestream extract` wrote.
        encoder: An `encoder_id` or the preset it begins with; needed when several wrote there. A
            list for several in one sample: takes that one of them lacks are left out with a
            warning.
        length: Clips of a window.
        step: Clips from one window to the next, `length` by default; the last window of a take ends
            with its last clip.
        whole_takes: One sample is a whole take instead; batch with `collate_fn=Windows.collate`,
            which pads.
        takes: Uids or names, all by default.
        split: Only takes of this official split, or of these.
        span: `task` for only the clips whose middle lies in the take's task; takes that do not say
            when that is are left out with a warning.
        group_by: A fact of takes, such as `participant_uid`: samples carry it as `group`, a text,
            so that what belongs together can be kept on one side of a split. Takes that do not say
            it are left out with a warning.
        streams: Names or patterns, all by default. Takes of which the (first) encoder has none of
            them are left out with a warning.
        shuffle: Draw windows at random; otherwise take by take, in order.
        seed: Of the order.
        dtype: Of the features.
        partial: Take stores that are not complete as they are.
        labels: Give samples `segment_label` too, a list of length texts: what the segments are
            called that the clips show, where a job made one clip for each segment.
        rank: Which part of the windows is ours, with `world_size`; those of torch.distributed by
            default. With `rank=0, world_size=1` every process has all of them.
        world_size: How many parts there are.
        even: Give all ranks the same number of windows; up to `world_size - 1` are left out, others
            in each epoch. The default where there are several ranks: a rank that has one more
            waits for the others until their group gives up.
        batch_size: That of the DataLoader, if it has several workers: all of them but one then end
            with a whole batch, so that `len(loader)` is right and `drop_last` drops one batch at
            most.
        memory: Bytes of features that one worker may hold to mix from.
        profile: A profile of the AWS files, as for `takestream.open`.
        endpoint_url: Another S3 endpoint than that of AWS.
        anon: Without keys: of a bucket that anybody may read.

    Attributes:
        dims: By name of an encoder, the length of its vectors; by its encoder_id where no name was
            given.
        streams: The streams of every sample, in their order: the same over the whole data set.
        groups: By uid of a take, its group; empty without `group_by`.

    Raises:
        FileNotFoundError: There is no such folder, encoder or take; the message says what is there.
        ValueError: What was asked for makes no sense or does not fit together. Iterating raises it
            too, when a store was changed.
        ConnectionError: S3 cannot be reached.
        PermissionError: S3 refuses.
        ModuleNotFoundError: torch is not installed.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        *,
        encoder: str | Sequence[str] | None = None,
        length: int = 16,
        step: int | None = None,
        whole_takes: bool = False,
        takes: str | Sequence[str] | None = None,
        split: str | Sequence[str] | None = None,
        span: Literal["take", "task"] = "take",
        group_by: str | None = None,
        streams: str | Sequence[str] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        partial: bool = False,
        labels: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        even: bool | None = None,
        batch_size: int = 1,
        memory: int = 128 * 2**20,
        profile: str | None = None,
        endpoint_url: str | None = None,
        anon: bool = False,
    ) -> None:
        if torch is None:
            raise ModuleNotFoundError(
                "takestream.Windows gives PyTorch tensors: install torch (pip install torch)."
                " takestream.open works without it"
            )
        step = length if step is None else step
        if length < 1 or step < 1 or seed < 0:
            raise ValueError(f"length and step are 1 or more, seed 0 or more: {length, step, seed}")
        if batch_size < 1:
            raise ValueError(f"batch_size is 1 or more, not {batch_size}")
        if (rank is None) != (world_size is None):
            raise ValueError("rank and world_size belong together")
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of {world_size}")
        if dtype not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"dtype is float32, float16 or bfloat16, not {dtype!r}")
        if span not in ("take", "task"):
            raise ValueError(f"span is take or task, not {span!r}")
        self._s3 = S3Options(profile, endpoint_url, anon=anon)
        self._cut = None if whole_takes else Cut(length, step)
        self._shuffle, self._seed, self._even, self._batch = shuffle, seed, even, batch_size
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._place = None if rank is None or world_size is None else (rank, world_size)
        patterns = [streams] if isinstance(streams, str) else streams
        wanted = [takes] if isinstance(takes, str) else takes
        where = as_uri(output)
        names = [encoder] if encoder is None or isinstance(encoder, str) else list(encoder)
        self._several = () if encoder is None or isinstance(encoder, str) else tuple(encoder)
        found, beside = asked(
            where, self._s3, lambda: aligned.find(where, names, wanted, partial, self._s3)
        )
        if split is not None:
            splits = [split] if isinstance(split, str) else split
            found = selection.of_splits(found, splits, where)
        self.groups: dict[str, str] = {}
        if group_by is not None:
            found, self.groups = selection.by_group(found, group_by, where)
        if span == "task":
            found = asked(where, self._s3, lambda: selection.in_task(found, where, self._s3))
        self.streams = choose_streams([*found, *itertools.chain(*beside.values())], patterns)
        without = [take.name for take in found if set(self.streams).isdisjoint(take.streams)]
        if without:
            warnings.warn(
                f"{where}: {len(without)} of {len(found)} takes have none of the streams"
                f" {', '.join(self.streams)} and are left out (first: {without[0]})",
                stacklevel=2,
            )
        #: The takes, in the order of their uids.
        self.takes: list[StoredTake] = [
            take for take in found if not set(self.streams).isdisjoint(take.streams)
        ]
        bare = [take.name for take in self.takes if labels and not take.labelled]
        if bare:
            raise ValueError(
                f"{where}: {len(bare)} of {len(self.takes)} takes have no labels (first:"
                f" {bare[0]}); only jobs with segments write them"
            )
        self._labels = labels
        self._beside = {take.uid: beside[take.uid] for take in self.takes}
        first, *others = self.takes[0], *self._beside[self.takes[0].uid]
        #: The length of a feature vector, of the first encoder.
        self.dim = first.dim
        self.dims = {
            name or encoder_id_of(one.uri): one.dim
            for name, one in zip(names, (first, *others), strict=True)
        }
        self._plan = Plan(self.takes, self._cut)
        largest = max(1, self._plan.largest(self.takes, self._cut))
        largest += sum(round(largest * one.weight / first.weight) for one in others)
        self._ahead = max(1, min(_AHEAD, memory // largest // 4))
        self._mixed = max(1, memory // largest - self._ahead) if shuffle else 1
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._share_epoch()

    def __repr__(self) -> str:
        cut = "whole takes"
        if self._cut is not None:
            cut = f"windows of {self._cut.length} clips, one every {self._cut.step}"
        (rank, ranks), names = self._rank(), ", ".join(self.streams)
        part = f" for rank {rank} of {ranks}" if ranks > 1 else ""
        numbers = " and ".join(f"{dim} by {name}" for name, dim in self.dims.items())
        return (
            f"<takestream Windows: {len(self)} {cut}{part}, of {len(self.takes)} takes;"
            f" {len(self.streams)} streams ({names}), numbers a clip: {numbers}>"
        )

    def __len__(self) -> int:
        """The samples of this rank in an epoch, over all of its workers."""
        low, high = sections.share_of(self._plan.windows, [self._rank()], self._is_even())
        return high - low

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration, also of workers that are running already."""
        if epoch < 0:
            raise ValueError(f"epochs count from 0, not {epoch}")
        self._epoch[0] = epoch

    def __iter__(self) -> Iterator[Sample]:
        rank, epoch = self._rank(), int(self._epoch[0])
        if rank[1] > 1 and (shared_out := sharing.by_accelerate()):
            raise ValueError(
                f"{shared_out} of accelerate gives the ranks parts of the part that this rank has,"
                " so that most windows are never seen: leave the loader out of"
                " accelerator.prepare(...), as Windows knows its rank, and move batches yourself"
            )
        info = get_worker_info()
        if info is not None and not self._epoch.is_shared():  # type: ignore[no-untyped-call]
            warnings.warn(
                "there was no shared memory for the epoch: workers that live on"
                " (persistent_workers) keep the order of the first one",
                stacklevel=2,
            )
        worker = (0, 1) if info is None else (info.id, info.num_workers)
        order = self._plan.order(self._seed, epoch) if self._shuffle else None
        work = self._plan.share(order, [rank, worker], self._is_even(), self._batch)
        return self._mix(work, random.Random(repr((self._seed, epoch, rank, worker))))

    @staticmethod
    def collate(samples: Sequence[Sample]) -> dict[str, Any]:
        """A batch of samples of different lengths, padded at their ends to the longest.

        As DataLoader's own, with `length` int64 [B]: the clips of each. Padding is 0 in features,
        False in mask, -1 in clip and NaN in times. Labels are lists, without padding.
        """
        return padded(samples)

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is spawned by a rank is in no process group, so it is told here. What is
        # sent to the ranks themselves, before there is a group, must leave it to them.
        return {**self.__dict__, "_place": self._place or _of_group()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # A copy has an epoch of its own, which its workers must see too.
        self._share_epoch()

    def _share_epoch(self) -> None:
        """Put the epoch into shared memory, because workers that live on must see the next one."""
        with contextlib.suppress(RuntimeError, OSError):  # /dev/shm may be full, or not writable
            self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def _is_even(self) -> bool:
        return self._rank()[1] > 1 if self._even is None else self._even

    def _rank(self) -> tuple[int, int]:
        return self._place or _of_group() or (0, 1)

    def _mix(self, work: list[tuple[int, int, int]], rng: random.Random) -> Iterator[Sample]:
        """Samples drawn from up to `_mixed` sections at once."""
        coming = self._read_ahead(work)
        windows: list[tuple[int, int]] = []  # (section, window) still to give
        opened: dict[int, tuple[Section, int]] = {}  # what is read, and how many windows are left
        number = 0
        while True:
            while len(opened) < self._mixed and (found := next(coming, None)) is not None:
                section, begin, end = found
                opened[number] = section, end - begin
                fresh = [(number, window) for window in range(begin, end)]
                windows.extend(fresh if self._shuffle else reversed(fresh))
                number += 1
            if not windows:
                return
            if self._shuffle:
                at = rng.randrange(len(windows))
                windows[at], windows[-1] = windows[-1], windows[at]
            which, window = windows.pop()
            section, left = opened.pop(which)
            if left > 1:
                opened[which] = section, left - 1
            yield self._sample(section, window)

    def _read_ahead(self, work: list[tuple[int, int, int]]) -> Iterator[tuple[Section, int, int]]:
        """(section, first window, window after the last), read by threads in the order of work."""

        def load(number: int, begin: int, end: int) -> tuple[Section, int, int]:
            take = self.takes[number]
            first, stop = 0, take.clips
            if self._cut is not None:
                first = self._cut.start(begin, take.clips)
                stop = self._cut.stop(end - 1, take.clips)
            first, stop = first + take.first, stop + take.first
            found = sections.read(take, first, stop, self.streams, self._s3, self._labels)
            others = self._beside[take.uid]
            more = tuple(aligned.beside(found, one, self.streams, self._s3) for one in others)
            return replace(found, beside=more), begin, end

        sections.zarr_store(self.takes[0].uri, self._s3)  # once, before there are threads
        pool = ThreadPoolExecutor(self._ahead, thread_name_prefix="takestream-windows")
        try:
            waiting: deque[Future[tuple[Section, int, int]]] = deque()
            for part in work:
                waiting.append(pool.submit(load, *part))
                if len(waiting) > self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _placed(self, section: Section, rows: slice, length: int) -> tuple[Any, Any]:
        """Features [length, S, D] and mask [length, S] of some rows, at the data set's streams."""
        values = torch.from_numpy(section.features[rows])
        mask = torch.from_numpy(section.mask[rows])
        n, streams = len(values), len(self.streams)
        if n == length and section.columns == tuple(range(streams)):
            return values.to(self._dtype, copy=True), mask.clone()
        columns = list(section.columns)
        features = torch.zeros(length, streams, section.take.dim, dtype=self._dtype)
        valid = torch.zeros(length, streams, dtype=torch.bool)
        features[:n, columns] = values.to(self._dtype)
        valid[:n, columns] = mask
        return features, valid

    def _sample(self, section: Section, window: int) -> Sample:
        take = section.take
        start, stop = 0, take.clips
        length = take.clips
        if self._cut is not None:
            start, stop = self._cut.start(window, take.clips), self._cut.stop(window, take.clips)
            length = self._cut.length
        start, stop = start + take.first, stop + take.first
        n, rows = stop - start, slice(start - section.first, stop - section.first)
        every = [self._placed(one, rows, length) for one in (section, *section.beside)]
        features: Any = every[0][0]
        valid: Any = every[0][1]
        if self._several:
            features = {name: one[0] for name, one in zip(self._several, every, strict=True)}
            valid = {name: one[1] for name, one in zip(self._several, every, strict=True)}
        clip = torch.full((length,), FILL["clip"], dtype=torch.int64)
        clip[:n] = torch.arange(start, stop)
        times = {}
        for name in ("start_time", "end_time"):
            times[name] = torch.full((length,), FILL[name], dtype=torch.float64)
            times[name][:n] = torch.from_numpy(getattr(section, name)[rows])
        sample = {"features": features, "mask": valid, "clip": clip, **times, "take": take.uid}
        if self.groups:
            sample["group"] = self.groups[take.uid]
        if self._labels:
            said = list(section.labels[rows])
            sample[schema.SEGMENT_LABEL] = said + [""] * (length - n)
        return sample


def _of_group() -> tuple[int, int] | None:
    """(rank, of how many) in the process group, None where there is none."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return None
