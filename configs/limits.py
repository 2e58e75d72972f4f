"""What one request, one key and the queue of a service may take."""

from typing import Annotated

from pydantic import Field

from configs.base import Settings

PositiveInt = Annotated[int, Field(ge=1)]


class LimitsSpec(Settings):
    """What one request, one key and the queue may take. Clips are counted per stream.

    answer_clips: of one answer; more is refused (413). compute_clips: computed for one answer;
        more becomes a job (202), unless the answer is streamed.
    requests_per_key: under way at once, before 429; videos and job events are counted apart.
    queue: windows waiting for a worker, before 503.
    segments: of one request. body_bytes: of a request's body. bodies_bytes: of the bodies of all
        requests under way, before 503. jobs: not ended yet. scratch_bytes: of stores on grids that
        are not the service's own, which are kept for a while; the least recently used go first.
    """

    answer_clips: PositiveInt = 20_000
    compute_clips: PositiveInt = 2_000
    requests_per_key: PositiveInt = 16
    queue: PositiveInt = 32
    segments: PositiveInt = 2_000
    body_bytes: PositiveInt = 8 * 2**20
    bodies_bytes: PositiveInt = 256 * 2**20
    jobs: PositiveInt = 100
    scratch_bytes: PositiveInt = 2 * 2**30
