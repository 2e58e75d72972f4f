"""Whether a store's clips are those of the task's span as the data set has it now."""

from takestream.facts import task_span
from takestream.schema import TASK_SPAN
from workers.dataset.take import Take
from workers.run.recipe import Recipe
from workers.store.takestore import TakeStore

Span = tuple[float, float] | None


def span_then(store: TakeStore) -> Span:
    """Seconds `[start, end)` that a store's clips were cut to; None where it has the whole take."""
    provenance = store.attributes.get("provenance", {})
    if not provenance.get("task_span"):
        return None
    if TASK_SPAN in provenance:
        span = provenance[TASK_SPAN]
        return None if span is None else (float(span[0]), float(span[1]))
    # Of before the span was noted beside the clips.
    return task_span(store.attributes.get("take", {}))


def span_changed(recipe: Recipe, store: TakeStore, take: Take) -> bool:
    """Whether a job of task spans cuts the take to another one than its store was cut to."""
    return recipe.job.select.task_span and span_then(store) != recipe.span(take)
