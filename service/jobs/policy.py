"""What a job may say when it comes from outside: over HTTP, or from a record in the output."""

from collections.abc import Sequence
from typing import Any

from configs.faults import did_you_mean
from configs.load import SettingsError, over_job, parse
from configs.schema import EncoderChoice, JobSpec, ServeSpec, in_full
from service.errors import Unknown
from takestream.errors import ErrorKind
from takestream.storage import absolute
from workers.dataset.layouts import is_file_layout

# What a job cannot set for itself on a service.
BY_SERVICE = ("run", "s3", "output_s3", "mirror", "mirrors", "buckets", "dataset_licence")
WEIGHTS = frozenset({"weights", "revision", "sha256"})


class NotAllowed(SettingsError):
    """A job that reaches outside what this service may touch."""

    kind = ErrorKind.FORBIDDEN


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
        "encoders": [{"preset": own.encoder.preset}],
        "select": {"resolution": own.select.resolution},
    }
    job = parse(JobSpec, over_job(defaults, body, "job"), "job")
    places = [("dataset", job.dataset, own.dataset), ("output", job.output, own.output)]
    if job.segments is not None:
        places.append(("segments", job.segments, own.dataset))
    for name, given, root in places:
        place = absolute(given)
        if "::" in place or not within(place, absolute(root)):
            raise NotAllowed(f"job: {name} is not below the service's own, {root}")
    if is_file_layout(job.dataset) and absolute(job.dataset) != absolute(own.dataset):
        raise NotAllowed("job: dataset is a file, which may name videos anywhere")
    encoders = tuple(_allowed(choice, own.encoder, presets) for choice in job.encoders)
    update: dict[str, Any] = {
        "run": own.run,
        "s3": own.s3,
        "output_s3": own.output_s3,
        "mirrors": own.mirrors,
        "buckets": own.buckets,
        "dataset_licence": own.dataset_licence,
        "encoders": encoders,
    }
    if [choice.preset for choice in encoders] == [own.encoder.preset] and "grid" not in body:
        update["grid"] = own.grid
    return job.model_copy(update=update)


def _allowed(choice: EncoderChoice, own: EncoderChoice, presets: Sequence[str]) -> EncoderChoice:
    if choice.preset not in presets:
        hint = did_you_mean(choice.preset, presets)
        raise Unknown(f"job: this service offers no encoder '{choice.preset}'{hint}")
    changes = choice.model_dump(exclude_none=True, exclude={"preset"})
    if place_of := changes.keys() & WEIGHTS:
        raise NotAllowed(f"job: encoder.{min(place_of)} is set by the service; leave it out")
    # The service's own weights for its default, and its other choices unless the job names some.
    return own.model_copy(update=changes) if choice.preset == own.preset else choice


def resumed_job(spec: dict[str, Any], serve: ServeSpec) -> JobSpec:
    """A job as a record holds it, made one that this service may run; see `checked_job`.

    The output is not this service's alone, so its records are no more trusted than a caller; what
    the service sets itself is set anew. Raises SettingsError, Unknown.
    """
    kept = {key: value for key, value in spec.items() if key not in BY_SERVICE}
    try:
        body = in_full(kept)
    except ValueError as error:
        raise SettingsError(f"job: {error}") from None
    if "encoders" in body:
        body["encoders"] = [
            {k: v for k, v in one.items() if k not in WEIGHTS} if isinstance(one, dict) else one
            for one in body["encoders"]
        ]
    return checked_job(body, serve, (serve.job.encoder.preset, *serve.encoders))
