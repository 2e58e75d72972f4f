"""By which rule the clips of official feature files were cut."""

from dataclasses import dataclass

import yaml

from configs.load import SettingsError
from takestream.storage import S3Options, join, open_filesystem, translated

# The extractor leaves it beside the files that it writes.
CONFIG = "config.yaml"
MOST_BYTES = 2**20


@dataclass(frozen=True)
class ClipRule:
    """Clips of `window` frames, every `stride`; one more over the last frames if these are left.

    Attributes:
        fps: frames per second.
        window: frames of a clip.
        stride: from one clip to the next, in frames.
    """

    fps: int = 30
    window: int = 32
    stride: int = 16

    def clips(self, frames: int) -> int:
        """Clips of a take of so many frames; a shorter one than a clip has one."""
        if frames < self.window:
            return 1
        more, rest = divmod(frames - self.window, self.stride)
        return more + 1 + bool(rest)


OFFICIAL = ClipRule()
PER_FRAME = ClipRule(window=1, stride=1)


def rule_beside(folder: str, s3: S3Options) -> ClipRule | None:
    """The rule that the extractor's own settings beside its files name; None where none are there.

    Raises:
        SettingsError: settings that name clips which cannot be.
        StorageError: they cannot be read.
    """
    uri = join(folder, CONFIG)
    try:
        with translated(uri, "read", s3):
            fs, path = open_filesystem(uri, s3)
            if int(fs.info(path)["size"] or 0) > MOST_BYTES:
                return None
            data = fs.cat_file(path)
        said = yaml.safe_load(data)
    except (FileNotFoundError, NotADirectoryError, yaml.YAMLError, ValueError, RecursionError):
        return None
    said = said.get("inference_config") if isinstance(said, dict) else None
    names = ("fps", "frame_window", "stride")
    if not isinstance(said, dict) or not all(name in said for name in names):
        return None
    values = [said[name] for name in names]
    # The extractor also takes fractions of a second, of which there are no official features.
    if not all(type(value) is int and 0 < value <= 100_000 for value in values):
        raise SettingsError(f"{uri}: fps, frame_window and stride are {values}: no whole frames")
    return ClipRule(*values)
