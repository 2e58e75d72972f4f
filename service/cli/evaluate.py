"""`takestream evaluate`: features judged on tasks, and two encoders against each other."""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.load import SettingsError
from service.evaluate.evaluation import Evaluation, Settings, evaluate_stores
from service.evaluate.paired import Difference, differences
from service.evaluate.results import keep
from service.evaluate.zero_shot import PROMPTS, read_prompts, zero_shot
from service.report.console import print_json
from service.report.drawing import draw_evaluation
from service.report.evaluation import (
    HEADINGS,
    PAIRED,
    SPARE,
    evaluation_html,
    foot_lines,
    head_lines,
    paired_cells,
    row_cells,
)
from service.report.table import print_rows
from service.transfer.stored import Chosen, choose_stores
from takestream.errors import TakestreamError
from takestream.root import read_root
from takestream.storage import S3Options, absolute, join
from takestream.stores import is_encoder_id, read_roots


def evaluate(found: Namespace) -> int:
    """Judge features, or compare two encoders; 1 where the figures are worth nothing for a leak."""
    s3 = S3Options(found.s3_profile, found.endpoint_url, anon=bool(found.anon))
    given = [name for name in (found.where, found.other) if name is not None]
    chosen = [_chosen(name, found.output, found.encoder, s3) for name in given]
    if len(chosen) == 2:
        chosen = list(common(*chosen))
    done = [judge(one, settings_of(found), found.prompts, s3) for one in chosen]
    for stores, one in zip(chosen, done, strict=True):
        keep(one, stores, s3)
    compared = differences(*done) if len(done) == 2 else []
    if found.picture:
        draw_evaluation(done[-1], Path(found.picture))
    if found.html:
        page = evaluation_html([one.facts() for one in done], [one.facts() for one in compared])
        Path(found.html).write_text(page, encoding="utf-8")
    if found.form == "json":
        facts = [one.facts() for one in done]
        print_json({"evaluations": facts, "differences": [one.facts() for one in compared]})
    else:
        _print(done, compared, found)
    return 1 if any(one.leaks for one in done) else 0


def settings_of(found: Namespace) -> Settings:
    """The settings that the flags are."""
    return Settings(
        found.labels, found.group_by, found.folds, tuple(found.test), found.span == "task",
        found.seed,
    )  # fmt: skip


def judge(chosen: Chosen, settings: Settings, prompts: str | None, s3: S3Options) -> Evaluation:
    """Judge stores, saying on stderr what is done now."""
    (data,) = read_roots([chosen.takes[0].uri], s3).values()
    encoder = read_root(data, chosen.takes[0].uri).attributes.get("encoder", {})
    scorer = zero_shot(encoder, read_prompts(prompts or PROMPTS), s3)

    def tell(words: str) -> None:
        print(f"takestream: {chosen.encoder_id}: {words}", file=sys.stderr)

    return evaluate_stores(chosen, settings, s3, scorer, tell)


def compared(a: str, a_s3: S3Options, b: str, b_s3: S3Options, labels: str) -> list[str]:
    """Which of two versions does better, in lines for a person; why not, where nothing can be said.

    Args:
        a: Folder of an encoder.
        a_s3: How to reach it.
        b: Folder of another.
        b_s3: How to reach that.
        labels: As `Settings.labels`.
    """
    settings = Settings(labels)
    try:
        stores = common(choose_stores(a, None, None, a_s3), choose_stores(b, None, None, b_s3))
        done = [
            judge(one, settings, None, s3) for one, s3 in zip(stores, (a_s3, b_s3), strict=True)
        ]
        found = differences(*done)
    except (TakestreamError, ValueError) as error:
        return [f"Not judged on {labels}: {error}"]
    head = [f"On {labels}, A = {done[0].encoder_id} against B = {done[1].encoder_id}:"]
    lines = [f"  {one.view}, {one.probe}: {one.words}" for one in found]
    return [*(f"leak: {leak}" for one in done for leak in one.leaks), *head, *lines]


def common(a: Chosen, b: Chosen) -> tuple[Chosen, Chosen]:
    """Both with only the takes that both have, and the same facts: other folds are other tests.

    What the stores of one do not say of a take, those of the other do; where both say it, A counts.

    Raises:
        SettingsError: They are the same stores, or have no take in common.
    """
    if a.takes[0].uri == b.takes[0].uri:
        raise SettingsError(f"evaluate: A and B are both {a.encoder_id}")
    both = {take.uid for take in a.takes} & {take.uid for take in b.takes}
    if not both:
        raise SettingsError(f"evaluate: {a.encoder_id} and {b.encoder_id} have no take in common")
    facts: dict[str, dict[str, Any]] = {}
    for take in (*b.takes, *a.takes):
        said = {name: value for name, value in take.facts.items() if value is not None}
        facts[take.uid] = {**facts.get(take.uid, {}), **said}

    def alike(one: Chosen) -> Chosen:
        takes = (replace(t, facts=facts[t.uid]) for t in one.takes if t.uid in both)
        return replace(one, takes=tuple(takes))

    return alike(a), alike(b)


def _chosen(name: str, output: str | None, encoder: str | None, s3: S3Options) -> Chosen:
    """The stores of an encoder_id or a preset in an output, or those at a URI."""
    plain = "/" not in name and not Path(name).exists()
    if output is not None:
        if plain and not is_encoder_id(name):
            return choose_stores(output, name, None, s3)
        return choose_stores(join(absolute(output), name), encoder, None, s3)
    if plain:
        raise SettingsError(
            f"evaluate: there is no folder {name}; of an encoder, say where its features are by"
            " --output"
        )
    return choose_stores(name, encoder, None, s3)


def _print(done: list[Evaluation], compared: list[Difference], found: Namespace) -> None:
    say = sys.stdout if found.form == "table" else sys.stderr
    for one in done:
        for line in head_lines(one):
            print(line, file=say)
        print_rows(HEADINGS, [row_cells(row) for row in one.rows], form=found.form, spare=SPARE)
        for line in foot_lines(one):
            print(line, file=say)
    if compared:
        a, b = (one.encoder_id for one in done)
        print(f"A is {a}, B is {b}", file=say)
        cells = [paired_cells(one) for one in compared]
        print_rows(PAIRED, cells, form=found.form, spare=("takes", "samples"))
