"""Text to token ids in batches, without a blank or a control token that the text does not ask for."""

from dataclasses import dataclass, field
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from dpo.data.text.template import token_texts


@dataclass(kw_only=True, slots=True)
class Piece:
    """A stretch of text that is tokenized on its own."""

    text: str
    literal: bool = False  # True: the text of a special token in it is text, not that token
    after: str = ""  # the text directly before it in the sequence; "" at the start of a sequence


@dataclass(kw_only=True)
class Encoder:
    """A tokenizer with what was measured about it. Encoding never adds special tokens; see `bos_id`."""

    tokenizer: PreTrainedTokenizerBase
    added: list[str] = field(init=False)  # texts that are one token wherever they stand
    special: list[str] = field(init=False)  # those of them with control meaning

    def __post_init__(self) -> None:
        self.added = token_texts(self.tokenizer, special_only=False)
        self.special = token_texts(self.tokenizer, special_only=True)

    @cached_property
    def bos_id(self) -> int | None:
        """The token that this tokenizer puts before every text; None when it puts none there."""
        bos = self.tokenizer.bos_token_id
        if not isinstance(bos, int):
            return None
        ids: list[int] = self.tokenizer("a", return_attention_mask=False)["input_ids"]
        return bos if ids[:1] == [bos] else None

    @cached_property
    def _adds_blank(self) -> bool:
        """Whether a text's first word gets a blank before it (sentencepiece style)."""
        return self._encode(["\na"], False)[0] != self._encode(["\n"], False)[0] + self._encode(["a"], False)[0]

    def has_special(self, text: str) -> bool:
        """Whether `text` spells out a special token."""
        return any(token in text for token in self.special)

    def encode(self, sequences: list[list[Piece]]) -> list[list[int]]:
        """Token ids of each sequence of pieces."""
        flat = [piece for pieces in sequences for piece in pieces]
        by_kind = {
            literal: iter(self._encode_after([p for p in flat if p.literal is literal], literal))
            for literal in (False, True)
        }
        return [[i for piece in pieces for i in next(by_kind[piece.literal])] for pieces in sequences]

    def _encode_after(self, pieces: list[Piece], literal: bool) -> list[list[int]]:
        """Ids of pieces as they are in the middle of a text: there, no blank is put before the first word.

        A piece is tokenized behind an anchor whose ids are then taken off. The anchor is the control token that the
        text before it ends with, if any (older tokenizers do put a blank there), else a line break.
        """
        if not self._adds_blank:
            return self._encode([piece.text for piece in pieces], literal)
        anchors = ["\n" if literal and piece.after else self._anchor(piece.after) for piece in pieces]
        texts = [anchor + piece.text for anchor, piece in zip(anchors, pieces, strict=True)]
        heads = {anchor: self._encode([anchor], literal)[0] if anchor else [] for anchor in set(anchors)}
        result = []
        for piece, anchor, ids in zip(pieces, anchors, self._encode(texts, literal), strict=True):
            head = heads[anchor]
            merged = ids[: len(head)] != head  # the anchor became one token with the text: take the text alone
            result.append(self._encode([piece.text], literal)[0] if merged else ids[len(head) :])
        return result

    def _anchor(self, after: str) -> str:
        return next((token for token in self.added if after.endswith(token)), "\n") if after else ""

    def _encode(self, texts: list[str], literal: bool) -> list[list[int]]:
        if not texts:
            return []
        kwargs = {"split_special_tokens": True} if literal else {}
        ids: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False, **kwargs
        )["input_ids"]
        return ids
