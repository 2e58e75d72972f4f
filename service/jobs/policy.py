"""What a job may say when it comes from outside: over HTTP, or from a record in the output."""

from collections.abc import Sequence
from typing import Any

from configs.load import SettingsError, did_you_mean, merge, parse
from configs.schema import JobSpec, ServeSpec
from service.errors import Unknown
from takestream.storage import absolute

# What a job cannot set for itself on a service.
BY_SERVICE = ("run", "s3", "output_s3")
WEIGHTS = frozenset({"weights", "revision", "sha256"})


class NotAllowed(SettingsError):
    """A job that reaches outside what this service may touch."""


def within(uri: str, root: str) -> bool:
    """Whether `uri` is `root` or below it, by its text alone."""
    parts = uri.split("/")
    return ".." not in parts and "." not in parts and (uri + "/").startswith(root.rstrip("/") + "/")


def checked_job(body: dict[str, Any], spec: ServeSpec, presets: Sequence[str]) -> JobSpec:
    """A job as somebody sent it, made one that this service may run.

    Data set and output are the service's own or below them; how to reach and how to run them is
    the service's business. Raises SettingsError.
    """
    own = spec.job
    for name in BY_SERVICE:
        if body.get(name):
            raise NotAllowed(f"job: '{name}' is set by the service; leave it out")
    defaults = {
        "dataset": own.dataset,
        "output": own.output,
        "encoder": {"preset": own.encoder.preset},
        "select": {"resolution": own.select.resolution},
    }
    if isinstance(body.get("encoder"), str):
        body = {**body, "encoder": {"preset": body["encoder"]}}
    job = parse(JobSpec, merge(defaults, body), "job")
    for name, root in (("dataset", own.dataset), ("output", own.output)):
        place = absolute(getattr(job, name))
        if "::" in place or not within(place, absolute(root)):
            raise NotAllowed(f"job: {name} is not below the service's own, {root}")
    if job.encoder.preset not in presets:
        hint = did_you_mean(job.encoder.preset, presets)
        raise Unknown(f"job: this service offers no encoder '{job.encoder.preset}'{hint}")
    changes = job.encoder.model_dump(exclude_none=True, exclude={"preset"})
    if place_of := changes.keys() & WEIGHTS:
        raise NotAllowed(f"job: encoder.{min(place_of)} is set by the service; leave it out")
    encoder = job.encoder
    if encoder.preset == own.encoder.preset:
        # The service's own weights for it, and its other choices unless the job says otherwise.
        encoder = own.encoder.model_copy(update=changes)
    update: dict[str, Any] = {
        "run": own.run,
        "s3": own.s3,
        "output_s3": own.output_s3,
        "encoder": encoder,
    }
    if encoder.preset == own.encoder.preset and "grid" not in body:
        update["grid"] = own.grid
    return job.model_copy(update=update)


def resumed_job(spec: dict[str, Any], serve: ServeSpec) -> JobSpec:
    """A job as a record holds it, made one that this service may run; see `checked_job`.

    The output is not this service's alone, so its records are no more trusted than a caller; what
    the service sets itself is set anew. Raises SettingsError, Unknown.
    """
    body = {key: value for key, value in spec.items() if key not in BY_SERVICE}
    if isinstance(encoder := body.get("encoder"), dict):
        body["encoder"] = {k: v for k, v in encoder.items() if k not in WEIGHTS}
    return checked_job(body, serve, (serve.job.encoder.preset, *serve.encoders))
