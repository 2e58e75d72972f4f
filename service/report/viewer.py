"""A take's clips in a file for the Rerun viewer, where its package is installed."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from configs.load import SettingsError
from service.report.inspect import encoder_id, reason_words, take_word
from service.report.similarity import mean_of, read_clips
from takestream.schema import Reason
from takestream.storage import S3Options
from workers.store.takestore import TakeStore

TIMELINE = "take"


def save_for_viewer(uri: str, path: Path, s3: S3Options) -> None:
    """Write what a store knows of its streams over the take's time.

    By stream: `valid` is 1 where a clip is, `similarity` the mean cosine of its vector to those of
    the other streams at that moment, and `problem` why clips are invalid, where that begins. The
    timeline `take` has seconds of the take, at the middle of each clip.

    Args:
        uri: of the store.
        path: of the `.rrd` file.
        s3: how to reach the store.

    Raises:
        SettingsError: Rerun is not installed, or cannot write there.
        StorageError: The store cannot be read.
    """
    # Not among the dependencies: it takes 170 MB, and few want it.
    try:
        rr: Any = importlib.import_module("rerun")
    except ImportError as error:
        raise SettingsError(
            "--rrd: Rerun is not installed here; `pip install rerun-sdk` into this environment"
        ) from error
    store = TakeStore.open(uri, s3)
    clips = read_clips(store)
    name = f"{take_word(store, 'name')}, {encoder_id(store)}"
    log = rr.RecordingStream("takestream", recording_id=f"{store.uri} {name}")
    try:
        log.save(str(path))
    except (OSError, RuntimeError) as error:
        raise SettingsError(f"--rrd: {path} cannot be written ({error})") from error
    rr.send_recording_name(name, recording=log)

    def send(stream: str, what: str, times: Any, columns: Any) -> None:
        place = rr.new_entity_path(["streams", stream, what])
        when = [rr.TimeColumn(TIMELINE, duration=times)]
        rr.send_columns(place, when, columns, recording=log)

    for index, stream in enumerate(clips.streams):
        reasons = clips.reasons[:, index]
        valid = (reasons == Reason.VALID).astype(np.float64)
        send(stream, "valid", clips.middle, rr.Scalars.columns(scalars=valid))
        others = [other for other in range(len(clips.streams)) if other != index]
        alike = mean_of(clips.similarity[:, index, others], axis=1)
        known = np.isfinite(alike)
        if known.any():
            values = rr.Scalars.columns(scalars=alike[known].astype(np.float64))
            send(stream, "similarity", clips.middle[known], values)
        begins = np.flatnonzero(np.diff(reasons.astype(np.int64), prepend=int(Reason.VALID)))
        if len(begins):
            texts = [reason_words(Reason(int(reasons[at])).name) for at in begins]
            send(stream, "problem", clips.middle[begins], rr.TextLog.columns(text=texts))
    log.flush()
