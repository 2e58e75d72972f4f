"""From what the witnesses say to one verdict for each stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from takestream.sync import (
    BOTH,
    GOOD,
    HIGH,
    LOW,
    NOBODY,
    NONE,
    REFERENCE,
    SIGHT,
    SOUND,
    StreamSync,
    TakeSync,
    WitnessSync,
    offset_words,
)
from workers.sync.agreement import Link, Pair, Placed, Rules, place

# What is said of a pair that has nothing to compare, nothing in common, or too much of it.
WORDS = {
    SOUND: ("silent", "nothing heard in common", "what is heard repeats itself"),
    SIGHT: ("nothing moves", "nothing seen in common", "movements repeat, or differ"),
}
DISAGREE = "its windows do not agree"


@dataclass(frozen=True)
class Witness:
    """What one witness found.

    Attributes:
        links: by pair of streams.
        rules: by which links are believed.
        lacking: by stream that it can say nothing of, why.
    """

    links: Mapping[Pair, Link]
    rules: Rules
    lacking: Mapping[str, str]


@dataclass(frozen=True)
class Facts:
    """What is known of a take before its streams are compared.

    Attributes:
        streams: all of them, in the data set's order.
        ego: those that are worn.
        readable: those that can be decoded.
        fps: frames per second.
        duration: seconds.
        clock: by stream, what PTS and counts say.
    """

    streams: Sequence[str]
    ego: frozenset[str]
    readable: frozenset[str]
    fps: float
    duration: float
    clock: Mapping[str, Mapping[str, Any]]


def judge(facts: Facts, measure: str, witnesses: Mapping[str, Witness]) -> TakeSync:
    """One verdict for each stream.

    Args:
        facts: of the take.
        measure: which witnesses were asked, as the setting says it.
        witnesses: by name, those that were asked.
    """
    # The first of equals is the reference: rather one that is worn, and one that can be read.
    order = sorted(
        facts.streams, key=lambda name: (name not in facts.readable, name not in facts.ego)
    )
    middle = facts.duration / 2
    reference = None
    for witness in (witnesses[name] for name in (SOUND, SIGHT) if name in witnesses):
        placed = place(order, witness.links, witness.rules, middle)
        reference = reference or _reference(order, placed, 0.5 / facts.fps, middle)
    alone = order[0] if order and order[0] in facts.readable else None
    first = reference or alone
    if first is not None:
        order = [first, *(name for name in order if name != first)]
    said = {
        name: {
            stream: _said(stream, order, witness, placed, WORDS[name]) for stream in facts.streams
        }
        for name, witness in witnesses.items()
        for placed in [place(order, witness.links, witness.rules, middle)]
    }
    return TakeSync(
        measure=measure,
        reference=reference,
        fps=facts.fps,
        streams={
            stream: _verdict(
                facts,
                stream,
                stream == reference,
                {name: by_stream[stream] for name, by_stream in said.items()},
            )
            for stream in facts.streams
        },
    )


def _reference(
    order: Sequence[str], placed: Mapping[str, Placed], near: float, moment: float
) -> str | None:
    """The stream that most others are in step with; the first of equals."""

    def company(name: str) -> int:
        own = placed[name]
        return sum(
            other.group == own.group
            and other.sure
            and own.sure
            and abs(_at(other, moment) - _at(own, moment)) <= near
            for other in placed.values()
        )

    known = [name for name in order if name in placed]
    return max(known, key=company, default=None)


def _at(placed: Placed, moment: float) -> float:
    return placed.offset + placed.slope * moment


def _said(
    stream: str,
    order: Sequence[str],
    witness: Witness,
    placed: Mapping[str, Placed],
    words: tuple[str, str, str],
) -> WitnessSync:
    within = witness.rules.tolerance * 1e3
    own, first = placed.get(stream), placed.get(order[0])
    if own is not None and first is not None and own.group == first.group:
        drift = None if own.drift is None else round(own.drift * 1e6, 1)
        # Beside the reference, which is the group's first.
        offset = round(own.offset * 1e3, 2)
        return WitnessSync(offset, drift, own.sure, own.agree, own.clear, round(within, 1))
    links = [link for pair, link in witness.links.items() if stream in pair]
    agree = max((link.agree for link in links), default=0)
    clear = max((link.clear for link in links), default=0)
    why = witness.lacking.get(stream) or _why(links, words)
    return WitnessSync(None, None, False, agree, clear, round(within, 1), why)


def _why(links: Sequence[Link], words: tuple[str, str, str]) -> str:
    silent, nothing, repeats = words
    if not links:
        return "nothing to compare it with"
    if not any(link.told for link in links):
        return silent
    if not any(link.heard for link in links):
        return nothing
    if max(link.clear for link in links) < 2:
        # A peak in a window or two is chance, or a bang of each camera's own.
        often = max(link.heard for link in links) > max(link.told for link in links) / 2
        return repeats if often else nothing
    return DISAGREE


def _verdict(
    facts: Facts, stream: str, is_reference: bool, said: Mapping[str, WitnessSync]
) -> StreamSync:
    sound, sight = said.get(SOUND), said.get(SIGHT)
    clock = facts.clock.get(stream, {})
    if is_reference:
        return StreamSync(
            0.0, 0.0, 0, REFERENCE, HIGH, 0, 0, 0.0, "the reference", sound, sight, clock
        )
    heard = sound if sound is not None and sound.offset_ms is not None else None
    seen = sight if sight is not None and sight.offset_ms is not None else None
    best = heard if heard is not None and (heard.sure or seen is None or not seen.sure) else seen
    if best is None or best.offset_ms is None:
        why = _cannot(facts, stream, said)
        return StreamSync(
            None, None, None, NOBODY, NONE, 0, 0, 0.0, f"cannot tell: {why}", sound, sight, clock
        )
    witness, confidence = (SOUND, HIGH) if best is heard else (SIGHT, GOOD)
    apart = ""
    if not best.sure:
        confidence = LOW
    if heard is not None and seen is not None:
        if _differ(heard, seen, 1 / facts.fps):
            if seen.sure:
                confidence = LOW
                apart = (
                    f"; sound says {offset_words(heard.offset_ms)} ms, "
                    f"sight {offset_words(seen.offset_ms)} ms"
                )
        else:
            witness = BOTH
            if not best.sure:
                confidence = GOOD if heard.agree >= 3 else LOW
    drift = best.drift_ppm
    middle = best.offset_ms + (drift or 0.0) * facts.duration * 1e-3 / 2
    frames = round(middle * 1e-3 * facts.fps)
    words = _words(best.offset_ms, frames, drift, facts)
    doubt = {LOW: ", not believed", GOOD: "" if witness == BOTH else " (by sight alone)"}
    verdict = words + doubt.get(confidence, "") + apart
    return StreamSync(
        offset_ms=best.offset_ms,
        drift_ppm=drift,
        frames=frames,
        witness=witness,
        confidence=confidence,
        agree=best.agree,
        windows=best.windows,
        within_ms=best.within_ms,
        verdict=verdict,
        sound=sound,
        sight=sight,
        clock=clock,
    )


def _differ(heard: WitnessSync, seen: WitnessSync, frame: float) -> bool:
    assert heard.offset_ms is not None
    assert seen.offset_ms is not None
    return abs(heard.offset_ms - seen.offset_ms) > frame * 1e3 + heard.within_ms


def _cannot(facts: Facts, stream: str, said: Mapping[str, WitnessSync]) -> str:
    if stream not in facts.readable:
        return "it cannot be read"
    if not said:
        return "neither sound nor sight was asked"
    return "; ".join(dict.fromkeys(f"{name}: {one.why}" for name, one in said.items()))


def _words(offset_ms: float, frames: int, drift_ppm: float | None, facts: Facts) -> str:
    count = f"{abs(frames)} frame{'s' * (abs(frames) != 1)}"
    words = f"{count} {'late' if frames > 0 else 'early'}" if frames else "in step"
    moved = (drift_ppm or 0.0) * facts.duration * 1e-3
    if abs(moved) * facts.fps >= 500:
        words += f", {abs(moved):.0f} ms {'later' if moved > 0 else 'earlier'} at its end"
    return words
