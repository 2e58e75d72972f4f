"""The engine's typed boundary, over what a Serve handle does with its calls."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError

from service.engine.client import EngineBusy, EngineUnavailable, ServeEngineClient
from service.engine.refusal import Refusal
from service.jobs.claim import NotOwner
from workers.store.errors import StoreError


class Handle:
    """A Serve handle whose every method gives `outcome`: a value, an error, or a stream."""

    def __init__(self, outcome: Any) -> None:
        self.outcome, self.cancelled = outcome, 0

    def __getattr__(self, name: str) -> "Handle":
        return self

    def options(self, **_: object) -> "Handle":
        return self

    def remote(self, *_: object) -> "Handle":
        return self

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self.outcome:
            await asyncio.sleep(0)
            if isinstance(item, Exception):
                raise item
            yield item

    def cancel(self) -> None:
        self.cancelled += 1


def in_ray(error: Exception) -> Exception:
    """`error` as it comes out of a call over Ray."""
    return RayTaskError("Engine.call", 'File "/srv/x.py"', error).as_instanceof_cause()


Ask = Callable[[ServeEngineClient], Any]
ASKS: list[Ask] = [
    lambda client: client.prepare(None, None, ()),
    lambda client: client.submit(None, None),
    lambda client: client.job_stop("x"),
]


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize(
    ("outcome", "error", "words"),
    [
        (Refusal("the queue is full", 7), EngineBusy, "the queue is full"),
        (Refusal("on another host"), NotOwner, "on another host"),
        (in_ray(StoreError("cannot list")), StoreError, "^cannot list$"),
        (in_ray(ValueError("odd")), ValueError, "^odd$"),
        (BackPressureError(1, 1), EngineUnavailable, "does not answer"),
        (ActorUnavailableError("gone", None), EngineUnavailable, "does not answer"),
        (ConnectionResetError(), EngineUnavailable, "does not answer"),
    ],
)
def test_refusals_and_errors_are_typed_and_free_of_ray(
    ask: Ask, outcome: Any, error: type[Exception], words: str
) -> None:
    async def call() -> None:
        await ask(ServeEngineClient(Handle(outcome)))

    with pytest.raises(error, match=words) as raised:
        asyncio.run(call())
    assert type(raised.value) is error
    assert getattr(raised.value, "retry_after", 7) == 7


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.window(None, None, (), 0, 1),
        lambda client: client.job_events("x"),
    ],
)
def test_a_stream_is_typed_too_and_cancelled_when_it_is_left(ask: Ask) -> None:
    async def test() -> None:
        handle = Handle(["a", "b", "c"])
        items = ask(ServeEngineClient(handle))
        assert await anext(items) == "a"
        await items.aclose()
        assert handle.cancelled == 1
        handle = Handle(["a", in_ray(StoreError("gone"))])
        items = ask(ServeEngineClient(handle))
        assert await anext(items) == "a"
        with pytest.raises(StoreError, match=r"^gone$"):
            await anext(items)

    asyncio.run(test())


def test_a_window_that_came_to_its_end_is_not_cancelled() -> None:
    async def test() -> None:
        handle = Handle(["a", "b"])
        window = ServeEngineClient(handle).window(None, None, (), 0, 1)
        assert [item async for item in window] == ["a", "b"]
        assert handle.cancelled == 0
        full = ServeEngineClient(Handle([Refusal("full", 7)])).window(None, None, (), 0, 1)
        with pytest.raises(EngineBusy, match="full"):
            await anext(full)

    asyncio.run(test())
