"""A store whose metadata are damaged is the storage's fault: 503 that names it, never 500."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.api.test_api import FEATURES, client_of, root

__all__ = ["root"]
Node = dict[str, Any]


def features(node: Node) -> Node:
    found: Node = node["consolidated_metadata"]["metadata"]["features"]
    return found


DAMAGE: dict[str, Callable[[Node], Any]] = {
    "a billion clips": lambda n: features(n).update(shape=[10**9, 2, 1280]),
    "too few dimensions": lambda n: features(n).update(shape=[20, 2]),
    "negative": lambda n: features(n).update(shape=[-1, 2, 1280]),
    "text": lambda n: features(n).update(data_type="string"),
    "unknown codec": lambda n: features(n).update(codecs=[{"name": "invented"}]),
    "no chunks": lambda n: features(n).pop("chunk_grid"),
    "provenance": lambda n: n["attributes"].update(provenance=[1, 2]),
    "problems": lambda n: n["attributes"].update(problems="none"),
    "take": lambda n: n["attributes"].update(take=None),
    "streams": lambda n: n["attributes"].update(streams={"a": 1}),
    "attributes": lambda n: n.update(attributes=[]),
    "consolidated": lambda n: n.update(consolidated_metadata=7),
}
TEXTS = {
    "nested": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "cut": '{"zarr_format": 3, "attr',
    "empty": "",
    "a list": "[]",
    "no text": "\ud800",
}


@pytest.mark.parametrize("damage", [*DAMAGE, *TEXTS])
def test_a_damaged_store_is_a_503_that_names_it(root: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(root, tmp_path / "root")
    (store,) = (tmp_path / "root" / "out").glob("*/uid-1.zarr")
    file = store / "zarr.json"
    text = TEXTS.get(damage)
    if text is None:
        node = json.loads(file.read_text())
        DAMAGE[damage](node)
        text = json.dumps(node)
    file.write_bytes(text.encode(errors="surrogatepass"))
    client = client_of(tmp_path / "root")
    for url in (
        FEATURES,
        "/v1/takes/one/timeline",
        "/v1/takes/one/projection",
        "/v1/takes/one/similarity",
    ):
        answer = client.get(url)
        assert answer.status_code == 503, (url, answer.status_code, answer.text[:300])
        assert "uid-1.zarr" in answer.json()["detail"]
        assert answer.headers["retry-after"]
    search = {"take": "one", "moment": {"stream": "cam01_0", "time": 1}}
    assert client.post("/v1/search", json=search).status_code == 503
    stores = client.get("/v1/takes/one").json()["stores"]
    assert [one["status"] for one in stores] == ["damaged"]
    assert client.get("/v1/takes").status_code == 200
