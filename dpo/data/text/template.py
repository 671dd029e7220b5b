"""Chat templates: how a conversation becomes the text that a model reads."""

import json
import re
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from dpo.data.pair import Message
from dpo.errors import ModelError

PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token + '\\n\\n' }}"
    "{% else %}{{ message['content'] + '\\n\\n' }}{% endif %}"
    "{% endfor %}"
    # No blank at the end: byte-level vocabularies join it to the first word of the answer.
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
BUILT_IN = {"plain": PLAIN, "chatml": CHATML}
NEEDED_TOKENS = {"chatml": ("<|im_start|>", "<|im_end|>")}
DATE_CALL = re.compile(r"""strftime_now\(\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\)""")
# The day that stands for "today" where a template writes one: the pairs of a run that is continued tomorrow, and the
# reference values computed for them, must not depend on when they were rendered.
PINNED_DAY = date(2025, 1, 1)
TAKEN = ("messages", "tools", "documents", "add_generation_prompt")  # what templates are given besides arguments
CHOICES = "auto (the tokenizer's own, else plain), raw (no template), plain, chatml, or the path of a jinja file"


class TemplateProblem(Exception):
    """Messages that a template refuses, e.g. a system turn; it never leaves the data folder."""


@dataclass(kw_only=True, slots=True)
class ChatTemplate:
    """One choice of template, with what was measured about it on a conversation of two turns."""

    name: str  # "the tokenizer's own", "raw", "plain", "chatml" or a path
    reasons: list[str] = field(default_factory=list)  # phrases for the log
    jinja: str | None = None  # None: the tokenizer's own, or none at all when `raw`
    raw: bool = False
    end_of_turn: str = ""  # the token text that closes an answer
    arguments: dict[str, Any] = field(default_factory=dict)  # passed to the template besides the messages

    def describe(self) -> str:
        """The line for the log."""
        reason = f" ({', '.join(self.reasons)})" if self.reasons else ""
        return f"chat template: {self.name}{reason}, an answer ends with {self.end_of_turn}"

    def given(self, arguments: dict[str, Any] | None) -> "ChatTemplate":
        """This template with what a row gives it; of a name that it does not know it makes nothing. Raises
        TemplateProblem."""
        if not arguments:
            return self
        if taken := [name for name in TAKEN if name in arguments]:
            raise TemplateProblem(f"chat_template_kwargs names {', '.join(taken)}, which come from other columns")
        return replace(self, arguments={**self.arguments, **arguments})

    def render(
        self,
        tokenizer: PreTrainedTokenizerBase,
        messages: list[Message],
        *,
        header: bool,
        tools: list[dict[str, Any]] | None = None,
    ) -> str:
        """The text of `messages`; `header`: followed by what opens an answer. Raises TemplateProblem."""
        if self.raw or is_raw(messages):
            return "".join(message["content"] for message in messages)
        try:
            text = tokenizer.apply_chat_template(
                messages,
                tools=tools,
                chat_template=pinned(tokenizer.get_chat_template(self.jinja, tools)),
                tokenize=False,
                add_generation_prompt=header,
                **self.arguments,
            )
        except Exception as error:  # the template is a program: besides TemplateError it raises TypeError and others
            raise TemplateProblem(f"{type(error).__name__}: {error}") from error
        return str(text)


@lru_cache(maxsize=8)
def pinned(template: str) -> str:
    """`template` with PINNED_DAY in the place of today."""
    return DATE_CALL.sub(lambda call: json.dumps(PINNED_DAY.strftime(call[1] or call[2] or "")), template)


