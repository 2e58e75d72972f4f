"""Videos that lie in another region than the workers: which, how much, and for how much."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.transfer import price_per_gb
from workers.dataset.regions import bucket_of, region_of
from workers.dataset.take import Take
from workers.run.recipe import Recipe

# Where Linux says who made the machine.
_VENDOR = Path("/sys/devices/virtual/dmi/id/sys_vendor")


@dataclass(frozen=True)
class Transfer:
    """What a job reads from one region in others.

    Attributes:
        region: that it is read from.
        here: those that the workers are in.
        buckets: that lie there.
        streams: of the takes, that lie there.
        bytes: of their objects, as far as the data set says their sizes.
        unsized: streams of which it does not.
        price: USD for each GB, as listed.
    """

    region: str
    here: tuple[str, ...]
    buckets: tuple[str, ...]
    streams: int
    bytes: int
    unsized: int
    price: float

    @property
    def cost(self) -> float:
        """USD, of the objects whose size is known."""
        return self.bytes / 1e9 * self.price

    @property
    def words(self) -> str:
        """For a person."""
        some = ", ".join(self.buckets[:3]) + (", …" if len(self.buckets) > 3 else "")
        many = f"{self.streams:,} streams in {self.region} ({some})"
        cost = f"{self.bytes / 1e9:,.1f} GB, about {self.cost:,.2f} USD at list price"
        if self.unsized:
            cost = f"{self.price:g} USD a GB at list price"
            if self.bytes:
                cost += f", {self.bytes / 1e9:,.1f} GB and {self.unsized:,} of unknown size"
        return (
            f"the videos of {many} are read in {', '.join(self.here)}: {cost}, for the bucket's"
            " owner, or for you where the requester pays; workers in the region of the videos cost"
            " nothing of it"
        )

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "cost": round(self.cost, 4)}


def transfers(
    recipe: Recipe, takes: Iterable[tuple[Take, Sequence[str]]], here: Iterable[str]
) -> list[Transfer]:
    """What a job reads from other regions than `here`; empty where nothing says where that is.

    One HEAD for each bucket. What a mirror has is not read, but which machine has what is not known
    before: the most is said.

    Args:
        recipe: of the job.
        takes: each with the streams that are asked for.
        here: regions of the workers.
    """
    own = tuple(sorted(set(here)))
    if not own:
        return []
    dataset = recipe.dataset
    regions: dict[str, str | None] = {}
    found: dict[str, list[tuple[str, int | None]]] = {}
    for take, names in takes:
        for stream in take.streams:
            bucket = bucket_of(stream.uri) if stream.uri and stream.key in names else None
            if bucket is None:
                continue
            if bucket not in regions:
                _, s3 = dataset.where(stream)
                regions[bucket] = s3.region or region_of(bucket, s3)
            region = regions[bucket]
            if region and region not in own:
                found.setdefault(region, []).append((bucket, stream.size))
    return [
        Transfer(
            region,
            own,
            tuple(sorted({bucket for bucket, _ in some})),
            len(some),
            sum(size or 0 for _, size in some),
            sum(size is None for _, size in some),
            price_per_gb(region),
        )
        for region, some in sorted(found.items())
    ]


def machine_region() -> str | None:
    """The region of AWS that this machine is in, by its own metadata; None for any other machine.

    Nobody but a machine of EC2 is asked, unless AWS_EC2_METADATA_SERVICE_ENDPOINT says whom.
    """
    import botocore.session
    from botocore.utils import IMDSRegionProvider

    made_by = ""
    with suppress(OSError):
        made_by = _VENDOR.read_text()
    if "Amazon EC2" not in made_by and not os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        return None
    found = IMDSRegionProvider(botocore.session.Session()).provide()
    return str(found) if found else None
