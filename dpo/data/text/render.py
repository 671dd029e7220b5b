"""A pair as text: the prompt, and each answer as exactly what the chat template puts after that prompt."""

import json
from dataclasses import dataclass, field

from dpo.data.formats.values import RowProblem
from dpo.data.pair import Message, Pair
from dpo.data.text.conversation import KEPT, Conversation
from dpo.data.text.pieces import Encoder, Piece
from dpo.data.text.shown import require_shown, require_tools
from dpo.data.text.template import ChatTemplate, TemplateProblem, is_raw, is_rendered


@dataclass(kw_only=True, slots=True)
class Stretch:
    """A part of an answer that is scored as a whole or not at all."""

    pieces: list[Piece]
    scored: bool = True


@dataclass(kw_only=True, slots=True)
class RenderedAnswer:
    """An answer as text: one scored stretch per assistant turn, with the context between them."""

    stretches: list[Stretch]  # none for the absent answer of an unpaired row
    end_id: int | None = None  # the token that ends the answer, where its text does not spell it out


@dataclass(kw_only=True, slots=True)
class RenderedPair:
    """A pair as text, ready to be tokenized piece by piece."""

    prompt: list[Piece]
    chosen: RenderedAnswer
    rejected: RenderedAnswer


@dataclass(kw_only=True)
class Renderer:
    """Pairs under one template. Pairs of one prompt that follow each other share what was rendered of it."""

    template: ChatTemplate
    encoder: Encoder
    _prompt: object = field(default=None, init=False)  # the last one, with its tools and arguments
    _talk: Conversation = field(init=False)
    # Of the last prompt: its pieces by their text, and its answers by their content and their start.
    _prompts: dict[str, list[Piece]] = field(default_factory=dict, init=False)
    _answers: dict[tuple[str, int], RenderedAnswer] = field(default_factory=dict, init=False)

    def render(self, pair: Pair) -> RenderedPair:
        """The texts of `pair`. The prompt's text is the same for both answers by construction.

        The prompt is what a model reads before it generates (with the generation header) if the finished conversation
        begins with that text. Some templates open a generated answer differently from a finished one; then the prompt
        is what the two have in common, at least all messages of the prompt. Raises RowProblem.
        """
        if self.template.raw or is_raw(pair.prompt):
            return self._raw(pair)
        try:
            return self._templated(pair)
        except TemplateProblem as problem:
            raise RowProblem("chat template refuses the messages", str(problem)) from problem

    def _templated(self, pair: Pair) -> RenderedPair:
        talk = self._conversation(pair)
        sides = [self.encoder.spelling.hide(turns) for turns in (pair.chosen, pair.rejected)]
        start = talk.opening(talk.prompt, [turns for turns in sides if turns])
        shared = talk.text(talk.prompt, header=True)[:start]
        prompt = self._prompts.setdefault(shared, self.encoder.pieces(shared))
        chosen, rejected = (self._answer(talk, turns, start) for turns in sides)
        return RenderedPair(prompt=prompt, chosen=chosen, rejected=rejected)

    def _conversation(self, pair: Pair) -> Conversation:
        key = (pair.prompt, pair.tools, pair.template_arguments)
        if self._prompt != key:
            hide = self.encoder.spelling.hide
            template = self.template.given(hide(pair.template_arguments))
            talk = Conversation(
                prompt=hide(pair.prompt), tools=hide(pair.tools), template=template, encoder=self.encoder
            )
            talk.require_whole_prompt()
            self._prompt, self._talk, self._prompts, self._answers = key, talk, {}, {}
        return self._talk

    def _answer(self, talk: Conversation, turns: list[Message], start: int) -> RenderedAnswer:
        """What the template puts after the first `start` characters, up to the token that ends the last turn."""
        if not turns:
            return RenderedAnswer(stretches=[])
        key = (json.dumps(turns, sort_keys=True), start)
        if key not in self._answers:
            if len(self._answers) >= KEPT:  # one prompt for all pairs of a file
                self._answers.clear()
            self._answers[key] = self._stretches(talk, turns, start)
        return self._answers[key]

    def _stretches(self, talk: Conversation, turns: list[Message], start: int) -> RenderedAnswer:
        whole = talk.text([*talk.prompt, *turns])
        answer, at, context, closed = RenderedAnswer(stretches=[]), start, list[Message](), True
        for number, turn in enumerate(turns):
            before = [*talk.prompt, *turns[:number]]
            if turn["role"] != "assistant":
                context.append(turn)
                continue
            if number:
                begin = talk.opening(before, [turns[number:]])
                require_shown(context, whole[at:begin], "the answer")
                answer.stretches.append(Stretch(pieces=self._pieces(whole, at, begin), scored=False))
                at, context = begin, []
            if number < len(turns) - 1:
                end = talk.inner_end([*before, turn], whole, at)
            else:
                end, closed = talk.last_end(whole)
            talk.require_turn(turn, before, whole[:end], at)
            answer.stretches.append(Stretch(pieces=self._pieces(whole, at, end), scored=turn.get("scored", True)))
            at = end
        if not closed:
            answer.end_id = self.encoder.id_of(str(self.encoder.tokenizer.eos_token))
        return answer

    def _pieces(self, whole: str, start: int, end: int) -> list[Piece]:
        return self.encoder.pieces(whole[start:end], after=whole[:start])

    def _raw(self, pair: Pair) -> RenderedPair:
        """The texts as they are.

        Where the prompt was rendered before (`is_rendered`), control tokens in it and in its answers are those tokens,
        and the template's end of turn, if the prompt has it, ends the answers. Else they are text, but for a BOS at the
        very start of the prompt and an EOS at the very end of an answer.
        """
        if max(len(pair.chosen), len(pair.rejected)) > 1:
            raise RowProblem("answer has several messages", "a raw text does not tell one message from the next")
        if any(turn.get("tool_calls") for turn in (*pair.prompt, *pair.chosen, *pair.rejected)):
            raise RowProblem("tool calls without a template", "model.chat_template=raw shows the texts of turns alone")
        prompt = self.template.render(self.encoder.tokenizer, pair.prompt, header=True)
        require_tools(pair.tools, prompt)
        rendered = is_rendered(pair.prompt)
        pieces = [Piece(text=prompt)] if rendered and prompt else self._raw_prompt(prompt)
        chosen, rejected = (self._raw_answer(turns, prompt, rendered) for turns in (pair.chosen, pair.rejected))
        return RenderedPair(prompt=pieces, chosen=chosen, rejected=rejected)

    def _raw_prompt(self, text: str) -> list[Piece]:
        bos = str(self.encoder.tokenizer.bos_token or "")
        head = bos if text.startswith(bos) else ""
        body = text[len(head) :]
        pieces = [Piece(text=head), Piece(text=body, literal=self.encoder.spelling.found_in(body), after=head)]
        return [piece for piece in pieces if piece.text]

    def _raw_answer(self, turns: list[Message], prompt: str, rendered: bool) -> RenderedAnswer:
        if not turns:
            return RenderedAnswer(stretches=[])
        spelling, text, end = self.encoder.spelling, turns[0]["content"], str(self.encoder.tokenizer.eos_token)
        if rendered and self.template.end_of_turn and self.template.end_of_turn in prompt:
            end = self.template.end_of_turn
        if rendered and text.rstrip().endswith(tuple(spelling.tokens)):
            return RenderedAnswer(stretches=[Stretch(pieces=[Piece(text=text.rstrip(), after=prompt)])])
        text = text if rendered else text.removesuffix(end)
        piece = Piece(text=text, literal=not rendered and spelling.found_in(text), after=prompt)
        return RenderedAnswer(stretches=[Stretch(pieces=[piece] if text else [])], end_id=self.encoder.id_of(end))