def common_length(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def is_raw(messages: list[Message]) -> bool:
    """Whether these messages are plain text to which no template applies."""
    return bool(messages) and messages[0]["role"] == "raw"


def is_rendered(messages: list[Message]) -> bool:
    """Whether these messages are text that a chat template made, so that the control tokens in it are meant."""
    return is_raw(messages) and messages[0].get("rendered", False)


def choose_template(
    tokenizer: PreTrainedTokenizerBase, setting: str, arguments: dict[str, Any] | None = None
) -> ChatTemplate:
    """The template that `model.chat_template` asks for, with `model.chat_template_arguments`.

    Raises ModelError: unknown setting, a template that does not work or does not know an argument, or a tokenizer
    without an end-of-sequence token.
    """
    _require_eos(tokenizer)
    template = _by_setting(tokenizer, setting)
    template.arguments = arguments or {}
    text = _text(tokenizer, template)
    _require_known(template, text)
    if DATE_CALL.search(text):
        template.reasons.append(f"today is always {PINNED_DAY} in it")
    if template.raw:
        template.end_of_turn = str(tokenizer.eos_token)
    else:
        _measure(tokenizer, template)
    return template


def _require_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    cure = "set model.eos_token=<text of a token in the vocabulary>"
    eos = tokenizer.eos_token
    if not isinstance(eos, str):
        raise ModelError(f"the tokenizer has no end-of-sequence token, so that an answer could not end: {cure}")
    if eos not in tokenizer.get_vocab():
        raise ModelError(f"the end-of-sequence token {eos!r} is not in the tokenizer's vocabulary: {cure}")


def _by_setting(tokenizer: PreTrainedTokenizerBase, setting: str) -> ChatTemplate:
    if setting == "auto" and tokenizer.chat_template:
        return ChatTemplate(name="the tokenizer's own")
    if setting == "auto":
        return ChatTemplate(name="plain", reasons=["the tokenizer has none"], jinja=PLAIN)
    if setting == "raw":
        return ChatTemplate(name="raw", reasons=["the texts as they are"], raw=True)
    if setting in BUILT_IN:
        _require_tokens(tokenizer, setting)
        return ChatTemplate(name=setting, jinja=BUILT_IN[setting])
    path = Path(setting).expanduser()
    if not path.is_file():
        raise ModelError(f"model.chat_template={setting} is neither a template nor a file; choose {CHOICES}")
    try:
        return ChatTemplate(name=setting, jinja=path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"model.chat_template={setting} cannot be read: {error}") from error


def _text(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> str:
    """The jinja of `template`, of all of them where a tokenizer has one for tools too; "" when raw."""
    own = {} if template.raw else template.jinja or tokenizer.chat_template
    return "\n".join(own.values()) if isinstance(own, dict) else str(own)


def _require_known(template: ChatTemplate, text: str) -> None:
    """A template passes over an argument that it does not know in silence."""
    for name in template.arguments:
        key = f"model.chat_template_arguments.{name}"
        if name in TAKEN:
            raise ModelError(f"{key}: {name} comes from the data; remove the setting")
        if not re.search(rf"\b{re.escape(name)}\b", text):
            raise ModelError(f"{key}: the chat template {template.name} has no such argument; remove the setting")


def _require_tokens(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    missing = [text for text in NEEDED_TOKENS.get(name, ()) if text not in tokenizer.get_vocab()]
    if missing:
        raise ModelError(
            f"model.chat_template={name} needs the tokens {' and '.join(missing)}, which the tokenizer does not have; "
            "set model.chat_template=plain"
        )


def token_texts(tokenizer: PreTrainedTokenizerBase, *, special_only: bool) -> list[str]:
    """Texts that the tokenizer takes as one token wherever they stand; `special_only`: those with control meaning."""
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    texts = {str(token.content) for token in added.values() if token.special or not special_only}
    return sorted(texts | set(tokenizer.all_special_tokens), key=len, reverse=True)


def _measure(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> None:
    """What ends an answer: the last token text that the template puts there, else EOS; and whether a model that
    generates reads more than a finished conversation holds. Raises ModelError."""
    marker = "zqxanswerzqx"
    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": marker}]
    try:
        finished = template.render(tokenizer, messages, header=False)
        generation = template.render(tokenizer, messages[:1], header=True)
    except TemplateProblem as problem:
        kind = "is no valid jinja" if isinstance(problem.__cause__, TemplateError) else "does not work"
        raise ModelError(f"the chat template {template.name} {kind}: {problem}; choose {CHOICES}") from problem
    before, found, tail = finished.rpartition(marker)
    if not found or "question" not in before:
        raise ModelError(f"the chat template {template.name} does not show the messages; choose {CHOICES}")
    end = end_of_turn_span(tail, token_texts(tokenizer, special_only=False))
    template.end_of_turn = tail[end[0] : end[1]] if end else str(tokenizer.eos_token)
    if not before.startswith(generation):
        lacking = generation[common_length(generation, before) :]
        template.reasons.append(f"generation reads {lacking!r} before an answer, which finished answers lack")


def end_of_turn_span(tail: str, texts: list[str]) -> tuple[int, int] | None:
    """(start, end) of the last of the token `texts` within `tail`, what a template puts after an answer. Blanks and
    line breaks end no turn, though some vocabularies have tokens for them (Gemma)."""
    spans = [(tail.rfind(text), tail.rfind(text) + len(text)) for text in texts if text.strip() and text in tail]
    return max(spans, key=lambda span: (span[1], -span[0])) if spans else None
