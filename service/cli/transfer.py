"""`segments`, `export` and `import`: features out of stores and into them."""

import sys
from argparse import Namespace
from collections.abc import Iterator

from configs.load import SettingsError
from service.report.console import print_json
from service.transfer.exports import Exported, ExportJob, export_to, licences_in
from service.transfer.imports import Imported, ImportJob, import_to
from service.transfer.official import HDF5, SUFFIXES
from service.transfer.rule import OFFICIAL, PER_FRAME, ClipRule, rule_beside
from service.transfer.segments import Pooled, PoolingJob, pool_to
from service.transfer.stored import Chosen, choose_stores
from takestream.licence import Licence, in_short
from takestream.storage import S3Options, absolute, join
from workers.dataset.layouts import open_dataset
from workers.dataset.segments import read_segments
from workers.store.catalogue import refresh_quietly


def segments(found: Namespace) -> int:
    """Pool stored clips over annotated segments; 1 when some of the stores are not complete."""
    s3, reach = _s3(found), _output_s3(found)
    chosen = choose_stores(found.store, found.encoder, found.streams, s3)
    job = PoolingJob(chosen, read_segments(found.annotations, s3), found.pool, found.nearest, s3)

    def tell(result: Pooled) -> None:
        print(f"progress segments={result.done}/{result.segments}", file=sys.stderr)

    result = pool_to(job, absolute(found.output), found.format, reach, tell)
    missing = job.without_store()
    facts = {
        "output": absolute(found.output), **job.facts(), "segments": result.segments,
        "pooled": result.done, "empty_vectors": result.empty, "takes_without_store": missing,
        "takes_left_out": list(chosen.left_out),
    }  # fmt: skip
    if found.json:
        print_json(facts)
    else:
        print(
            f"{result.segments:,} segments of {len(chosen.streams)} streams in {facts['output']};"
            f" {result.done:,} of them pooled now"
        )
        if result.empty:
            print(f"{result.empty:,} vectors are NaN: no clip of the segment is valid there")
        if missing:
            print(f"{missing:,} annotated takes have no complete store here")
    return _ending(chosen)


def export(found: Namespace) -> int:
    """Write stores in another form; 1 when some of them are not complete."""
    s3 = _s3(found)
    chosen = choose_stores(found.store, found.encoder, found.streams, s3)
    job = ExportJob(chosen, found.format, found.dtype, found.invalid, s3)

    def tell(result: Exported) -> None:
        print(f"progress takes={result.done}/{result.takes}", file=sys.stderr)

    result = export_to(job, absolute(found.output), _output_s3(found), tell)
    facts = {
        "output": absolute(found.output), **job.facts(), "takes": result.takes,
        "written": result.done, "invalid_clips": result.invalid,
        "takes_left_out": list(chosen.left_out), "odd_names": sorted(result.names),
        "licences": licences_in(chosen.takes),
    }  # fmt: skip
    if found.json:
        print_json(facts)
    else:
        print(f"{result.takes:,} takes in {facts['output']}; {result.done:,} of them written now")
        if result.invalid:
            stands = "NaN" if found.invalid == "nan" else "zeros"
            print(f"{result.invalid:,} invalid clips of these stand there as {stands}")
        if result.names:
            print(
                "readers that split names at '_' into three cannot take these streams apart: "
                + ", ".join(sorted(result.names))
            )
        print("\n".join(_licence_lines(chosen)))
    return _ending(chosen)


def import_(found: Namespace) -> int:
    """Make stores of official feature files; 1 when a file was left out that holds features."""
    s3 = _s3(found)
    takes = {}
    if found.dataset:
        takes = {take.uid: take for take in open_dataset(found.dataset, s3=s3).takes()}
    job = ImportJob(
        absolute(found.source),
        found.name,
        takes,
        s3,
        found.dataset,
        _licence("--dataset-licence", found.dataset_licence),
        _licence("--encoder-licence", found.encoder_licence),
        _rule(found),
    )

    def tell(result: Imported) -> None:
        print(f"progress takes={result.done}/{result.takes}", file=sys.stderr)

    result = import_to(job, absolute(found.output), _output_s3(found), tell)
    refresh_quietly(absolute(found.output), [result.encoder_id], _output_s3(found))
    where = join(absolute(found.output), result.encoder_id)
    facts = {
        "output": where, "encoder_id": result.encoder_id, "takes": result.takes,
        "written": result.done, "left_out": result.left_out, "uncertain": result.uncertain,
    }  # fmt: skip
    if found.json:
        print_json(facts)
    else:
        print(f"{result.takes:,} takes in {where}; {result.done:,} of them written now")
        if result.uncertain:
            print(
                f"of {result.uncertain:,} it is not known where the last clip lies; --dataset tells"
                " how long takes are"
            )
        for name, why in result.left_out.items():
            print(f"left out: {name}: {why}")
    return 1 if any(name.endswith((*SUFFIXES, *HDF5)) for name in result.left_out) else 0


def _rule(found: Namespace) -> ClipRule:
    """By which the clips were cut: as the flag says, else the settings beside the files."""
    if found.per_frame:
        return PER_FRAME
    if found.source.lower().endswith(HDF5):
        return OFFICIAL
    return rule_beside(absolute(found.source), _s3(found)) or OFFICIAL


def _licence(flag: str, text: str | None) -> Licence | None:
    if text is None:
        return None
    parts = in_short(text)
    try:
        return Licence(str(parts["name"]), parts["url"])
    except ValueError as error:
        raise SettingsError(f"{flag}: {error}") from None


def _licence_lines(chosen: Chosen) -> Iterator[str]:
    """The licences of what was exported, each pair once, for a person."""
    for licences in dict.fromkeys(take.licences for take in chosen.takes):
        yield f"licences: {licences.words()}"


def _ending(chosen: Chosen) -> int:
    if chosen.left_out:
        names = ", ".join(chosen.left_out[:3])
        print(
            f"takestream: {len(chosen.left_out)} stores are not complete and were left out"
            f" ({names} …): extract the rest, then run this again",
            file=sys.stderr,
        )
    return 1 if chosen.left_out else 0


def _s3(found: Namespace) -> S3Options:
    return S3Options(found.s3_profile, found.endpoint_url, anon=bool(found.anon))


def _output_s3(found: Namespace) -> S3Options:
    """How to reach what is written: as what is read, unless a flag says otherwise."""
    return S3Options(
        found.output_s3_profile or found.s3_profile,
        found.output_endpoint_url or found.endpoint_url,
    )
