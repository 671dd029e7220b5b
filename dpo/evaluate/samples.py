"""What the policy answers: greedy answers to held-out prompts, before and after training, and a program's verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dpo.data.pair import TokenizedPair
from dpo.evaluate.generate import Generator
from dpo.model.scorer import Scorer


@dataclass(kw_only=True, slots=True)
class Sampler:
    """Answers the same prompts each time it is asked."""

    pairs: Sequence[TokenizedPair]
    n_shown: int  # the first of them, written to samples.jsonl in full
    generator: Generator
    check: Callable[[str, str], dict[str, bool]] | None  # (prompt, answer) -> verdicts

    def sample(self, scorer: Scorer) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """(records to show, share of answers per verdict). A collective; equal on every worker.

        Raises:
            Stopped: on request, between two tokens.
        """
        if not self.pairs:
            return [], {}
        answers = self.generator.answers(scorer, [pair.prompt_ids for pair in self.pairs])
        ends = self.generator.ends
        records, verdicts = [], []
        for pair, ids in zip(self.pairs, answers, strict=True):
            prompt = self._text(pair.prompt_ids)
            answer = self._text(ids[:-1] if ids and ids[-1] in ends else ids)
            verdict = self.check(prompt, answer) if self.check else {}
            verdicts.append(verdict)
            records.append(
                {"id": pair.id, "prompt": prompt, "answer": answer, "chosen": self._text(pair.chosen_ids), **verdict}
            )
        shares = {f"samples/{name}": sum(v[name] for v in verdicts) / len(verdicts) for name in verdicts[0]}
        return records[: self.n_shown], shares

    def _text(self, ids: list[int]) -> str:
        return str(self.generator.tokenizer.decode(ids, skip_special_tokens=True))


def demo_check(prompt: str, answer: str) -> dict[str, bool]:
    """The demo's checker over decoded texts."""
    from dpo.demo.checker import check

    verdict = check(prompt, answer)
    return {"good": verdict.good, "polite": verdict.polite, "right": verdict.right, "well_formed": verdict.well_formed}


CHECKERS = {"none": None, "demo": demo_check}
