"""`keys`: made, listed, revoked."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from service.api.keys import KeyRing
from tests.service.cli.test_jobs import Say, say

__all__ = ["say"]


def test_keys_new(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    code, out, err = say("keys", "new", "alice", "--scopes", "read", "jobs", "--file", file)
    assert code == 0
    ring = KeyRing.load(str(file), {})
    assert ring is not None
    key = ring.find(f"Bearer {out.strip()}")
    assert key is not None
    assert (key.name, key.scopes) == ("alice", {"read", "jobs"})
    assert out.strip() not in err
    code, out, err = say("keys", "new", "bob")
    assert code == 0
    assert "- name: bob\n  sha256: " in err
    code, out, err = say("keys", "new", "alice", "--file", file)
    assert (code, out) == (2, "")
    assert "a key named 'alice' already" in err
    assert say("keys", "new")[0] == 2
    assert say("keys", "new", "carl", "--days", "0")[0] == 2


def test_keys_are_listed_and_revoked(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    for name, more in (("ann", ()), ("bob", ("--days", "30"))):
        assert say("keys", "new", name, *more, "--file", file)[0] == 0
    last = datetime.now(UTC).date() + timedelta(30)
    code, out, _ = say("keys", "list", "--file", file)
    assert (code, out.splitlines()) == (
        0, ["name  scopes  accepted", "ann   read    no limit", f"bob   read    until {last}"]
    )  # fmt: skip
    code, out, _ = say("keys", "list", "--file", file, "--format", "csv")
    assert out.splitlines()[1:] == ["ann,read,no limit", f"bob,read,until {last}"]
    listed = json.loads(say("keys", "list", "--file", file, "--json")[1])
    assert listed["keys"][1] == {
        "name": "bob", "scopes": ["read"], "expires": str(last), "expired": False
    }  # fmt: skip
    code, out, _ = say("keys", "revoke", "ann", "--file", file)
    assert (code, out.startswith("revoked ann")) == (0, True)
    assert say("keys", "list", "--file", file)[1].splitlines()[1].startswith("bob")
    code, _, err = say("keys", "revoke", "bop", "--file", file)
    assert code == 2
    assert "did you mean 'bob'" in err
    for wrong in (("list",), ("revoke", "bob"), ("revoke", "--file", str(file))):
        assert say("keys", *wrong)[0] == 2
    assert say("keys", "revoke", "bob", "--file", tmp_path / "none.yaml")[0] == 2
