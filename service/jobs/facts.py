"""What the data set says of takes, put into the stores of an output without touching a feature."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from configs.load import SettingsError
from service.jobs.mend import job_of
from takestream.catalogue import EncoderFolder, folders_of
from takestream.storage import S3Options
from takestream.stores import is_encoder_id, uid_of
from workers.dataset.layouts import dataset_of, open_dataset
from workers.store.catalogue import refresh_quietly
from workers.store.errors import StoreError, StoreMismatch
from workers.store.refresh import refresh_facts
from workers.store.takestore import TakeStore

_AT_ONCE = 16
Tell = Callable[[str], None]


@dataclass
class FactsRefreshed:
    """What came of it, of one encoder's stores.

    Attributes:
        encoder_id: Of the stores.
        dataset: URI of the data set.
        changed: URIs of stores that say something else now.
        same: How many said it already.
        unknown: Uids of stores whose take the data set does not have.
        unreadable: By URI, why a store could not be changed.
    """

    encoder_id: str
    dataset: str
    changed: list[str] = field(default_factory=list)
    same: int = 0
    unknown: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def refresh_output_facts(
    output: str,
    s3: S3Options,
    *,
    encoder: str | None = None,
    dataset: str | None = None,
    dataset_s3: S3Options | None = None,
) -> list[FactsRefreshed]:
    """Make the stores of an output say what the data set says of their takes now.

    Args:
        output: An output, or an encoder's folder in it.
        s3: How to reach it.
        encoder: An encoder_id or preset alone.
        dataset: URI of the data set; the one that the newest report beside the stores names
            without.
        dataset_s3: How to reach that data set.

    Raises:
        SettingsError: No report names the data set.
        DatasetError: The data set cannot be read.
        StorageError: The storage fails.
    """
    takes: dict[str, Mapping[str, dict[str, Any]]] = {}
    found = []
    for folder in folders_of(output, encoder, s3):
        if not is_encoder_id(folder.encoder_id):
            continue
        if dataset is not None:
            uri, opened = dataset, open_dataset(dataset, s3=dataset_s3 or s3)
        else:
            try:
                job = job_of(folder.uri, s3, None)
            except SettingsError:
                raise SettingsError(
                    f"{folder.uri}: no report beside these stores says of which data set they are:"
                    " name it by --dataset"
                ) from None
            uri, opened = job.dataset, dataset_of(job)
        if uri not in takes:
            takes[uri] = {take.uid: take.facts() for take in opened.takes()}
        found.append(_refreshed(folder, uri, takes[uri], s3))
        refresh_quietly(folder.uri.rpartition("/")[0], [folder.encoder_id], s3)
    return found


def _refreshed(
    folder: EncoderFolder, dataset: str, facts: Mapping[str, dict[str, Any]], s3: S3Options
) -> FactsRefreshed:
    result = FactsRefreshed(folder.encoder_id, dataset)

    def refresh(uri: str) -> bool | str:
        try:
            return refresh_facts(TakeStore.open(uri, s3, writable=True), facts[uid_of(uri)])
        except (StoreError, StoreMismatch) as error:
            return str(error)

    result.unknown = [uid_of(uri) for uri in folder.stores if uid_of(uri) not in facts]
    known = [uri for uri in folder.stores if uid_of(uri) in facts]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for uri, outcome in zip(known, pool.map(refresh, known), strict=True):
            if isinstance(outcome, str):
                result.unreadable[uri] = outcome
            elif outcome:
                result.changed.append(uri)
            else:
                result.same += 1
    return result
