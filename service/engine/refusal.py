"""What the engine's methods return instead of a result.

They are called over Ray, where an exception is logged with its traceback as a failed task.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Why the engine does not do what was asked.

    Attributes:
        detail: The reason, for the caller.
        retry_after: Seconds after which the same call may be accepted; None when another process
            owns what was asked for.
    """

    detail: str
    retry_after: int | None = None
