"""A tokenizer whose words are its tokens, so that synthetic lengths are exact and real ones survive any vocabulary.

The prompt ends and an answer begins at a blank, and nothing is put before a text: prompt and answer tokenized together
or apart give the same ids. Both trainers close an answer with the end token.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

PAD, END = "<pad>", "</s>"
PAD_ID, END_ID, FIRST_WORD = 0, 1, 2


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Ids 0 and 1 are pad and end, every other id i is the word `w<i>`."""
    ids = {PAD: PAD_ID, END: END_ID} | {f"w{i}": i for i in range(FIRST_WORD, vocabulary)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=PAD))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END)


@dataclass(kw_only=True, slots=True, frozen=True)
class WordPair:
    """A pair as token ids. Each answer ends with END_ID, which its text leaves to the trainers."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def content(self) -> int:
        """Tokens that the pair is about: prompt once, both answers."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def longest(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    def row(self) -> dict[str, str]:
        """The line of the pairs file that both trainers read."""
        return {
            "prompt": text(self.prompt),
            "chosen": " " + text(self.chosen[:-1]),
            "rejected": " " + text(self.rejected[:-1]),
        }


def text(ids: tuple[int, ...]) -> str:
    return " ".join(f"w{i}" for i in ids)
