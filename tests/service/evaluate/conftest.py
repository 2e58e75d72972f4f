"""Outputs of made-up features whose accuracy is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.feature_stores import ENCODER_ID, facts_of, feature_store

DIM, CLASSES = 16, "ABCD"
Made = Callable[..., str]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """made(...) → URI of the folder of an encoder."""

    def make(
        gap: float = 1.0,
        *,
        people: int = 16,
        takes: int = 3,
        person: float = 0.0,
        one_task: bool = False,
        encoder_id: str = ENCODER_ID,
        seed: int = 0,
        clips: int = 2,
        **facts: Any,
    ) -> str:
        """Takes of people who do tasks.

        Args:
            gap: How far a class's own number lies from the others, in deviations of the noise.
            people, takes: How many, and takes of each.
            person: How far each person lies from the others.
            one_task: Each person does one task alone.
            encoder_id: Folder.
            seed: Of the noise; classes and people are the same for all seeds.
            clips: Of each take; their mean is what is judged.
            **facts: Of every take.
        """
        random, same = np.random.default_rng(seed), np.random.default_rng(99)
        places = same.normal(size=(people, DIM))
        for number in range(people * takes):
            who, which = divmod(number, takes)
            task = (who if one_task else who + which) % len(CLASSES)
            middle = person * places[who]
            middle[task] += gap
            noise = random.normal(size=(1, 2, DIM)).repeat(clips, axis=0)
            take = facts_of(
                f"t{number:03}",
                **{
                    "parent_task_name": CLASSES[task],
                    "participant_uid": f"p{who}",
                    "split": "train" if who % 3 else "val",
                    **facts,
                },
            )
            feature_store(str(tmp_path), take, middle + noise, encoder_id=encoder_id)
        return str(tmp_path / encoder_id)

    return make
