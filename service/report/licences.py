"""Under which licences a job's features will stand, and which encoders are non-commercial."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from configs.schema import EncoderSpec
from takestream.licence import NOT_SAID, Licence, encoder_licence
from workers.dataset.layouts import licence_of
from workers.dataset.take import Take
from workers.run.recipe import Recipe

NON_COMMERCIAL = "non-commercial"


def spec_licence(spec: EncoderSpec) -> Licence | None:
    """Of an encoder's weights, as its preset says; None where that is not known."""
    return encoder_licence({"licence": spec.licence, "source": spec.source})


def is_non_commercial(spec: EncoderSpec) -> bool:
    """Whether the licence of an encoder's weights says so in its name."""
    licence = spec_licence(spec)
    return licence is not None and licence.is_non_commercial


def job_licences(recipe: Recipe, takes: Sequence[tuple[Take, Any]]) -> dict[str, Any]:
    """The licences of a job, JSON-able.

    Returns:
        `videos`: name, link and number of takes of each licence, None for what nobody said;
        `encoders`: by encoder_id, name, link and whether it is non-commercial.
    """
    videos: dict[Licence | None, int] = {}
    for take, _ in takes:
        licence = licence_of(recipe.job, take)
        videos[licence] = videos.get(licence, 0) + 1
    encoders = {target.encoder_id: spec_licence(target.encoder) for target in recipe.targets}
    return {
        "videos": [
            {"licence": None if licence is None else licence.facts(), "takes": count}
            for licence, count in videos.items()
        ],
        "encoders": {
            name: None
            if licence is None
            else {**licence.facts(), "non_commercial": licence.is_non_commercial}
            for name, licence in encoders.items()
        },
    }


def licence_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What `job_licences` found, for a person: a line for each licence."""
    for entry in facts["videos"]:
        licence = (
            Licence.of(entry["licence"]) or f"{NOT_SAID}; --dataset-licence 'NAME URL' says it"
        )
        takes = f"{entry['takes']} take{'' if entry['takes'] == 1 else 's'}"
        of = "the videos" if len(facts["videos"]) == 1 else f"the videos of {takes}"
        yield f"licence of {of}: {licence}"
    for name, entry in facts["encoders"].items():
        sort = f"{NON_COMMERCIAL}: " if entry and entry["non_commercial"] else ""
        yield f"licence of {name}: {sort}{Licence.of(entry) or NOT_SAID}"
