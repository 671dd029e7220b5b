"""What the pairs of one source are made from: the content of its files, and everything that decides what becomes of it.
Its digest names the folder of the prepared pairs."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tokenizers
import transformers
from transformers import PreTrainedTokenizerBase

from dpo.config.schema import DataConfig
from dpo.data.decontaminate.benchmark import Benchmark
from dpo.data.formats.convert import choose_converter, require_used
from dpo.data.formats.settings import format_settings
from dpo.data.pair import Pair
from dpo.data.read import hub
from dpo.data.read.files import read_rows
from dpo.data.read.listing import input_files, is_local
from dpo.data.read.origin import Origin
from dpo.data.store.work import Item, Work
from dpo.data.text.limits import TokenLimits
from dpo.data.text.template import ChatTemplate
from dpo.digests import FileDigests

# Raise it when the same rows and settings would give other pairs or columns: what is kept is then prepared anew.
DATA_VERSION = 3

# Settings of data= without a say in the content of one source, or with a place of their own in `made_from`.
WITHOUT_EFFECT = (
    "path",
    "sources",
    "format",
    "split",
    "revision",
    "subset",
    "data_dir",
    "streaming",
    "duplicates",
    "decontaminate",
    "decontaminate_drop",
    "eval_path",
    "eval_split",
    "demo",
    "max_length",
    "max_prompt_length",
    "truncation",
    "on_bad_row",
    "group_by_prompt",
    "cache_dir",
    "workers",
)


@dataclass(kw_only=True, slots=True)
class Tools:
    """How messages become tokens, and how many there may be."""

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    limits: TokenLimits
    _tokenizer_digest: str = field(init=False, default="")

    @property
    def tokenizer_digest(self) -> str:
        """Over the whole tokenizer, or the vocabulary of one that is written in Python. Computed once: 0.1 s."""
        self._tokenizer_digest = self._tokenizer_digest or _tokenizer_digest(self.tokenizer)
        return self._tokenizer_digest


@dataclass(kw_only=True, slots=True)
class Recipe:
    """One source. Making the object reads nothing."""

    name: str  # that its pairs go by
    label: str  # for the log: a path
    origin: Origin | None = None  # None: `pairs`, made by code
    pairs: list[Pair] = field(default_factory=list)
    config: DataConfig
    tools: Tools
    alone: bool = False  # the only source that is trained on: every setting must have an effect on it
    benchmark: Benchmark | None = None  # that every prompt is held against
    _made_from: dict[str, Any] = field(init=False, default_factory=dict)

    def digest(self, cache: Path) -> str:
        """64 hexadecimal digits. Raises DataError."""
        return hashlib.sha256(json.dumps(self.made_from(cache), sort_keys=True, default=str).encode()).hexdigest()

    def made_from(self, cache: Path) -> dict[str, Any]:
        """Reads the files once, as far as `cache` does not remember their digests. Raises DataError."""
        self._made_from = self._made_from or self._all_of_it(cache)
        return self._made_from

    def _all_of_it(self, cache: Path) -> dict[str, Any]:
        own = asdict(self.config)
        return {
            "source": self._source(cache),
            "settings": {key: value for key, value in own.items() if key not in WITHOUT_EFFECT},
            "limits": asdict(self.tools.limits),
            "template": asdict(self.tools.template),
            "tokenizer": self.tools.tokenizer_digest,
            "benchmark": self.benchmark and self.benchmark.digest(),
            "versions": {
                "data": DATA_VERSION,
                "transformers": transformers.__version__,
                "tokenizers": tokenizers.__version__,
            },
        }

    def open(self) -> tuple[Work, Iterable[Item]]:
        """What to do with the rows, and they. Raises DataError: nothing there, or a format that is not known, or that
        a setting does not suit."""
        work = Work(
            converter=None,
            tokenizer=self.tools.tokenizer,
            template=self.tools.template,
            limits=self.tools.limits,
            benchmark=self.benchmark,
        )
        if self.origin is None:
            return work, iter(self.pairs)
        settings = replace(format_settings(self.config), format=self.origin.format)
        work.converter, rows = choose_converter(read_rows(self.origin), self.origin, settings)
        if self.alone:  # told at once; where there are several it shows when all are prepared
            require_used([(work.converter.format.name, work.converter.unused)])
        return work, rows

    def _source(self, cache: Path) -> dict[str, Any]:
        if self.origin is None:
            ids = "".join(pair.id for pair in self.pairs)
            return {"code": self.label, "pairs": hashlib.sha256(ids.encode()).hexdigest()}
        if not is_local(self.origin.path):
            commit = hub.commit(self.origin.path, self.origin.revision)
            part = {"split": self.origin.split, "subset": self.origin.subset, "data_dir": self.origin.data_dir}
            return {"hub": self.origin.path, **part, "commit": commit, "format": self.origin.format}
        files = input_files(self.origin)
        digests = FileDigests(cache, "data").of([file.path for file in files])
        named = [[file.label, digest] for file, digest in zip(files, digests, strict=True)]
        return {"files": named, "format": self.origin.format}


def differences(now: dict[str, Any], before: dict[str, Any]) -> Iterator[str]:
    """What of `made_from` has changed, for the log."""
    for key in now:
        mine, theirs = now[key], before.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            yield from (f"{key}.{name}" for name in mine if mine[name] != theirs.get(name))
        elif mine != theirs:
            yield key


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    tokens = json.dumps([type(tokenizer).__name__, tokenizer.chat_template, tokenizer.special_tokens_map], default=str)
    return hashlib.sha256(f"{tokens}\n{text}".encode()).hexdigest()
