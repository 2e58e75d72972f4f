"""What it costs to read from another region than one computes in: list prices of S3, by source."""

# USD for each GB that leaves a region for another one of AWS, as last known here. Prices change:
# look at https://aws.amazon.com/s3/pricing/ for today's.
ELSEWHERE = 0.02
BETWEEN_REGIONS = {
    "af-south-1": 0.147, "ap-east-1": 0.09, "ap-northeast-1": 0.09, "ap-northeast-2": 0.08,
    "ap-northeast-3": 0.09, "ap-south-1": 0.086, "ap-southeast-1": 0.09, "ap-southeast-2": 0.098,
    "me-south-1": 0.1105, "sa-east-1": 0.138,
}  # fmt: skip


def price_per_gb(source: str) -> float:
    """USD for each GB that is read from a region in another one; `ELSEWHERE` where none is listed.

    Args:
        source: the region that it is read from.
    """
    return BETWEEN_REGIONS.get(source, ELSEWHERE)
