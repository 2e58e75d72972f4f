"""The takes of the data set, the encoders on offer, and which stores there are."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from configs.faults import did_you_mean
from configs.load import SettingsError
from configs.schema import EncoderChoice, GridChoice, JobSpec, ServeSpec
from service.errors import Unknown
from service.features.overview import EncoderOverview, overview
from service.features.refreshed import RefreshedValue
from takestream.storage import S3Options, join
from takestream.stores import (
    ON_DEMAND,
    is_encoder_id,
    is_store,
    preset_of,
    store_uri,
    uid_of,
)  # fmt: skip
from workers.dataset.annotations import Annotations
from workers.dataset.base import Dataset
from workers.dataset.layouts import annotations_of, dataset_of
from workers.dataset.take import Take
from workers.media.source import ObjectIdentity
from workers.run.recipe import Recipe, make_recipe
from workers.store.objects import Objects

# How long the list of takes and the listing of stores may be behind the storage, in seconds.
FRESH_SECONDS = 10.0
# The same for the overview, which reads a catalogue, or a root for each store that is not in one.
OVERVIEW_SECONDS = 60.0
# Annotations of a release hardly ever change, and are large.
ANNOTATIONS_SECONDS = 600.0


@dataclass(frozen=True)
class Variant:
    """One `encoder_id`; without a recipe (another job's settings) it can be read, not computed."""

    encoder_id: str
    recipe: Recipe | None


@dataclass(frozen=True)
class _Listed:
    """The takes of one version of `takes.json`, by uid, and their uids by name."""

    identity: ObjectIdentity | None
    takes: Mapping[str, Take]
    uids: Mapping[str, str]


class Catalogue:
    """The takes of the data set, the encoders on offer, and which stores there are.

    Methods read from the storage now and then, and may be called from several threads.
    """

    def __init__(self, spec: ServeSpec) -> None:
        self.spec = spec
        self._lock = threading.Lock()
        self._recipes: dict[tuple[str, float | None], Recipe] = {}
        self._takes = RefreshedValue(self._read, FRESH_SECONDS)
        self._stores = RefreshedValue(self._list, FRESH_SECONDS)
        self._annotations = RefreshedValue(self._annotated, ANNOTATIONS_SECONDS)
        self._overview = RefreshedValue(self._look, OVERVIEW_SECONDS)

    @property
    def default(self) -> str:
        """The preset that is used when a request names none."""
        return self.spec.job.encoder.preset

    @property
    def presets(self) -> list[str]:
        """The presets on offer, the default first."""
        return list(dict.fromkeys((self.default, *self.spec.encoders)))

    def takes(self) -> list[Take]:
        """All takes, in the data set's order. Raises DatasetError, StorageError."""
        return list(self._takes.get().takes.values())

    def check_dataset(self) -> None:
        """Raise DatasetError or StorageError when takes.json could not be read just now.

        `takes` and `take` go on with what was read before.
        """
        self._takes.get()
        if self._takes.error is not None:
            raise self._takes.error

    def take(self, name: str) -> Take:
        """A take by its uid or its name. Raises Unknown, DatasetError, StorageError."""
        listed = self._takes.get()
        found = listed.takes.get(name) or listed.takes.get(listed.uids.get(name, ""))
        if found is None:
            names = [*listed.uids, *listed.takes]
            near = did_you_mean(name[:200], names).split("; valid")[0]
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
            recipe = self._placed(encoder or self.default, fps)
            return Variant(recipe.target.encoder_id, recipe)
        for preset in self.presets:
            if preset_of(encoder) == preset:
                recipe = self._placed(preset, fps)
                if recipe.target.encoder_id == encoder:
                    return Variant(encoder, recipe)
        if fps is None and encoder in self.stores():
            return Variant(encoder, None)
        names = [*self.presets, *self.stores()]
        hint = did_you_mean(encoder[:200], names)
        raise Unknown(f"this service has no encoder '{encoder[:200]}'{hint}")

    def _placed(self, preset: str, fps: float | None) -> Recipe:
        """The recipe of a preset at a rate, and where its stores belong.

        A grid that is neither the service's own nor in the output gets stores that may be removed.
        """
        recipe = self.recipe(preset, fps)
        encoder_id = recipe.target.encoder_id
        own = encoder_id == self.recipe(preset).target.encoder_id
        if own or encoder_id in self.stores():
            return recipe
        place = {"output": join(recipe.job.output, ON_DEMAND)}
        return replace(recipe, job=recipe.job.model_copy(update=place))

    def stores(self) -> Mapping[str, frozenset[str]]:
        """By encoder_id, the uids of the takes that have a store. Raises StorageError."""
        return self._stores.get()

    def annotations(self) -> Annotations:
        """What the data set's annotation files say. Raises DatasetError."""
        return self._annotations.get()

    def overview(self) -> list[EncoderOverview]:
        """What the output holds, encoder by encoder. Raises DatasetError, StorageError."""
        return self._overview.get()

    def encoder_ids(self) -> Sequence[str]:
        """The encoder_ids that there are stores of, as of now. Raises StorageError."""
        return [name for name in self._objects().folders() if is_encoder_id(name)]

    def store_uri(self, encoder_id: str, take_uid: str) -> str:
        """Where the store of a take is."""
        return store_uri(self.output, encoder_id, take_uid)

    @property
    def output(self) -> str:
        """The root of all stores."""
        return self.recipe().job.output

    @property
    def dataset(self) -> Dataset:
        """The data set; nothing of it is read yet."""
        return self.recipe().dataset

    @property
    def output_s3(self) -> S3Options:
        """How to reach the stores."""
        return self.recipe().output_s3

    def _job(self, preset: str, fps: float | None) -> JobSpec:
        job = self.spec.job
        changes: dict[str, object] = {}
        if preset != job.encoder.preset:
            changes = {"encoders": (EncoderChoice(preset=preset),), "grid": GridChoice()}
        if fps is not None:
            grid = changes.get("grid", job.grid)
            assert isinstance(grid, GridChoice)
            changes["grid"] = grid.model_copy(update={"fps": fps})
        return job.model_copy(update=changes)

    def _read(self, old: _Listed | None) -> _Listed:
        dataset = dataset_of(self.spec.job)
        try:
            identity = dataset.identity()
        except FileNotFoundError:
            identity = None  # reading it says so properly
        if old is not None and identity is not None and identity == old.identity:
            return old
        takes = dataset.takes()
        by_uid = {take.uid: take for take in takes}
        return _Listed(identity, by_uid, {take.name: take.uid for take in takes})

    def _annotated(self, old: Annotations | None) -> Annotations:
        return annotations_of(self.spec.job, old)

    def _look(self, old: list[EncoderOverview] | None) -> list[EncoderOverview]:
        return overview(self.output, (take.uid for take in self.takes()), self.output_s3)

    def _list(self, old: Mapping[str, frozenset[str]] | None) -> Mapping[str, frozenset[str]]:
        def uids(encoder_id: str) -> frozenset[str]:
            stores = self._objects(encoder_id).folders()
            return frozenset(uid_of(name) for name in stores if is_store(name))

        ids = self.encoder_ids()
        with ThreadPoolExecutor(8) as pool:
            found = zip(ids, pool.map(uids, ids), strict=True)
            return {encoder_id: some for encoder_id, some in found if some}

    def _objects(self, *folder: str) -> Objects:
        job = self.spec.job
        return Objects(join(job.output, *folder), job.reach_output)


def check_offer(spec: ServeSpec) -> None:
    """Raise SettingsError for a preset that there is not."""
    from configs.load import encoder_presets

    presets = encoder_presets()
    for name in (spec.job.encoder.preset, *spec.encoders):
        if name not in presets:
            hint = did_you_mean(name, presets)
            raise SettingsError(f"encoder: there is no preset '{name}'{hint}")
