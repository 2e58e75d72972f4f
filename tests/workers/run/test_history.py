"""What workers did when, however many units there were."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from workers.dataset.take import Take
from workers.run.history import MOST_SLOW, MOST_STRETCHES, History
from workers.run.tasks import ClipRange, UnitRecord

TAKE = Take("uid", "take", None, None, None, 1.0, ())


def unit(worker: int, began: float, seconds: float, outcome: str = "done") -> UnitRecord:
    return UnitRecord(
        TAKE, (ClipRange(0, 0, 8, ("a_0",)),), outcome, seconds=seconds, began=began,  # type: ignore[arg-type]
        worker=f"host cpu {worker}", counts={"decode_seconds": seconds / 2},
    )  # fmt: skip


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(0, 1e5), st.floats(0.01, 100), st.booleans()),
        max_size=60,
    )
)
def test_nothing_is_lost(units: list[tuple[int, float, float, bool]]) -> None:
    history = History()
    for worker, began, seconds, done in units:
        history.add(unit(worker, began, seconds, "done" if done else "failed"))
    facts = history.facts()
    assert json.loads(json.dumps(facts)) == facts
    stretches = [one for some in facts["workers"].values() for one in some]
    assert sum(one[2] for one in stretches) == len(units)
    assert sum(one[3] for one in stretches) == sum(not done for *_, done in units)
    assert abs(facts["stages"]["decode"] - sum(s for _, _, s, _ in units) / 2) < 0.01
    slowest = sorted((s for _, _, s, _ in units), reverse=True)[:MOST_SLOW]
    assert [one["seconds"] for one in facts["slowest"]] == [round(s, 2) for s in slowest]


def test_a_hundred_thousand_units_take_as_much_room_as_a_few() -> None:
    history = History()
    for number in range(100_000):
        worker, turn = number % 64, number // 64
        history.add(unit(worker, 10.0 * turn + worker / 64, 8.0 + number % 3))
    facts = history.facts()
    stretches = [one for some in facts["workers"].values() for one in some]
    assert len(stretches) <= MOST_STRETCHES
    assert sum(one[2] for one in stretches) == 100_000
    assert len(json.dumps(facts)) < 300_000
    assert len(facts["workers"]) == 64
    ends = [some[-1][1] for some in facts["workers"].values()]
    assert max(ends) - min(ends) < 15
    for some in facts["workers"].values():
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(some))


def test_a_unit_that_no_worker_had_is_no_work() -> None:
    history = History()
    history.add(UnitRecord(TAKE, (), "failed"))
    assert history.facts()["workers"] == {}
