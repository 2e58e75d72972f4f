"""Evaluations, kept beside the stores that they judge; the page of a run's report shows them."""

import fnmatch
import hashlib
import json
import logging
from typing import Any

from service.evaluate.evaluation import Evaluation
from service.transfer.stored import Chosen
from takestream.errors import StorageError
from takestream.storage import S3Options
from workers.store.objects import Objects

log = logging.getLogger(__name__)

EVALUATIONS = "evaluations"
"""The folder of them, beside the stores of an encoder."""


def keep(evaluation: Evaluation, chosen: Chosen, s3: S3Options) -> str | None:
    """Write the facts of an evaluation; its URI, or None where the folder may not be written.

    Another one with the same settings is replaced.
    """
    folder = chosen.takes[0].uri.rpartition("/")[0]
    facts = evaluation.facts()
    settings = json.dumps(facts["settings"], sort_keys=True)
    name = f"{EVALUATIONS}/{hashlib.sha256(settings.encode()).hexdigest()[:12]}.json"
    objects = Objects(folder, s3)
    try:
        objects.put(name, json.dumps(facts, indent=1).encode())
    except StorageError as error:
        log.info("the evaluation was not kept: %s", error)
        return None
    return f"{objects.uri}/{name}"


def kept(folder: str, s3: S3Options) -> list[dict[str, Any]]:
    """The evaluations in the folder of an encoder, as `Evaluation.facts` gave them.

    Raises:
        StorageError: The storage fails.
    """
    objects = Objects(f"{folder.rstrip('/')}/{EVALUATIONS}", s3)
    found = []
    for name in sorted(fnmatch.filter(objects.listing(), "*.json")):
        try:
            facts = json.loads(objects.get(name) or b"")
        except ValueError:
            continue
        if isinstance(facts, dict) and {"rows", "settings", "encoder_id"} <= set(facts):
            found.append(facts)
    return found
