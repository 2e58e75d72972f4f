"""Synchronised per-camera video features: read what `takestream extract` wrote.

import takestream
ds = takestream.open("s3://bucket/features", take="cmu_bike01_2")
"""

from takestream.reader import open

__all__ = ["open"]
