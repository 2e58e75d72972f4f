"""Which takestream this is."""

from importlib import metadata


def own_version() -> str:
    """The installed version, or `checkout` where only the folders are (a Ray working_dir)."""
    try:
        return metadata.version("takestream")
    except metadata.PackageNotFoundError:
        return "checkout"
