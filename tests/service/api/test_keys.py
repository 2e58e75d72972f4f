"""API keys: made, kept as hashes, found again."""

import hashlib
import hmac
import itertools
import json
import logging
import multiprocessing
import os
import pickle
import time
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from configs.load import SettingsError
from service.api import keys
from service.api.keyfile import add_to_file, entries_in_file, revoke_in_file
from service.api.keys import KeyRing, new_key


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_a_key_is_found_and_others_are_not(keys_file: Path) -> None:
    secret, entry = new_key("alice", ["read", "compute", "read"])
    other, _ = new_key("bob", ["jobs"])
    assert secret.startswith("ts_")
    assert len(secret) >= 45
    assert entry.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    keys_file.write_text(entry.yaml())
    keys_file.chmod(0o600)
    ring = KeyRing.load(str(keys_file), {})
    for header in (f"Bearer {secret}", f"bearer  {secret} "):
        key = ring.find(header)
        assert (key.name, key.scopes) == ("alice", {"read", "compute"})
    assert key.may("read")
    assert not key.may("jobs")
    wrong = (
        None, "", "Bearer", "Bearer ", secret, f"Basic {secret}", f"Bearer {other}",
        f"Bearer {secret}x", f"Bearer {secret[:-1]}", f"Bearer {entry.sha256}", "Bearer \udcff é",
        f"Bearer {secret}" + "x" * 100_000, f"Bearer {secret}\0",
    )  # fmt: skip
    assert [ring.find(header) for header in wrong] == [None] * len(wrong)
    for text in (repr(ring), repr(entry), repr(key), entry.yaml(), keys_file.read_text()):
        assert secret not in text


def test_every_entry_is_compared_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [new_key(name, ["read"]) for name in "abc"]
    ring = KeyRing(entry for _, entry in made)
    compared: list[bytes] = []
    plain = hmac.compare_digest
    monkeypatch.setattr(
        hmac, "compare_digest", lambda a, b: bool(compared.append(b)) or plain(a, b)
    )
    for header in (f"Bearer {made[0][0]}", f"Bearer {made[2][0]}", "Bearer none", "Basic x", None):
        compared.clear()
        ring.find(header)
        assert len(compared) == 3


def test_file_and_environment_together(keys_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    (first, one), (second, two) = new_key("one", ["read"]), new_key("two", ["jobs"])
    assert KeyRing.load(None, {}) is None
    assert KeyRing.load(None, {"TAKESTREAM_API_KEYS": " "}) is None
    in_environment = {"TAKESTREAM_API_KEYS": json.dumps([two.model_dump(mode="json")])}
    add_to_file(one, str(keys_file))
    with caplog.at_level(logging.WARNING):
        ring = KeyRing.load(str(keys_file), in_environment)
    assert caplog.text == ""
    assert ring.names == ("one", "two")
    assert ring.find(f"Bearer {first}").name == "one"
    assert ring.find(f"Bearer {second}").name == "two"
    assert KeyRing.load(None, in_environment).names == ("two",)
    with pytest.raises(SettingsError, match="a key named 'one' already"):
        KeyRing.load(str(keys_file), {"TAKESTREAM_API_KEYS": one.yaml()})
    keys_file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        KeyRing.load(str(keys_file), {})
    assert "chmod 600" in caplog.text


DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"- {{name: a, sha256: '{DIGEST}', scopes: [raed]}}", "did you mean 'read'?"),
        (f"- {{name: a, sha256: '{DIGEST}', scopes: []}}", "without scopes"),
        (f"- {{name: a b, sha256: '{DIGEST}', scopes: [read]}}", "keys.0.name"),
        (f"- {{name: a, sha265: '{DIGEST}', scopes: [read]}}", "unknown setting"),
        ("- {name: a, sha256: hush-hush, scopes: [read]}", "64 hex digits"),
        ("- {name: a, key: hush-hush, scopes: [read]}", "takestream keys new"),
        ("- {name: a, sha256: ts_hush-hush, scopes: [read]}", "in plain text"),
        ("- {name: [hush-hush", "is no YAML"),
        ("", "expected a list of keys"),
        ("[]", "expected a list of keys"),
        ("hush-hush", "expected a list of keys"),
        (
            f"[{{name: a, sha256: '{DIGEST}', scopes: [read]}},"
            f" {{name: b, sha256: '{DIGEST.upper()}', scopes: [read]}}]",
            "'b' has the same key as 'a'",
        ),
    ],
)
def test_a_bad_file_is_told_without_quoting_secrets(keys_file: Path, text: str, words: str) -> None:
    keys_file.write_text(text)
    with pytest.raises(SettingsError) as error:
        KeyRing.load(str(keys_file), {})
    assert words in str(error.value)
    assert "hush" not in str(error.value)
    assert str(keys_file) in str(error.value)


