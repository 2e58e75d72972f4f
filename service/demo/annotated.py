"""What happens in the example's takes, in the form of Ego-Exo4D's annotation files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# By take: keysteps (start, end, what), and descriptions (when, what), in seconds.
_SEEN: Mapping[str, tuple[list[tuple[float, float, str]], list[tuple[float, str]]]] = {
    "alpha_balance01_1": (
        [
            (0.0, 0.8, "Step onto the treadmill"),
            (0.8, 2.2, "Swing a leg out to the side"),
            (2.2, 4.4, "Stand with both arms spread"),
            (4.4, 5.8, "Swing the leg back"),
            (5.8, 6.6, "Step backwards"),
        ],
        [
            (0.3, "A man in black shorts walks on a treadmill that stands still"),
            (0.9, "He lifts both arms"),
            (1.6, "He leans far over, one leg in the air"),
            (2.4, "Both feet are on the floor again"),
            (3.3, "The arms are spread wide"),
            (4.2, "He begins to move backwards"),
            (4.9, "He leans over once more"),
            (6.1, "He walks back with the arms down"),
        ],
    ),
    "beta_duet01_2": (
        [
            (0.0, 0.9, "Watch the other"),
            (0.9, 2.4, "Move aside"),
            (2.4, 4.2, "Face each other"),
            (4.2, 6.2, "Move back"),
        ],
        [
            (0.4, "A woman in a white shirt watches a man who walks towards her"),
            (1.6, "He swings a leg out, she bends away and lifts a hand"),
            (3.2, "They stand before each other"),
            (5.7, "He walks away backwards, she stands still"),
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
