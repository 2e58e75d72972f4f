"""Rows of plans: marked for people, numbers for scripts."""

import pytest

from service.report.listing import PLAN, PLAN_CSV, planned_row
from workers.dataset.take import Take
from workers.run.plan import PlannedTake


@pytest.mark.parametrize("exact", [False, True])
def test_csv_of_a_plan_holds_numbers_and_says_whether_they_are_exact(exact: bool) -> None:
    take = Take("u", "cmu_bike01_2", None, None, None, 1.0, ())
    planned = PlannedTake(take, 251, 60, 12, 1, 2_235_371, ("cam04_0",), exact, {})
    row = dict(zip(PLAN_CSV, planned_row(planned, form="csv"), strict=True))
    numbers = [int(row[name]) for name in ("frames", "clips", "done", "units", "bytes")]
    assert numbers == [251, 60, 12, 1, 2_235_371]
    assert (row["absent"], row["exact"]) == ("cam04_0", "yes" if exact else "no")
    shown = dict(zip(PLAN, planned_row(planned), strict=True))
    assert shown["frames"] == ("251" if exact else "~251")