def test_a_file_that_is_not_there(keys_file: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read the keys file: No such file"):
        KeyRing.load(str(keys_file), {})


def test_adding_keeps_what_was_there(keys_file: Path) -> None:
    add_to_file(new_key("one", ["read"])[1], str(keys_file))
    keys_file.write_text("# who may what\n" + keys_file.read_text().rstrip())
    keys_file.chmod(0o644)
    add_to_file(new_key("two", ["jobs", "read"])[1], str(keys_file))
    assert keys_file.stat().st_mode & 0o777 == 0o600
    assert keys_file.read_text().startswith("# who may what\n- name: one\n")
    assert KeyRing.load(str(keys_file), {}).names == ("one", "two")
    before = keys_file.read_text()
    with pytest.raises(SettingsError, match="a key named 'two' already"):
        add_to_file(new_key("two", ["jobs"])[1], str(keys_file))
    assert keys_file.read_text() == before
    # JSON is YAML too, but nothing can be put behind it.
    keys_file.write_text(json.dumps(yaml.safe_load(before)))
    add_to_file(new_key("three", ["jobs"])[1], str(keys_file))
    assert KeyRing.load(str(keys_file), {}).names == ("one", "two", "three")
    assert os.listdir(keys_file.parent) == [keys_file.name]


def test_the_owner_stays(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_to_file(new_key("one", ["read"])[1], str(keys_file))
    given: list[tuple[int, int]] = []
    monkeypatch.setattr("os.fchown", lambda _, user, group: given.append((user, group)))
    add_to_file(new_key("two", ["read"])[1], str(keys_file))
    assert given == []
    owner = keys_file.stat()
    monkeypatch.setattr("os.geteuid", lambda: owner.st_uid + 1)
    add_to_file(new_key("three", ["read"])[1], str(keys_file))
    assert given == [(owner.st_uid, owner.st_gid)]


def _add(name: str, file: str) -> None:
    add_to_file(new_key(name, ["read"])[1], file)


def test_keys_added_at_once_are_all_kept(keys_file: Path) -> None:
    fork = multiprocessing.get_context("fork")
    names = [f"k{number}" for number in range(8)]
    adding = [fork.Process(target=_add, args=(name, str(keys_file))) for name in names]
    for process in adding:
        process.start()
    for process in adding:
        process.join(30)
    assert set(KeyRing.load(str(keys_file), {}).names) == set(names)


@pytest.mark.parametrize(("name", "scopes"), [("a/b", ["read"]), ("a", ["rid"]), ("a", [])])
def test_a_bad_name_or_scope_makes_no_key(name: str, scopes: list[str]) -> None:
    with pytest.raises(SettingsError):
        new_key(name, scopes)


def test_a_key_taken_out_of_the_file_is_refused_within_seconds(
    keys_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (first, one), (second, two) = new_key("one", ["read"]), new_key("two", ["jobs"])
    add_to_file(one, str(keys_file))
    add_to_file(two, str(keys_file))
    (other, third) = new_key("three", ["read"])
    loaded = KeyRing.load(str(keys_file), {"TAKESTREAM_API_KEYS": third.yaml()})
    ring: KeyRing = pickle.loads(pickle.dumps(loaded))  # noqa: S301 - as it gets to a replica
    found = lambda secret: ring.find(f"Bearer {secret}")  # noqa: E731
    assert found(first)
    assert found(other)
    revoke_in_file("one", str(keys_file))
    assert found(first), "the file is read now and then, not for each request"
    later = itertools.count(time.monotonic() + 10, 10)
    monkeypatch.setattr(keys.time, "monotonic", lambda: next(later))
    assert not found(first)
    assert not ring.has("one")
    assert found(second)
    # A typo does not lock everybody out, and is told.
    whole = keys_file.read_text()
    keys_file.write_text("- {name: [")
    assert found(second)
    assert "is no YAML" in ring.problem
    keys_file.write_text(whole)
    assert found(second)
    assert ring.problem == ""
    revoke_in_file("two", str(keys_file))
    assert not found(second)
    assert found(other), "what stands in the environment stays"
    add_to_file(two, str(keys_file))
    assert found(second)
    keys_file.unlink()
    assert not found(second)
    assert "is gone" in ring.problem


def test_a_key_is_accepted_to_the_end_of_its_last_day(monkeypatch: pytest.MonkeyPatch) -> None:
    secret, entry = new_key("ann", ["read"], days=3)
    ring = KeyRing([entry])
    start = keys.today()
    for days, accepted in ((0, True), (3, True), (4, False)):
        monkeypatch.setattr(keys, "today", lambda days=days: start + timedelta(days))
        assert (ring.find(f"Bearer {secret}") is not None) == accepted
        assert ring.has("ann") == accepted
    for days in (0, -1, 10**9):
        with pytest.raises(SettingsError, match="days"):
            new_key("ann", ["read"], days)


@pytest.mark.parametrize("style", ["ours", "block", "mapping", "json"])
def test_revoking_keeps_what_was_there(keys_file: Path, style: str) -> None:
    entries = [new_key(name, ["read"], days)[1] for name, days in (("a", 1), ("b", 2), ("c", None))]
    facts = [entry.facts() for entry in entries]
    texts = {
        "ours": "# top\n" + "".join(f"# of {e.name}\n{e.yaml()}" for e in entries),
        "block": "# top\n" + "".join(f"# of {e['name']}\n{yaml.safe_dump([e])}" for e in facts),
        "mapping": yaml.safe_dump({"keys": facts}),
        "json": json.dumps(facts),
    }
    keys_file.write_text(texts[style])
    revoke_in_file("b", str(keys_file))
    assert entries_in_file(str(keys_file)) == [entries[0], entries[2]]
    text = keys_file.read_text()
    if style in ("ours", "block"):
        assert text.startswith("# top\n# of a\n")
        assert "# of c\n- " in text
    before = keys_file.read_text()
    with pytest.raises(SettingsError, match="no key named 'b'"):
        revoke_in_file("b", str(keys_file))
    assert keys_file.read_text() == before
    for name in ("c", "a"):
        revoke_in_file(name, str(keys_file))
    assert entries_in_file(str(keys_file)) == []
    assert keys_file.stat().st_mode & 0o777 == 0o600
    add_to_file(entries[1], str(keys_file))
    assert entries_in_file(str(keys_file)) == [entries[1]]
