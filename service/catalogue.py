"""What a service has to offer: takes, and the encoders they may be encoded with."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from configs.load import SettingsError, did_you_mean
from configs.schema import EncoderChoice, GridChoice, JobSpec, ServeSpec
from takestream.storage import S3Options, join
from workers.dataset import Take, read_takes
from workers.objects import Objects
from workers.recipe import Recipe, make_recipe
from workers.source import ObjectIdentity, Source

# How long the list of takes and the listing of stores may be behind the storage, in seconds.
FRESH_SECONDS = 10.0


class Unknown(LookupError):
    """There is no take, encoder or stream of that name; the message names the nearest."""


@dataclass(frozen=True)
class Variant:
    """One `encoder_id`; without a recipe (another job's settings) it can be read, not computed."""

    encoder_id: str
    recipe: Recipe | None


class Catalogue:
    """The takes of the data set, the encoders on offer, and which stores there are.

    Methods read from the storage now and then, and may be called from several threads.
    """

    def __init__(self, spec: ServeSpec) -> None:
        self.spec = spec
        self._lock = threading.Lock()
        self._takes: dict[str, Take] = {}
        self._names: dict[str, str] = {}
        self._identity: ObjectIdentity | None = None
        self._checked = 0.0
        self._recipes: dict[tuple[str, float | None], Recipe] = {}
        self._stores: Mapping[str, frozenset[str]] = {}
        self._listed = 0.0

    @property
    def default(self) -> str:
        """The preset that is used when a request names none."""
        return self.spec.job.encoder.preset

    @property
    def presets(self) -> list[str]:
        """The presets on offer, the default first."""
        return list(dict.fromkeys((self.default, *self.spec.encoders)))

    def takes(self) -> list[Take]:
        """All takes, in the data set's order. Raises DatasetError, SourceError."""
        with self._lock:
            if time.monotonic() - self._checked > FRESH_SECONDS:
                self._read()
            return list(self._takes.values())

    def take(self, name: str) -> Take:
        """A take by its uid or its name. Raises Unknown."""
        self.takes()
        found = self._takes.get(name) or self._takes.get(self._names.get(name, ""))
        if found is None:
            near = did_you_mean(name[:200], [*self._names, *self._takes]).split("; valid")[0]
            raise Unknown(f"the data set has no take '{name[:200]}'{near}")
        return found

    def recipe(self, preset: str | None = None, fps: float | None = None) -> Recipe:
        """The recipe of a preset on offer. Raises Unknown, SettingsError, ModelError."""
        preset = preset or self.default
        if preset not in self.presets:
            hint = did_you_mean(preset[:200], self.presets)
            raise Unknown(f"this service offers no encoder '{preset[:200]}'{hint}")
        with self._lock:
            known = self._recipes.get((preset, fps))
        if known is None:
            known = make_recipe(self._job(preset, fps))
            with self._lock:
                if len(self._recipes) > 100:  # one more for each fps that anybody asks for
                    self._recipes.clear()
                self._recipes[preset, fps] = known
        return known

    def variant(self, encoder: str | None = None, fps: float | None = None) -> Variant:
        """What `encoder` means: a preset on offer, or a whole encoder_id that has stores.

        Raises Unknown, ModelError.
        """
        if encoder is None or encoder in self.presets:
            recipe = self.recipe(encoder, fps)
            return Variant(recipe.encoder_id, recipe)
        for preset in self.presets:
            if encoder.rpartition("-")[0] == preset:
                recipe = self.recipe(preset, fps)
                if recipe.encoder_id == encoder:
                    return Variant(encoder, recipe)
        if fps is None and encoder in self.stores():
            return Variant(encoder, None)
        names = [*self.presets, *self.stores()]
        hint = did_you_mean(encoder[:200], names)
        raise Unknown(f"this service has no encoder '{encoder[:200]}'{hint}")

    def stores(self) -> Mapping[str, frozenset[str]]:
        """By encoder_id, the uids of the takes that have a store. Raises StoreError."""
        with self._lock:
            if time.monotonic() - self._listed > FRESH_SECONDS:
                self._stores = self._list()
                self._listed = time.monotonic()
            return self._stores

    def store_uri(self, encoder_id: str, take_uid: str) -> str:
        """Where the store of a take is."""
        return join(self.output, encoder_id, f"{take_uid}.zarr")

    @property
    def output(self) -> str:
        """The root of all stores."""
        return self.recipe().job.output

    @property
    def source_s3(self) -> S3Options:
        """How to reach the data set."""
        return self.recipe().source_s3

    @property
    def output_s3(self) -> S3Options:
        """How to reach the stores."""
        return self.recipe().output_s3

    def _job(self, preset: str, fps: float | None) -> JobSpec:
        job = self.spec.job
        changes: dict[str, object] = {}
        if preset != job.encoder.preset:
            changes = {"encoder": EncoderChoice(preset=preset), "grid": GridChoice()}
        if fps is not None:
            grid = changes.get("grid", job.grid)
            assert isinstance(grid, GridChoice)
            changes["grid"] = grid.model_copy(update={"fps": fps})
        return job.model_copy(update=changes)

    def _read(self) -> None:
        job = self.spec.job
        s3 = S3Options(**job.s3.model_dump())
        try:
            identity = Source(join(job.dataset, "takes.json"), s3).identity()
        except FileNotFoundError:
            identity = None  # reading it says so properly
        if identity is None or identity != self._identity:
            takes = read_takes(job.dataset, job.select.resolution, s3)
            self._takes = {take.uid: take for take in takes}
            self._names = {take.name: take.uid for take in takes}
            self._identity = identity
        self._checked = time.monotonic()

    def _list(self) -> Mapping[str, frozenset[str]]:
        job = self.spec.job
        s3 = S3Options(**(job.output_s3 or job.s3).model_dump())
        found = {}
        for encoder_id in Objects(job.output, s3).folders():
            stores = Objects(join(job.output, encoder_id), s3).folders()
            uids = {name.removesuffix(".zarr") for name in stores if name.endswith(".zarr")}
            if uids:
                found[encoder_id] = frozenset(uids)
        return found


def check_offer(spec: ServeSpec) -> None:
    """Raise SettingsError for a preset that there is not."""
    from configs.load import encoder_presets

    presets = encoder_presets()
    for name in (spec.job.encoder.preset, *spec.encoders):
        if name not in presets:
            hint = did_you_mean(name, presets)
            raise SettingsError(f"encoder: there is no preset '{name}'{hint}")
