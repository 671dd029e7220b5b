"""Text to token ids in batches, without a blank or a control token that the text does not ask for."""

import re
from dataclasses import dataclass, field
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from dpo.data.text.spelt import Spelling
from dpo.data.text.template import token_texts

# Characters that a reader does not see and that some tokenizers drop: control characters but tab and line feed, marks
# of direction and of zero width.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]")


@dataclass(kw_only=True, slots=True)
class Piece:
    """A stretch of text that is tokenized on its own."""

    text: str
    literal: bool = False  # True: the text of a control token in it is text, not that token
    after: str = ""  # the text directly before it in the sequence; "" at the start of a sequence


@dataclass(kw_only=True)
class Encoder:
    """A tokenizer with what was measured about it. Encoding never adds special tokens; see `bos_id`."""

    tokenizer: PreTrainedTokenizerBase
    added: list[str] = field(init=False)  # texts that are one token wherever they stand, the longest first
    spelling: Spelling = field(init=False)  # those of them with control meaning

    def __post_init__(self) -> None:
        self.added = token_texts(self.tokenizer, special_only=False)
        self.spelling = Spelling(tokens=token_texts(self.tokenizer, special_only=True))

    @cached_property
    def bos_id(self) -> int | None:
        """The token that this tokenizer puts before every text; None when it puts none there."""
        bos = self.tokenizer.bos_token_id
        if not isinstance(bos, int):
            return None
        ids: list[int] = self.tokenizer("a", return_attention_mask=False)["input_ids"]
        return bos if ids[:1] == [bos] else None

    @cached_property
    def size(self) -> int:
        """Number of tokens in the vocabulary, added ones included."""
        return len(self.tokenizer)

    @cached_property
    def _adds_blank(self) -> bool:
        """Whether a text's first word gets a blank before it (sentencepiece style)."""
        return self._encode(["\na"])[0] != self._encode(["\n"])[0] + self._encode(["a"])[0]

    @cached_property
    def _begins_anew(self) -> dict[str, bool]:
        """Of every added token: whether the text behind it gets a blank as if a text began (older sentencepiece)."""
        (a,), heads = self._encode(["a"]), self._encode(self.added)
        both = self._encode([token + "a" for token in self.added])
        return {token: ids == head + a for token, ids, head in zip(self.added, both, heads, strict=True)}

    def id_of(self, token: str) -> int:
        """The id of a token's text. Raises TypeError when there is no single one."""
        found = self.tokenizer.convert_tokens_to_ids(token)
        if not isinstance(found, int):
            raise TypeError(f"no single id for the token {token!r}")
        return found

    def pieces(self, text: str, after: str = "") -> list[Piece]:
        """A rendered text (`Spelling.hide`) as pieces; `after`: the text before it in the sequence."""
        found = []
        for part, literal in self.spelling.split(text):
            found.append(Piece(text=part, literal=literal, after=after))
            after = "\n" if literal else part  # a control token that a literal text ends with is none
        return found

    def encode(self, sequences: list[list[Piece]]) -> list[list[int]]:
        """Token ids of each sequence of pieces."""
        flat = [piece for pieces in sequences for piece in pieces]
        by_kind = {
            literal: iter(self._encode_after([p for p in flat if p.literal is literal], literal))
            for literal in (False, True)
        }
        return [[i for piece in pieces for i in next(by_kind[piece.literal])] for pieces in sequences]

    def loses(self, text: str, ids: list[int]) -> str | None:
        """The first character of `text` that cannot be seen and that `ids` do not bring back; None: all are there."""
        unseen = dict.fromkeys(UNSEEN.findall(text))
        if not unseen:
            return None
        back = str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))
        return next((mark for mark in unseen if back.count(mark) < text.count(mark)), None)

    def _encode_after(self, pieces: list[Piece], literal: bool) -> list[list[int]]:
        """Ids of pieces as they are in the middle of a text: there, no blank is put before the first word.

        A piece is tokenized behind an anchor whose ids are then taken off. The anchor is the control token that the
        text before it ends with, if any (older tokenizers do put a blank there), else a line break.
        """
        if not self._adds_blank:
            return self._encode([piece.text for piece in pieces], literal)
        anchors = [self._anchor(piece) for piece in pieces]
        texts = [anchor + piece.text for anchor, piece in zip(anchors, pieces, strict=True)]
        heads = {anchor: self._encode([anchor], literal)[0] if anchor else [] for anchor in set(anchors)}
        result = []
        for piece, anchor, ids in zip(pieces, anchors, self._encode(texts, literal), strict=True):
            head = heads[anchor]
            merged = ids[: len(head)] != head  # the anchor became one token with the text: take the text alone
            result.append(self._encode([piece.text], literal)[0] if merged else ids[len(head) :])
        return result

    def _anchor(self, piece: Piece) -> str:
        if not piece.after:
            return ""
        token = next((token for token in self.added if piece.after.endswith(token)), "\n")
        if piece.literal and token != "\n":  # in a literal text the token would not be one
            return "" if self._begins_anew[token] else "\n"
        return token

    def _encode(self, texts: list[str], literal: bool = False) -> list[list[int]]:
        if not texts:
            return []
        kwargs = {"split_special_tokens": True} if literal else {}
        ids: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False, **kwargs
        )["input_ids"]
        return [self._apart(text, found) for text, found in zip(texts, ids, strict=True)] if literal else ids

    def _apart(self, text: str, ids: list[int]) -> list[int]:
        """`ids` of a literal text. Where the vocabulary itself has a spelt control token as a word (unigram models),
        the text is cut within it."""
        spelt = {self.id_of(token) for token in self.spelling.tokens if token in text}
        if not spelt.intersection(ids) - {self.tokenizer.unk_token_id}:
            return ids
        parts = [Piece(text=part, literal=True, after="a") for part in self.spelling.cut(text)]
        return [i for part in self._encode_after(parts, literal=True) for i in part]
