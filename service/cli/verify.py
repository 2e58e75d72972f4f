"""`takestream verify`: whether stores are whole, and hold what extraction gives."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

from service.jobs.choose import choose
from service.jobs.driver import run_here
from service.jobs.mend import repair_jobs
from service.jobs.sample import SampledClip, sample
from service.report.console import print_json
from service.report.progress import progress_display
from service.report.table import print_rows
from takestream.storage import S3Options
from takestream.stores import find_stores
from workers.store.catalogue import misstated
from workers.store.verify import VerifyReport, set_aside
from workers.store.verify import verify as verify_store


def verify(found: Namespace) -> int:
    """Prove that stores are whole; 1 when one is not, or a clip is another when extracted again."""
    s3 = S3Options(found.s3_profile, found.endpoint_url, anon=bool(found.anon))
    uris = [uri for given in found.stores for uri in find_stores(given, s3)]
    reports = [verify_store(uri, s3) for uri in uris]
    # What nothing was written to, as of a job that only began, is no store to prove.
    if (begun := [report for report in reports if not report.empty]) and len(begun) < len(reports):
        words = f"{len(reports) - len(begun)} stores without a chunk of features are passed over"
        print(f"takestream: {words}", file=sys.stderr)
        reports, uris = begun, [report.uri for report in begun]
    repaired: list[str] = []
    if found.repair:
        bad = [report for report in reports if not report.ok]
        # Settings first: what cannot be done again is not set aside.
        jobs = list(repair_jobs(bad, s3, found.job))
        for report in bad:
            set_aside(report, s3)
            print(f"takestream: {damage_line(report)}", file=sys.stderr)
            repaired.append(report.uri)
        for job in jobs:
            with progress_display(quiet=found.form != "table") as show:
                finished = run_here(choose(job), show)
            if finished.end.error:
                print(f"takestream: {finished.end.error}", file=sys.stderr)
        reports = [verify_store(uri, s3) for uri in uris]
    sampled = list(sample(reports, found.sample, found.seed, s3, found.job)) if found.sample else []
    if found.form == "json":
        print_json([_facts(report, report.uri in repaired, sampled) for report in reports])
    elif found.form == "csv":
        rows = [
            (report.uri, "ok" if report.ok else "FAULTY", "; ".join(_words(report, sampled)))
            for report in reports
        ]
        print_rows(("store", "status", "faults"), rows, form="csv")
    else:
        _print(reports, repaired, sampled, found)
    for folder, uids in misstated(reports, s3).items():
        print(
            f"takestream: {folder}: its catalogue says otherwise of {len(uids)} stores (first:"
            f" {uids[0]}): `takestream catalogue --rebuild` makes it anew",
            file=sys.stderr,
        )
    strict = not found.strict or not any(_not_valid(report) for report in reports)
    tried = [clip for clip in sampled if clip.tried]
    # Where no clip could be tried, nothing is proven.
    true = all(clip.agrees for clip in tried) and bool(tried or not found.sample)
    return 0 if all(report.ok for report in reports) and strict and true else 1


def damage_line(report: VerifyReport) -> str:
    """What of a store is damaged and has to be done again."""
    lost = ", ".join(f"{clips} clips of {name}" for name, clips in report.lost.items())
    what = lost or "its metadata or coordinates"
    return f"{report.take_name or report.take_uid}: to be done again: {what} ({report.uri})"


def _print(
    reports: Sequence[VerifyReport],
    repaired: Sequence[str],
    sampled: Sequence[SampledClip],
    found: Namespace,
) -> None:
    for report in reports:
        word = "ok     " if report.ok else "FAULTY "
        word = "mended " if report.ok and report.uri in repaired else word
        print(f"{word} {report.uri}{f' ({report.take_name})' if report.take_name else ''}")
        for fault in _words(report, sampled):
            print(f"        {fault}")
    whole = sum(report.ok for report in reports)
    print(f"{whole} of {len(reports)} stores are whole")
    lost = {report.uri: names for report in reports if (names := _not_valid(report))}
    if lost:
        streams = sum(len(report.streams) for report in reports)
        print(
            f"not wholly valid: {sum(map(len, lost.values()))} of {streams} streams, in"
            f" {len(lost)} of {len(reports)} stores (`takestream inspect` says why)"
        )
    if found.sample:
        tried = [clip for clip in sampled if clip.tried]
        least = min((clip.cosine for clip in tried if clip.cosine is not None), default=None)
        print(
            f"{sum(clip.agrees for clip in tried)} of {len(tried)} clips that were extracted again"
            f" agree{'' if least is None else f', the least cosine is {least:.6f}'}"
            f" (seed {found.seed})"
        )
        if len(tried) < len(sampled):
            print(f"{len(sampled) - len(tried)} clips could not be extracted again")
    if whole < len(reports) and not found.repair:
        print("`takestream verify --repair` extracts again what is damaged or missing")


def _words(report: VerifyReport, sampled: Sequence[SampledClip]) -> list[str]:
    """What is wrong with a store, and which of its sampled clips do not agree."""
    return report.faults + [
        f"clip {clip.clip} of {clip.stream}{' was not compared' * (not clip.tried)}: {clip.reason}"
        for clip in sampled
        if clip.store == report.uri and not clip.agrees
    ]


def _not_valid(report: VerifyReport) -> list[str]:
    """Its streams that are not wholly valid."""
    return [name for name in report.streams if report.valid.get(name, 0) < report.clips]


def _facts(
    report: VerifyReport, repaired: bool, sampled: Sequence[SampledClip]
) -> dict[str, object]:
    mine = [asdict(c) | {"agrees": c.agrees} for c in sampled if c.store == report.uri]
    return {**asdict(report), "ok": report.ok, "repaired": repaired, "sampled": mine}
