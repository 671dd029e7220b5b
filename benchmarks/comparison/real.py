"""Real preference pairs: lengths and shared beginnings as a real tokenizer makes them, words of the benchmark's own."""

import random
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from comparison.words import END_ID, FIRST_WORD, WordPair
from dpo.data.formats.convert import convert_rows
from dpo.data.formats.settings import FormatSettings
from dpo.data.pair import TokenizedPair
from dpo.data.read.files import Origin
from dpo.data.text.template import choose_template
from dpo.data.text.tokenize import tokenize_pairs
from dpo.errors import DataError
from dpo.model.tiny import build_tiny_tokenizer

LONGEST = 2048  # tokens of prompt + answer; longer pairs are left out for both trainers


def real_pairs(folder: Path, n_pairs: int, vocabulary: int) -> list[WordPair]:
    """`n_pairs` pairs from all files of `folder`/pref that the project reads, evenly over their lengths.

    Raises:
        FileNotFoundError: there are not so many pairs.
    """
    found = [pair for file in sorted((folder / "pref").glob("*.json*")) for pair in _tokenized(file, folder)]
    fitting = sorted((p for p in _as_words(found, vocabulary) if p.longest <= LONGEST), key=lambda p: p.content)
    if len(fitting) < n_pairs:
        raise FileNotFoundError(f"{folder / 'pref'} holds {len(fitting)} readable pairs, {n_pairs} are wanted")
    chosen = [fitting[int((i + 0.5) * len(fitting) / n_pairs)] for i in range(n_pairs)]
    return random.Random(0).sample(chosen, n_pairs)  # in random order


def _tokenized(file: Path, folder: Path) -> list[TokenizedPair]:
    try:
        pairs = convert_rows(Origin(path=str(file)), FormatSettings()).pairs
    except DataError:  # a shape that is not preference pairs
        return []
    tokenizer = _tokenizer(folder)
    results = tokenize_pairs(pairs, tokenizer, choose_template(tokenizer, "auto"))
    return [pair for pair in results if isinstance(pair, TokenizedPair)]


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Qwen2.5's, or bytes where no tokenizer lies beside the data."""
    own = folder / "tokenizers" / "qwen2.5"
    return AutoTokenizer.from_pretrained(own) if own.is_dir() else build_tiny_tokenizer()


def _as_words(pairs: list[TokenizedPair], vocabulary: int) -> list[WordPair]:
    """Real token ids become words by their order of appearance; beyond the vocabulary they begin again."""
    known: dict[int, int] = {}

    def words(ids: list[int]) -> tuple[int, ...]:
        return tuple(FIRST_WORD + known.setdefault(i, len(known)) % (vocabulary - FIRST_WORD) for i in ids)

    return [
        WordPair(
            prompt=words(pair.prompt_ids),
            chosen=(*words(pair.chosen_ids[:-1]), END_ID),
            rejected=(*words(pair.rejected_ids[:-1]), END_ID),
        )
        for pair in pairs
        if min(len(pair.chosen_ids), len(pair.rejected_ids)) > 1
    ]
