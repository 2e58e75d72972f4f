"""`keys`: make, list and revoke the API keys of a service."""

import sys
from argparse import Namespace

from configs.load import SettingsError
from service.api.keyfile import add_to_file, entries_in_file, revoke_in_file
from service.api.keys import new_key
from service.report.console import print_json
from service.report.table import print_rows

HEADINGS = ("name", "scopes", "accepted")


def keys(found: Namespace) -> int:
    """Make a key, list the entries of a keys file, or take one out.

    Raises:
        SettingsError: A name or the file is missing or cannot be used.
    """
    if found.action == "list":
        return _list(found)
    if not found.name:
        raise SettingsError(f"keys {found.action}: whose key? Give a NAME")
    return _revoke(found) if found.action == "revoke" else _new(found)


def _new(found: Namespace) -> int:
    """The key on stdout, this once; its entry for the keys file on stderr."""
    secret, entry = new_key(found.name, found.scopes, found.days)
    if found.file:
        add_to_file(entry, found.file)
    if found.json:
        print_json({"key": secret, "entry": entry.facts(), "file": found.file})
        return 0
    print(secret, flush=True)
    told = f"its hash is in {found.file} now" if found.file else "add this to your keys file:"
    print(f"Keep this key: it is shown only now; {told}", file=sys.stderr)
    if not found.file:
        print(entry.yaml(), end="", file=sys.stderr)
    return 0


def _list(found: Namespace) -> int:
    entries = entries_in_file(_file(found))
    if found.json:
        facts = [{**e.facts(), "expired": e.expired} for e in entries]
        print_json({"keys": [{k: v for k, v in f.items() if k != "sha256"} for f in facts]})
        return 0
    rows = []
    for entry in entries:
        until = "no limit" if entry.expires is None else f"until {entry.expires}"
        until = f"expired {entry.expires}" if entry.expired else until
        rows.append((entry.name, " ".join(entry.scopes), until))
    if rows or found.form == "csv":
        print_rows(HEADINGS, rows, form=found.form)
    else:
        print(f"no keys in {found.file}", file=sys.stderr)
    return 0


def _revoke(found: Namespace) -> int:
    revoke_in_file(found.name, _file(found))
    if found.json:
        print_json({"revoked": found.name, "file": found.file})
    else:
        print(f"revoked {found.name}; services that use {found.file} follow within seconds")
    return 0


def _file(found: Namespace) -> str:
    if not found.file:
        raise SettingsError(f"keys {found.action}: which keys file? Give --file FILE")
    return str(found.file)
