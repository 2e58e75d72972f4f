"""`takestream catalogue`, `ls`, `diff`, `prune`: what an output holds, and what can go."""

import sys
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from rich.filesize import decimal

from service.jobs.prune import RECENT_MINUTES, candidates
from service.jobs.prune import prune as prune_output
from service.report.console import print_json, result_console
from service.report.difference import ALIKE, TakeDifference, difference, paired
from service.report.table import print_rows
from service.report.versions import TAKES, VERSIONS, chosen_rows, take_row, version_row, versions_of
from takestream.storage import S3Options, absolute
from workers.store.catalogue import refresh_output

_DIFF = (
    "take",
    "stream",
    "clips",
    "valid in both",
    "equal",
    "cosine min",
    "parted",
    "first",
    "cka",
)
_MOST_SETTINGS = 40


def catalogue(found: Namespace) -> int:
    """Refresh the catalogues of an output; with `--rebuild`, write them from the stores alone."""
    done = refresh_output(found.output, storage_of(found), found.encoder, rebuild=found.rebuild)
    if found.json:
        print_json(
            [
                {
                    "catalogue": one.uri,
                    "encoder_id": one.encoder_id,
                    "takes": len(one.rows),
                    "stores_read": one.read,
                    "means_made": one.means,
                    "written": one.written,
                }
                for one in done
            ]
        )
        return 0
    for one in done:
        what = "written" if one.written else "up to date"
        made = f", means of {one.means} made" if one.means else ""
        print(f"{one.uri}: {what}, {len(one.rows)} takes, {one.read} stores read{made}")
    if not done:
        print(f"no encoder's stores at {found.output}")
    return 0


def ls(found: Namespace) -> int:
    """List the versions in an output, or its takes."""
    versions = versions_of(absolute(found.output), storage_of(found), found.encoder)
    if found.form == "json":
        print_json(
            [{**one.facts(), "rows": chosen_rows(one.rows, found.where)} for one in versions]
        )
        return 0
    if found.takes or found.where:
        chosen = [row for one in versions for row in chosen_rows(one.rows, found.where)]
        spare = ("take_uid", "problems", "encoder_id", "split", "task")
        print_rows(TAKES, [take_row(row) for row in chosen], form=found.form, spare=spare)
        return 0
    print_rows(
        VERSIONS, [version_row(one) for one in versions], form=found.form,
        below="version", spare=("streams", "damaged", "clips"),
    )  # fmt: skip
    if found.form == "table" and (unweighed := sum(one.unweighed for one in versions)):
        print(
            f"sizes of {unweighed} stores are not known: `takestream catalogue` weighs them",
            file=sys.stderr,
        )
    return 0


