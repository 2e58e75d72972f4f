"""Data sets of LeRobot, version 3: episodes of robots, several of them in one video file.

By https://huggingface.co/docs/lerobot/lerobot-dataset-v3 and public readers: `meta/info.json` has
the rate, the features and where their videos are; `meta/episodes/**/*.parquet` a row for each
episode, with the file of each camera and the seconds of it that are the episode's.
"""

import json
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from takestream.storage import S3Options, join, open_filesystem, translated
from workers.dataset import words
from workers.dataset.base import Place, object_sizes
from workers.dataset.take import DatasetError, Stream, Take
from workers.media.source import ObjectIdentity, Source

INFO = "meta/info.json"
EPISODES = "meta/episodes"
VERSION = "v3"
# What a template of paths may fill in; it comes with the data, and is no code.
FIELDS = ("video_key", "chunk_index", "file_index")
PREFIXES = ("observation.images.", "observation.")


class LeRobot:
    """A data set of LeRobot: each episode is a take, each of its videos a camera.

    Args:
        uri: of its `meta/info.json`.
        s3: how to reach it.
    """

    def __init__(self, uri: str, s3: S3Options | None = None) -> None:
        self._uri, self._s3 = uri, s3 or S3Options()
        self._root = uri[: -len(INFO)].rstrip("/")
        self._notes: tuple[str, ...] = ()

    def identity(self) -> ObjectIdentity:
        """As `Dataset.identity` says: `info.json` counts the episodes, so it changes with them."""
        return Source(self._uri, self._s3).identity()

    def takes(self) -> list[Take]:
        """As `Dataset.takes` says."""
        info = self._info()
        rate = words.seconds(info.get("fps"))
        if not rate:
            raise DatasetError(f"{self._uri}: fps is {info.get('fps')!r}, expected a rate")
        path = self._template(info.get("video_path"))
        cameras = self._cameras(words.table(info.get("features")))
        takes, seen = [], set[int]()
        for where, row in self._rows(list(cameras)):
            index, length = (words.number(row.get(key)) for key in ("episode_index", "length"))
            if index is None or not length or length < 0 or index < 0:
                raise DatasetError(f"{where}: it names no episode, or no length of one")
            if index in seen:
                raise DatasetError(f"{where}: episode {index} is there twice")
            seen.add(index)
            tasks = row.get("tasks") or []
            task = "; ".join(found for one in tasks if (found := words.text(one))) or None
            streams = tuple(
                self._stream(camera, key, row, path, rate) for key, camera in cameras.items()
            )
            name = f"episode_{index:06d}"
            takes.append(Take(name, name, task, None, None, length / rate, streams))
        return takes

    def notes(self) -> tuple[str, ...]:
        """As `Dataset.notes` says: which features are pictures and are not read."""
        return self._notes

    def sizes(self, takes: Sequence[Take]) -> dict[str, int | None]:
        """As `Dataset.sizes` says: one listing for each folder."""
        return object_sizes(takes, self._s3)

    def where(self, stream: Stream) -> tuple[str, S3Options]:
        """As `Dataset.where` says."""
        assert stream.uri is not None
        return stream.uri, self._s3

    def nearest(self, stream: Stream) -> Place:
        """As `Dataset.nearest` says."""
        return Place(*self.where(stream))

    def _info(self) -> Mapping[str, Any]:
        try:
            info = json.loads(Source(self._uri, self._s3).whole())
        except FileNotFoundError:
            raise DatasetError(f"{self._uri}: there is no such file") from None
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{self._uri}: not valid JSON ({error})") from error
        info = words.table(info)
        version = words.text(info.get("codebase_version")) or "none"
        if not version.startswith(VERSION):
            raise DatasetError(
                f"{self._uri}: its version is {version}, and {VERSION}.0 is read; LeRobot itself"
                " converts older ones"
            )
        return info

    def _template(self, given: Any) -> str:
        try:
            parts = list(string.Formatter().parse(given)) if isinstance(given, str) else []
            plain = all(
                field in FIELDS and not turned and re.fullmatch(r"(0?\d{1,2}d)?", spec or "")
                for _, field, spec, turned in parts
                if field is not None
            )
        except ValueError:
            parts, plain = [], False
        texts = "x".join(text for text, *_ in parts)
        if not parts or not plain or "://" in texts or texts.startswith("/") or ".." in texts:
            raise DatasetError(f"{self._uri}: video_path is {given!r}, which is no path of videos")
        return str(given)

    def _cameras(self, features: Mapping[str, Any]) -> dict[str, str]:
        """By the feature's name, the camera's."""
        cameras: dict[str, str] = {}
        others, depth = [], []
        for key, feature in features.items():
            said = words.table(feature)
            if said.get("dtype") == "image":
                others.append(words.clean(str(key)))
            if said.get("dtype") != "video":
                continue
            if words.table(said.get("info")).get("video.is_depth_map") is True:
                depth.append(words.clean(str(key)))
                continue
            prefix = next((one for one in PREFIXES if key.startswith(one)), "")
            camera = key.removeprefix(prefix)
            if not words.is_plain_name(camera) or camera in cameras.values():
                raise DatasetError(f"{self._uri}: feature {key!r} cannot name a camera")
            cameras[key] = camera
        self._notes = tuple(
            f"{', '.join(names)}: {what}, which are not read"
            for names, what in ((depth, "videos of depth"), (others, "pictures in tables"))
            if names
        )
        if not cameras:
            raise DatasetError(f"{self._uri}: none of its features is a video of a camera")
        return cameras

    def _stream(
        self, camera: str, key: str, row: Mapping[str, Any], path: str, rate: float
    ) -> Stream:
        chunk, file = (words.number(row.get(f"videos/{key}/{n}_index")) for n in ("chunk", "file"))
        begin, end = (
            words.seconds(row.get(f"videos/{key}/{edge}_timestamp")) for edge in ("from", "to")
        )
        uri, span, note = None, None, "the table of episodes does not say where its video is"
        if None not in (chunk, file) and begin is not None and end is not None and end > begin:
            place = path.format(video_key=key, chunk_index=chunk, file_index=file)
            # Times are sums of floats: a cut half a frame before a frame is no chance.
            uri, span, note = join(self._root, place), (begin - 0.5 / rate, end - 0.5 / rate), ""
        return Stream(f"{camera}_0", camera, "0", uri, False, span=span, note=note)

    def _rows(self, keys: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        import pyarrow as pa
        import pyarrow.parquet

        wanted = ["episode_index", "tasks", "length"] + [
            f"videos/{key}/{column}"
            for key in keys
            for column in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        ]
        folder = join(self._root, EPISODES)
        with translated(folder, "list", self._s3):
            fs, path = open_filesystem(folder, self._s3)
            try:
                files = sorted(name for name in fs.find(path) if name.endswith(".parquet"))
            except FileNotFoundError:
                files = []
        if not files:
            raise DatasetError(f"{folder}: there is no table of episodes")
        for name in files:
            where = join(folder, name[len(path) :].strip("/"))
            with translated(where, "read", self._s3):
                data = fs.cat_file(name)
            try:
                file = pyarrow.parquet.ParquetFile(pa.BufferReader(data))
                there = set(file.schema_arrow.names)
                # The statistics of every feature stand there too, and are most of it.
                table = file.read(columns=[column for column in wanted if column in there])
            except (pa.ArrowException, OSError) as error:
                raise DatasetError(f"{where}: not a Parquet file ({error})") from error
            for number, row in enumerate(table.to_pylist(), 1):
                yield f"{where}: row {number}", row
