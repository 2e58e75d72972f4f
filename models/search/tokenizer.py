"""A checkpoint's own tokenizer: text → token ids.

Its files are not part of `models.weights.Checkpoint`, because only text queries need them: they are
looked up beside the weights when the first such query comes. No code comes from a checkpoint
(`trust_remote_code` stays off).
"""

import importlib.util
import json
import string
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.cache import cached_copy
from models.errors import ModelError
from models.search.query import check_text
from models.weights import Checkpoint
from takestream.errors import StorageError
from takestream.storage import S3Options, open_filesystem, translated

# Without one of them `transformers` makes a tokenizer of three tokens and says nothing.
VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
FILES = (
    *VOCABULARIES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)


class Tokenizer:
    """Texts as a network was trained to read them; may be called from several threads.

    length: tokens that the network reads at most; the tokenizer cuts what comes after them.
    pad: whether to fill up to `length`, as SigLIP was trained.
    clean: what was done to the texts it was trained on before they were cut into tokens.
    """

    def __init__(
        self, theirs: Any, length: int, pad: bool, clean: Callable[[str], str] | None = None
    ) -> None:
        self.length = length
        self._theirs = theirs
        self._pad = pad
        self._clean = clean
        # Cutting and padding are settings of the one Rust object behind it.
        self._lock = threading.Lock()

    def ids(self, text: str) -> Tensor:
        """Token ids int64 [1, L] with L <= `length`. Raises QueryError as `count` does."""
        text = self._checked(text)
        with self._lock:
            found = self._theirs(
                text,
                padding="max_length" if self._pad else False,
                max_length=self.length,
                truncation=True,
            )
        return torch.tensor([found["input_ids"]], dtype=torch.int64)

    def count(self, text: str) -> int:
        """Tokens of the whole text, of which the network reads the first `length`.

        Raises QueryError as `check_text` does.
        """
        text = self._checked(text)
        with self._lock:
            return len(self._theirs(text, truncation=False, verbose=False)["input_ids"])

    def _checked(self, text: str) -> str:
        text = check_text(text)
        return text if self._clean is None else self._clean(text)


def load_tokenizer(
    checkpoint: Checkpoint, length: int, pad: bool, s3: S3Options | None = None
) -> Tokenizer:
    """The tokenizer beside the weights of `checkpoint`.

    length, pad: as `Tokenizer` has them; padding goes with the lower case of SigLIP's training.
    Raises ModelError when its files are missing or damaged, or when it needs a package that is not
    installed (`sentencepiece`, where there is a `spiece.model` and no `tokenizer.json`).
    """
    folder = _folder(checkpoint, s3)
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise ModelError(
            f"'{checkpoint.uri}' has no tokenizer ({', '.join(VOCABULARIES)}), so it cannot read"
            " text; put the checkpoint's own tokenizer files beside its weights"
        )
    # Imported here: it takes seconds, and only text queries need it.
    import transformers

    siglip = pad and _is_siglip(folder)
    # SigLIP's class needs a package more; its `tokenizer.json` holds the same vocabulary.
    plain = siglip and not (_can_read_spiece() and (folder / "spiece.model").is_file())
    loader = transformers.PreTrainedTokenizerFast if plain else transformers.AutoTokenizer
    try:
        theirs = loader.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        # Each kind of vocabulary file has errors of its own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        lacks = plain and not (folder / "tokenizer.json").is_file()
        todo = "`pip install sentencepiece`" if lacks else "compare its files with the hub's"
        raise ModelError(
            f"'{checkpoint.uri}': its tokenizer does not load ({reason}); {todo}"
        ) from error
    if not pad:
        return Tokenizer(theirs, length, pad)
    return Tokenizer(theirs, length, pad, _siglip if siglip else str.lower)


def _siglip(text: str) -> str:
    """What SigLIP's tokenizer class does to a text (`canonicalize_text` in `transformers`).

    Doing it twice changes nothing; a `tokenizer.json` that is read without the class needs it.
    """
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(bare.split())


def _can_read_spiece() -> bool:
    return importlib.util.find_spec("sentencepiece") is not None


def _is_siglip(folder: Path) -> bool:
    """Whether the tokenizer is SigLIP's own. SigLIP 2 has Gemma's, and keeps punctuation."""
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return (folder / "spiece.model").is_file()
    return str(config.get("tokenizer_class")).startswith("SiglipTokenizer")


def _folder(checkpoint: Checkpoint, s3: S3Options | None) -> Path:
    """Where the tokenizer's files lie on this machine, fetched when they are elsewhere."""
    uri = checkpoint.uri
    try:
        if checkpoint.revision:
            from huggingface_hub import snapshot_download

            repo = uri.removeprefix("hf://").strip("/")
            found = snapshot_download(
                repo, revision=checkpoint.revision, allow_patterns=list(FILES)
            )
            return Path(found)
        if "://" not in uri or uri.startswith("file://"):
            return checkpoint.folder
        with translated(uri, "read", s3):
            fs, path = open_filesystem(uri, s3)
            there = {Path(entry["name"]).name: entry["name"] for entry in fs.ls(path, detail=True)}
            return cached_copy(uri, fs, {name: there[name] for name in FILES if name in there})
    except Exception as error:
        # The hub's client has many errors of its own.
        kind = error.kind if isinstance(error, StorageError) else None
        raise ModelError(
            f"'{uri}': its tokenizer's files cannot be read: {error}", kind=kind
        ) from error
