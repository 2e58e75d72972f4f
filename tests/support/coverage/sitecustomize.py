"""On the path of `make coverage`: lines that run in Ray's workers count too.

Every process of a run starts coverage by itself (`patch = ["subprocess"]`). Two things are missing
in Ray's: it kills workers without a goodbye, so they save once a second; and it calls the methods
of actors in threads that Python did not start, so tracing starts with the call.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

SAVE_SECONDS = 1.0


def _save() -> None:
    import coverage

    while True:
        time.sleep(SAVE_SECONDS)
        running = coverage.Coverage.current()
        if running is not None:
            with suppress(Exception):
                running.save()


def _trace_methods() -> None:
    from ray._private.function_manager import FunctionActorManager

    make = FunctionActorManager._make_actor_method_executor

    def made(manager: Any, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def traced(*args: Any, **options: Any) -> Any:
            if sys.gettrace() is None and (tracer := threading.gettrace()) is not None:
                sys.settrace(tracer)
            return method(*args, **options)

        return make(manager, name, traced)

    FunctionActorManager._make_actor_method_executor = made


if os.environ.get("COVERAGE_PROCESS_CONFIG") and any(
    argument.endswith("default_worker.py") for argument in sys.orig_argv
):
    threading.Thread(target=_save, name="save coverage", daemon=True).start()
    _trace_methods()
