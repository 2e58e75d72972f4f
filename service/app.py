"""The Ray Serve application: one or more replicas, and one engine.

For a RayService or `serve run`: `import_path: service.app:build`, with a `ServeSpec` as `args`.
"""

import logging
import os
import secrets
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from configs.load import SettingsError, parse
from configs.schema import ServeSpec
from service.api.keys import KeyRing
from service.engine.engine import Engine
from service.features.catalogue import check_offer
from takestream.licence import NOT_SAID
from takestream.storage import absolute
from workers.dataset.layouts import licence_of

NAME = "takestream"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
GRACE_SECONDS = 30.0


class _Engine(Engine):
    """The engine as a Serve deployment."""

    async def __init__(self, settings: dict[str, Any]) -> None:  # type: ignore[misc]
        super().__init__(settings)

    async def __del__(self) -> None:
        await self.close()


def build(settings: dict[str, Any]) -> Any:
    """The application from a `ServeSpec`. Raises SettingsError.

    Without keys everybody may do everything, so then it has to be on loopback or `insecure`.
    """
    spec = checked(parse(ServeSpec, settings, "serve"))
    keys = KeyRing.load(spec.keys_file, os.environ)
    secret = secrets.token_bytes(32)
    facts = spec.model_dump(mode="json")
    engine = serve.deployment(  # type: ignore[attr-defined]
        _Engine,
        name="Engine",
        num_replicas=1,
        max_ongoing_requests=10_000,
        graceful_shutdown_timeout_s=GRACE_SECONDS,
        ray_actor_options={"num_cpus": 0},
    ).bind(facts)

    def api() -> Any:
        from service.api.app import create_app
        from service.api.context import ApiContext
        from service.api.metrics import log_to_stderr
        from service.engine.client import ServeEngineClient

        log_to_stderr()
        logging.getLogger("takestream").setLevel(logging.INFO)
        # A RayService may give the application another name.
        name = serve.get_replica_context().app_name
        handle: DeploymentHandle[Any] = serve.get_deployment_handle("Engine", app_name=name)
        client = ServeEngineClient(handle)
        return create_app(ApiContext(ServeSpec.model_validate(facts), keys, secret, client))

    return serve.deployment(  # type: ignore[attr-defined]
        serve.ingress(api)(_Api),
        name="Api",
        num_replicas=spec.replicas,
        max_ongoing_requests=1_000,
        graceful_shutdown_timeout_s=GRACE_SECONDS,
        ray_actor_options={"num_cpus": 0},
    ).bind(engine)


class _Api:
    """A replica; it takes the engine as an argument so that Serve deploys both."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine


def video_warning(spec: ServeSpec) -> str | None:
    """What to say before other machines can play videos of the data set; None where none can."""
    if spec.host in LOOPBACK or not spec.videos:
        return None
    # The takes, of which each may name its own, are not read yet.
    also = "" if spec.job.dataset_licence else "; a take may name another"
    licence = f"{licence_of(spec.job) or NOT_SAID}{also}"
    return (
        f"on {spec.host} this service streams the data set's videos to other machines, where they"
        f" may only be seen under the data set's licence ({licence});"
        " --no-video switches videos off"
    )


def checked(spec: ServeSpec) -> ServeSpec:
    """The spec with absolute places. Raises SettingsError for one that must not be served."""
    check_offer(spec)
    open_to_all = KeyRing.load(spec.keys_file, os.environ) is None
    if open_to_all and not spec.insecure and spec.host not in LOOPBACK:
        raise SettingsError(
            f"without keys this service answers everybody, so it does not listen on {spec.host}: "
            "give --keys-file (`takestream keys new NAME` makes keys), or --insecure"
        )
    places = {"dataset": absolute(spec.job.dataset), "output": absolute(spec.job.output)}
    update: dict[str, Any] = {"job": spec.job.model_copy(update=places)}
    if spec.keys_file is not None:
        update["keys_file"] = absolute(spec.keys_file)
    return spec.model_copy(update=update)
