"""Python code that comes with a model (`model.trust_remote_code`): which files it is, and an error for a model that
needs it where it is not allowed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpo.errors import ModelError
from dpo.model.source import ModelSource

DESCRIPTIONS = ("config.json", "tokenizer_config.json")


def warning(source: ModelSource) -> str | None:
    """What `model.trust_remote_code=true` allows this model to run, None when it brings no code.

    Raises:
        ModelError: no such model, or the hub cannot be reached.
    """
    if source.build:
        return None
    source.require()
    files = code_files(source)
    if not files:
        return None
    text = f"model.trust_remote_code=true: {source.path} runs its own Python code with your rights: {', '.join(files)}"
    if not (source.revision or source.is_folder):
        text += f"; pin what you have read with {source.setting.replace('path', 'revision')}=<commit>"
    if any(":" in name for name in files):
        text += "; files of another model are always its newest, no revision pins them"
    return text


def code_files(source: ModelSource) -> list[str]:
    """Every Python file of the model, since one may import the others, and those of other hub models that it names, as
    "owner/name: file.py"."""
    return sorted({*(name for name in source.names() if name.endswith(".py")), *_named_files(source)})


def _named_files(source: ModelSource) -> list[str]:
    """The files in `auto_map`: "file.Class", "owner/name--file.Class", or a list of them with gaps."""
    found = []
    for name in DESCRIPTIONS:
        for entry in _described(source.file(name)).get("auto_map", {}).values():
            for reference in entry if isinstance(entry, list) else [entry]:
                if reference:
                    owner, _, place = reference.rpartition("--")
                    file = place.rpartition(".")[0] + ".py"
                    found.append(f"{owner}: {file}" if owner else file)
    return found


def _described(path: Path | None) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path else {}
    except ValueError:  # broken JSON: loading says so
        return {}


@contextmanager
def allowed(source: ModelSource) -> Iterator[None]:
    """Around a load. Raises ModelError when the model needs its own code and may not run it."""
    try:
        yield
    except (ValueError, ModelError) as error:
        if (
            "trust_remote_code=True" not in f"{error} {error.__cause__}"
        ):  # transformers 5.23 has no type of its own for it
            raise
        files = ", ".join(code_files(source)) or "its own files"
        raise ModelError(
            f"{source.setting}={source.path}: this model is defined by Python code of its own ({files}), which is not "
            "run unless you allow it: read it, then set model.trust_remote_code=true"
        ) from error
