"""`takestream reprocess`: the stores of a version made again, by another encoder."""

import sys
from argparse import Namespace

from configs.load import SettingsError
from service.cli.evaluate import compared
from service.cli.flags import overrides
from service.jobs.calibrations import calibrate_here
from service.jobs.driver import run_here
from service.jobs.plan import plan_job
from service.jobs.reprocess import Again, Moved, again, moved
from service.report.console import print_json, result_console
from service.report.progress import progress_display
from service.report.summary import print_summary, report_facts
from takestream.storage import S3Options, absolute, join


def reprocess(found: Namespace) -> int:
    """Make stores again, and say how their features moved."""
    settings = overrides(found)
    where = found.old_output or found.output
    if where is None:
        raise SettingsError("reprocess: say where the stores are: --output URI")
    reach = {**settings.get("s3", {}), **settings.get("output_s3", {})}
    old_s3 = S3Options(**reach)
    todo = again(absolute(where), found.old, settings, old_s3, found.job)
    for uid in todo.gone:
        print(f"note: the data set has no take {uid} any more", file=sys.stderr)
    if found.calibrate:
        calibrate_here(todo.chosen, found.calibrate)
    if found.dry_run:
        return _dry_run(found, todo)
    if found.calibrate:
        for line in plan_job(todo.chosen.recipe, todo.chosen.takes).price:
            print(line, file=sys.stderr)
    with progress_display(quiet=found.json) as show:
        finished = run_here(todo.chosen, show)
    recipe = todo.chosen.recipe
    sample = max(0, found.sample)
    results = moved(recipe, absolute(where), todo.old, old_s3, sample) if sample else []
    judged: list[str] = []
    if finished.end.exit_code == 0 and found.labels != "none":
        before = join(absolute(where), todo.old)
        judged = [
            line
            for encoder_id in recipe.encoder_ids
            for line in compared(
                before, old_s3, join(recipe.job.output, encoder_id), recipe.output_s3, found.labels
            )
        ]
    if found.json:
        facts = report_facts(recipe, finished.report)
        moves = [one.facts() for one in results]
        print_json({**facts, "report": finished.where, "moved": moves, "judged": judged})
        return finished.end.exit_code
    console = result_console()
    print_summary(recipe, finished.report, console, finished.where)
    for one in results:
        console.print()
        for line in _lines(one):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in judged:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return finished.end.exit_code


def _dry_run(found: Namespace, todo: Again) -> int:
    recipe, takes = todo.chosen.recipe, todo.chosen.takes
    made = plan_job(recipe, takes)
    streams = sum(len(names) for _, names in takes)
    if found.json:
        print_json(
            {
                "from": todo.old,
                "encoder_ids": recipe.encoder_ids,
                "takes": len(takes),
                "streams": streams,
                **made.facts(),
            }
        )
        return 0
    print(f"{todo.old}: {len(takes)} takes, {streams} streams")
    print(made.amount)
    for line in made.price:
        print(line)
    facts = made.facts()
    if made.estimate is None and (facts["clips_left"] or not facts["exact"]):
        print(
            "no calibration of these encoders is in the output: --calibrate 12 adds hours and cost"
        )
    return 0


def _lines(one: Moved) -> list[str]:
    """How the features moved, for a person."""
    if not one.takes:
        return [f"{one.old} → {one.new}: no take is complete in both yet"]
    lines = [f"How features moved, {one.old} → {one.new}, on {len(one.takes)} takes:"]
    for name, words in (
        ("cka", "linear CKA (1: the same but for rotation and scale)"),
        ("neighbours", "of the ten nearest clips, the same ones"),
    ):
        if (spread := one.spread(name)) is not None:
            low, middle, high = spread
            lines.append(f"  {words}: {middle:.3f} ({low:.3f} to {high:.3f})")
    if one.uri:
        lines.append(f"  by take: {one.uri}")
    lines.append(f"  {one.old} is as it was; `takestream prune --encoder {one.old}` removes it")
    return lines
