"""What is said of the example's takes, in the form of Ego-Exo4D's annotation files."""

from collections.abc import Mapping
from typing import Any

# By split, the take that is of it.
SPLITS = {"train": "alpha_balance01_1", "val": "beta_duet01_2"}
# A take that `takes.json` does not have; `splits.json` of the real data set names such too.
_ELSEWHERE = "00000000-0000-4000-8000-000000000000"

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


def annotation_files(uids: Mapping[str, str]) -> dict[str, Any]:
    """The annotation files of the example by their names, as JSON values.

    Args:
        uids: By name, of its takes.
    """
    files: dict[str, Any] = {}
    # One numbering for all splits, so that files put together mix no two steps.
    every = [text for steps, _ in _SEEN.values() for _, _, text in steps]
    words = {text: number for number, text in enumerate(every)}
    for split, name in SPLITS.items():
        uid = uids[name]
        steps, said = _SEEN[name]
        files[f"keystep_{split}"] = {
            "annotations": {
                uid: {
                    "take_uid": uid,
                    "take_name": name,
                    "scenario": "Dance",
                    "segments": [
                        {
                            "start_time": start,
                            "end_time": end,
                            "step_id": words[text],
                            "step_unique_id": words[text],
                            "step_name": text,
                            "step_description": text,
                            "is_essential": True,
                        }
                        for start, end, text in steps
                    ],
                }
            },
            "taxonomy": {"Dance": {text: {"name": text, "id": words[text]} for text in words}},
            "vocabulary": words,
        }
        # Ego-Exo4D writes flags as true and false in one place, as "0" and "1" in another.
        yes, no = (True, False) if split == "train" else ("1", "0")
        moments = [
            {
                "timestamp": when,
                "text": text,
                "subject": "C",
                "ego_visible": no,
                "best_exo": {"raw_cam_id": f"{camera}01", "cam_id": f"{camera}01"},
                "unsure": no,
            }
            for camera in ("cam" if split == "train" else "gp",)
            for when, text in said
        ]
        files[f"atomic_descriptions_{split}"] = {
            "annotations": {
                uid: [
                    _described(name, "1", no, None, moments),
                    # What was rejected is in the files too.
                    _described(name, "2", yes, "Wrong take", [{**moments[0], "text": "A cook"}]),
                ]
            }
        }
    by_split = {**{split: [uids[name]] for split, name in SPLITS.items()}, "test": [_ELSEWHERE]}
    files["splits"] = {
        "split_to_take_uids": by_split,
        "take_uid_to_split": {uid: split for split, (uid,) in by_split.items()},
        "take_uid_to_benchmark": {uids[SPLITS["train"]]: ["keystep"], uids[SPLITS["val"]]: []},
    }
    return files


def _described(
    name: str, number: str, rejected: object, reason: str | None, moments: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "annotation_uid": f"{name}-{number}",
        "annotator_id": number,
        "rejected": rejected,
        "reject_reason": reason,
        "descriptions": moments,
    }
