"""`takestream plan`: what a job would do, and which takes are stale."""

import sys
from argparse import Namespace
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape

from configs.load import SettingsError, load_job
from service.cli.flags import flags_of, overrides
from service.jobs.choose import Chosen, choose_takes
from service.jobs.expiry import key_life
from service.jobs.plan import plan_job
from service.report.console import print_json, result_console
from service.report.licences import job_licences, licence_lines
from service.report.listing import PLAN, PLAN_CSV, planned_facts, planned_row
from service.report.table import print_rows
from workers.run.memory import memory_of
from workers.run.recipe import Recipe, make_recipe
from workers.run.stale import State, TakeState, modified_since, only_changed, states
from workers.run.transfer import machine_region, transfers

_STATES: tuple[State, ...] = ("current", "stale", "partial", "missing")
STALE = ("take", "encoder_id", "state", "reasons")


def plan(found: Namespace) -> int:
    """Say what a job would do."""
    job = load_job(found.job, overrides(found), flags_of(found))
    recipe = make_recipe(job)
    chosen = narrowed(found, recipe, choose_takes(job))
    if found.stale:
        return _stale(found, recipe, chosen)
    made = plan_job(recipe, chosen, probe=found.probe, calibrated=not found.clips_per_second)
    planned = made.takes
    memory = memory_of(recipe, chosen)
    facts = made.facts(found.clips_per_second, found.price_per_hour)
    keys = key_life(job)
    facts["keys"] = None if keys is None else keys.facts()
    here = job.run.region or machine_region()
    moved = transfers(recipe, chosen, [here] if here else [])
    facts["transfer"] = [one.facts() for one in moved]
    facts["licences"] = job_licences(recipe, chosen)
    facts["memory_mib"] = {**asdict(memory), "warning": memory.warning}
    if found.form == "json":
        each = [planned_facts(take) for take in planned]
        print_json({"encoder_id": recipe.target.encoder_id, "takes": each, **facts})
        return 0
    rows = [planned_row(take, form=found.form) for take in planned]
    if found.form == "csv":
        print_rows(PLAN_CSV, rows, form="csv")
        return 0
    print_rows(PLAN, rows, spare=("frames", "units"))
    console = result_console(to_stderr=not sys.stdout.isatty())
    console.print(made.amount)
    for line in made.doubts:
        console.print(f"[yellow]{escape(line)}[/yellow]", soft_wrap=True)
    if facts["hours"] is not None:
        cost = "" if facts["cost"] is None else f", cost {facts['cost']:.2f}"
        console.print(f"time {facts['hours']:.2f} h at {found.clips_per_second} clips/s{cost}")
    elif made.estimate is not None:
        for line in made.price:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(
            "[dim]no calibration of these encoders is in the output: `takestream calibrate` with"
            " the same flags adds hours and cost[/dim]"
        )
    if keys is not None:
        needed = None if made.estimate is None else made.estimate.hours[2]
        console.print(keys.words(needed), highlight=False, markup=False, soft_wrap=True)
    for transfer in moved:
        console.print(transfer.words, highlight=False, markup=False, soft_wrap=True)
    for line in licence_lines(facts["licences"]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if job.run.address is None and facts["clips_left"]:
        one = f"{memory.workers} worker{'s' if memory.workers > 1 else ''}"
        free = "" if memory.free is None else f"; {memory.free} MiB are free"
        console.print(f"memory up to about {memory.total} MiB with {one} here{free}")
        if memory.warning:
            console.print(f"[yellow]warning: {memory.warning}[/yellow]")
    if not facts["exact"]:
        console.print("[dim]~ from duration_sec × 30 frames/s; --probe makes it exact[/dim]")
    return 0


def narrowed(found: Namespace, recipe: Recipe, takes: Chosen) -> Chosen:
    """The takes that `--since` and `--only-changed` leave.

    Raises:
        SettingsError: `--since` is no date.
        StorageError: The storage fails.
    """
    if found.since is not None:
        takes = modified_since(recipe.dataset, takes, moment_of(found.since))
    return only_changed(recipe, takes) if found.only_changed else takes


def moment_of(text: str) -> datetime:
    """A date, or a date and time, as ISO 8601 has it; UTC where it does not say.

    Raises:
        SettingsError: It is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"'{text}' is no date such as 2026-11-26 or 2026-11-26T08:00Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _stale(found: Namespace, recipe: Recipe, takes: Chosen) -> int:
    """List the takes whose features are not those of today's videos and settings."""
    known = states(recipe, takes)
    counts = Counter(state.state for state in known)
    if found.form == "json":
        print_json({"counts": counts, "takes": [_facts(state) for state in known]})
        return 0
    stale = [state for state in known if state.state == "stale"]
    rows = [(s.take.name, s.version or "", s.state, "; ".join(s.reasons)) for s in stale]
    print_rows(STALE, rows, form=found.form)
    if found.form == "table":
        console = result_console(to_stderr=not sys.stdout.isatty())
        words = ", ".join(f"{counts[name]} {name}" for name in _STATES)
        console.print(f"takes, counted for each encoder: {words}", highlight=False)
    return 0


def _facts(state: TakeState) -> dict[str, Any]:
    return {
        "take": state.take.name,
        "take_uid": state.take.uid,
        "encoder_id": state.encoder_id,
        "state": state.state,
        "version": state.version,
        "reasons": state.reasons,
    }