def diff(found: Namespace) -> int:
    """Compare two extractions; 1 when they part."""
    s3 = storage_of(found)
    pairing = paired(found.a, found.b, s3)
    bound = ALIKE if found.cosine is None else found.cosine
    takes = [difference(a, b, s3, bound) for a, b in pairing.pairs.values()]
    settings, sources = _settings(takes)
    apart = pairing.stored and (pairing.only_a or pairing.only_b)
    alike = all(take.alike for take in takes) and not apart
    if found.form == "json":
        print_json(
            {
                "alike": alike,
                "only_a": pairing.only_a,
                "only_b": pairing.only_b,
                "settings": settings,
                "takes": [{**asdict(take), "alike": take.alike} for take in takes],
            }
        )
        return 0 if alike else 1
    rows = [
        (
            take.take, one.stream, str(one.clips), str(one.both), _cell(one.equal),
            _cell(one.cosine_min, 6), _cell(one.parted),
            "" if one.first is None else str(one.first),
            _cell(one.cka, 4),
        )
        for take in takes
        for one in take.streams
    ]  # fmt: skip
    print_rows(_DIFF, rows, form=found.form, spare=("cka", "clips", "equal"))
    if found.form == "csv":
        return 0 if alike else 1
    console = result_console(to_stderr=not sys.stdout.isatty())

    def say(words: str) -> None:
        console.print(words, highlight=False, markup=False)

    for words, uids in (("A", pairing.only_a), ("B", pairing.only_b)):
        if uids:
            say(f"only {words} has {len(uids)} takes: {_some(uids)}")
    for take in takes:
        for words, names in (("A", take.only_a), ("B", take.only_b)):
            if names:
                say(f"{take.take}: only {words} has {', '.join(names)}")
        if not take.same_clips and take.stored:
            say(f"{take.take}: cut into other clips; those of the same times are compared")
        for one in take.streams:
            if one.only_a or one.only_b:
                say(
                    f"{take.take} {one.stream}: {one.only_a} clips are valid in A alone,"
                    f" {one.only_b} in B alone"
                )
            if not take.stored and one.clips_a != one.clips_b:
                say(
                    f"{take.take} {one.stream}: A has {one.clips_a} clips and B {one.clips_b};"
                    f" the first {one.clips} are compared"
                )
            if one.worst:
                least = ", ".join(f"{clip} ({clip.cosine:.4f})" for clip in one.worst)
                say(f"{take.take} {one.stream}: least alike {least}")
    for path, (left, right) in list(settings.items())[:_MOST_SETTINGS]:
        say(f"{path}: {_cell(left)} in A, {_cell(right)} in B")
    if len(settings) > _MOST_SETTINGS:
        say(f"and {len(settings) - _MOST_SETTINGS} more settings: --json has all")
    if sources:
        say(f"of videos that are another object or file: {_some(sources)}")
    parted = sum(one.parted or 0 for take in takes for one in take.streams)
    if alike:
        say(f"alike: no clip has a cosine below {bound:g}")
    elif any(one.parted is None for take in takes for one in take.streams):
        say("features of other dims: cka and the nearest clips say how alike they are (--json)")
    elif parted:
        say(f"they part: {parted} clips have a cosine below {bound:g}")
    else:
        say(
            f"no clip that both have has a cosine below {bound:g}, but they have not the same"
            " takes, streams or clips"
        )
    return 0 if alike else 1


def prune(found: Namespace) -> int:
    """Name what can go, and remove it when told to; 1 when something was refused."""
    s3, output = storage_of(found), absolute(found.output)
    recent = RECENT_MINUTES if found.min_age is None else found.min_age
    chosen = candidates(output, s3, found.encoder, partial=found.partial, recent_minutes=recent)
    refused = [one for one in chosen if one.refused]
    free = [one for one in chosen if not one.refused]
    gone = prune_output(output, s3, free) if found.yes else []
    if found.json:
        print_json({"removed": bool(gone), "candidates": [asdict(one) for one in chosen]})
        return 1 if refused else 0
    for one in chosen:
        word = "stays  " if one.refused else "removed" if found.yes else "goes   "
        print(f"{word} {one.uri} ({one.what}; {one.objects} objects, {decimal(one.bytes)})")
        if one.refused:
            print(f"        {one.refused}")
    total = f"{len(free)} of {len(chosen)}, {decimal(sum(one.bytes for one in free))}"
    if not chosen:
        print("nothing to remove; --encoder ENCODER_ID and --partial choose more")
    elif found.yes:
        print(f"removed {total}")
    else:
        print(f"would remove {total}; nothing was removed: --yes does it")
    return 1 if refused else 0


def _settings(takes: list[TakeDifference]) -> tuple[dict[str, tuple[Any, Any]], list[str]]:
    """Settings that differ, each once, and the streams that were made from other objects."""
    settings: dict[str, tuple[Any, Any]] = {}
    sources: dict[str, None] = {}
    for take in takes:
        for path, values in take.settings.items():
            if not path.startswith(("provenance.streams.", "sync.streams.")):
                settings.setdefault(path, values)
            elif path.endswith((".etag", ".size")) and path.startswith("provenance"):
                sources[f"{take.take} {path.split('.')[2]}"] = None
    return settings, list(sources)


def _some(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _cell(value: Any, digits: int | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if digits is not None else str(value)


def storage_of(found: Namespace) -> S3Options:
    """How the flags say that the output is reached."""
    return S3Options(found.s3_profile, found.endpoint_url, anon=bool(found.anon))
