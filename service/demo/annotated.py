"""What happens in the example's takes, in the form of Ego-Exo4D's annotation files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# By take: keysteps (start, end, what), and descriptions (when, what), in seconds.
_SEEN: Mapping[str, tuple[list[tuple[float, float, str]], list[tuple[float, str]]]] = {
    "alpha_street01_1": (
        [
            (0.7, 1.4, "Walk between the cars"),
            (1.4, 2.7, "Pass the taxi"),
            (2.7, 4.7, "Wait behind the van"),
            (4.7, 6.0, "Look along the street"),
            (6.0, 8.3, "Pass the parked bicycle"),
        ],
        [
            (0.3, "A white roof is seen from above"),
            (1.0, "A man in a suit walks between parked cars"),
            (2.3, "The sign of a taxi comes into view"),
            (3.0, "A grey van drives past a red light"),
            (4.3, "A cyclist with a helmet waits beside the van"),
            (5.3, "A black car drives by behind a green railing"),
            (6.3, "A person in dark trousers walks past a bicycle"),
            (7.6, "A bicycle leans against a wall behind a bollard"),
        ],
    ),
    "beta_meadow01_2": (
        [
            (0.0, 1.2, "Crawl out of the burrow"),
            (1.2, 3.3, "Stretch"),
            (3.3, 5.2, "Rub the eyes"),
            (5.2, 6.2, "Yawn"),
        ],
        [
            (0.4, "A big rabbit looks out of its burrow"),
            (1.7, "The rabbit stands up and stretches both arms"),
            (3.7, "The rabbit rubs its face"),
            (5.7, "The rabbit yawns with an arm stretched out"),
        ],
    ),
}


def write_annotations(directory: Path, uids: Mapping[str, str]) -> None:
    """Write the annotation files of the example.

    Args:
        directory: The data set's root.
        uids: By name, of its takes.
    """
    keysteps: dict[str, Any] = {}
    described: dict[str, Any] = {}
    for name, (steps, said) in _SEEN.items():
        uid = uids[name]
        keysteps[uid] = {
            "take_uid": uid,
            "take_name": name,
            "segments": [
                {"start_time": start, "end_time": end, "step_id": number, "step_name": what}
                for number, (start, end, what) in enumerate(steps)
            ],
        }
        moments = [{"timestamp": when, "text": what, "subject": "C"} for when, what in said]
        described[uid] = [{"annotation_uid": name, "rejected": False, "descriptions": moments}]
    folder = directory / "annotations"
    folder.mkdir(exist_ok=True)
    for file, entries in (("keystep", keysteps), ("atomic_descriptions", described)):
        text, path = (
            json.dumps({"annotations": entries}, indent=1) + "\n",
            folder / f"{file}_train.json",
        )
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
