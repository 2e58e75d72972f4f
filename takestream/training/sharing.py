"""Who else shares the samples of a data set out."""

import inspect

# Of accelerate: they hand a rank's samples, as read by one rank or by each, out to all ranks.
_SHARERS = frozenset({"DataLoaderDispatcher", "IterableDatasetShard"})


def by_accelerate() -> str | None:
    """The class of accelerate on whose behalf a data set is iterated, None where there is none.

    accelerate asks a data set nothing, so only the stack says it. A forked worker has that of the
    process that it was forked from.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("accelerate."):
            name = type(frame.f_locals.get("self")).__name__
            if name in _SHARERS:
                return name
        frame = frame.f_back
    return None
