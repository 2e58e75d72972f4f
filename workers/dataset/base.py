"""What every data set can be asked, whatever its layout."""

import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from takestream.storage import S3Options, join, open_filesystem
from workers.dataset.take import Take
from workers.media.source import translated


def object_sizes(takes: Sequence[Take], s3: S3Options | None = None) -> dict[str, int | None]:
    """Size in bytes of every stream's object by URI, None where it is absent.

    One listing for each folder. Raises SourceError when the store cannot be reached.
    """
    uris = [s.uri for take in takes for s in take.streams if s.uri]
    folders = sorted({posixpath.dirname(uri) for uri in uris})

    def listing(folder: str) -> dict[str, int]:
        fs, path = open_filesystem(folder, s3)
        try:
            with translated(folder):
                found = fs.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        return {
            join(folder, posixpath.basename(entry["name"])): int(entry["size"])
            for entry in found
            if entry["type"] == "file"
        }

    with ThreadPoolExecutor(32) as pool:
        sizes = {uri: size for part in pool.map(listing, folders) for uri, size in part.items()}
    return {uri: sizes.get(uri) for uri in uris}
