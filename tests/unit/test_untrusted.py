"""What comes with a model runs only where it is allowed to: its Python code, its pickles, its chat template. And no
setting reaches a shell."""

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import dynamic_module_utils

from dpo.config.schema import ModelConfig
from dpo.data.text.template import choose_template
from dpo.errors import ModelError
from dpo.model import remote_code
from dpo.model.load import _load_whole
from dpo.model.source import ModelSource, policy_source
from dpo.model.tiny import build_tiny_model, build_tiny_tokenizer

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
CODE = """
from pathlib import Path
from transformers import PretrainedConfig
from .helper import MARK

Path(MARK).touch()

class OwnConfig(PretrainedConfig):
    model_type = "own"
"""


class Whole:
    """Placement of one worker."""

    dtype, sharded = torch.float32, False

    def adopt(self, model: torch.nn.Module) -> None: ...


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that exists once foreign code has run."""
    return tmp_path / "foreign-code-was-here"


@pytest.fixture
def own_code(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder whose config is defined by Python code of its own."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "own"
    folder.mkdir()
    names = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "someone/else--own_model.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": names}))
    (folder / "own.py").write_text(CODE)
    (folder / "helper.py").write_text(f"MARK = {str(mark)!r}")
    return folder


def source(path: Path | str, trusted: bool = False, revision: str | None = None) -> ModelSource:
    config = ModelConfig(path=str(path), trust_remote_code=trusted, revision=revision)
    return policy_source(config, seed=0)


def test_code_is_not_run_unless_allowed(own_code: Path, mark: Path) -> None:
    """The error names the files and the setting."""
    untrusted = source(own_code)
    with pytest.raises(ModelError) as caught, remote_code.allowed(untrusted):
        untrusted.config()
    assert not mark.exists()
    for words in ("own.py", "helper.py", "someone/else: own_model.py", "model.trust_remote_code=true"):
        assert words in str(caught.value)


def test_code_that_is_allowed_is_named_and_run(own_code: Path, mark: Path) -> None:
    trusted = source(own_code, trusted=True)
    warning = remote_code.warning(trusted)
    assert not mark.exists(), "the warning comes first"
    assert warning is not None
    for words in ("helper.py, own.py, someone/else: own_model.py", "no revision pins them"):
        assert words in warning
    assert trusted.config().model_type == "own"
    assert mark.exists()


def test_a_model_without_code_needs_no_warning(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    assert remote_code.warning(source(tmp_path, trusted=True)) is None


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"), remote_code.allowed(source(tmp_path)):
        source(tmp_path).config()


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("hostile", [False, True])
def test_pickled_weights_hold_tensors_or_are_refused(hostile: bool, tmp_path: Path, mark: Path) -> None:
    model = build_tiny_model(seed=0)
    model.config.save_pretrained(tmp_path)
    weights: dict[str, object] = dict(model.state_dict())
    torch.save(weights | ({"extra": Payload(mark)} if hostile else {}), tmp_path / "pytorch_model.bin")
    found = source(tmp_path)
    if not hostile:
        loaded = _load_whole(found, found.config(), Whole())  # type: ignore[arg-type]
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
        return
    with pytest.raises(ModelError, match="Save the model as safetensors"):
        _load_whole(found, found.config(), Whole())  # type: ignore[arg-type]
    assert not mark.exists()


@pytest.mark.parametrize("way", ["the tokenizer's own", "a file"])
def test_a_chat_template_reaches_nothing_outside_itself(way: str, tmp_path: Path, mark: Path) -> None:
    """Templates are programs from strangers; transformers runs them in jinja's sandbox."""
    call = f"__globals__['__builtins__']['open']({str(mark)!r}, 'w')"
    template = "{{ cycler.__init__." + call + " }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer = build_tiny_tokenizer()
    file = tmp_path / "template.jinja"
    file.write_text(template)
    if way != "a file":
        tokenizer.chat_template = template
    with pytest.raises(ModelError, match="SecurityError"):
        choose_template(tokenizer, str(file) if way == "a file" else "auto")
    assert not mark.exists()


def test_the_package_starts_no_process_and_reads_no_pickle() -> None:
    """No shell could then be built from a setting. `UnpicklingError` is only caught; a sweep starts its launches, a
    submission sbatch, the doctor its compiler, workers and nvidia-smi, each from a list of words; scripts hold settings
    quoted by shlex."""
    banned = {"subprocess", "os.system", "os.popen", "shlex", "marshal", "shelve", "torch.load", "eval", "exec"}
    found = []
    for file in [ROOT / "train.py", *(ROOT / "dpo").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
                names = [name for name in names if name not in ("pickle", "pickle.UnpicklingError")]
            elif isinstance(node, ast.Call):
                names = [ast.unparse(node.func)]
            else:
                continue
            found += [f"{file.name}: {name}" for name in names if name in banned or name.split(".")[0] == "pickle"]
    starting = [f"{name}.py: subprocess" for name in ("allreduce", "compiler", "gpus", "queue", "run_sweep", "smi")]
    quoting = [f"{name}.py: shlex" for name in ("batch", "run_submit", "run_sweep")]
    assert sorted(found) == sorted([*starting, *quoting])
    assert [file for file in (ROOT / "dpo").rglob("*.py") if "shell=" in file.read_text()] == []


def test_launch_scripts_pass_settings_on_as_they_are(tmp_path: Path) -> None:
    """Blanks, quotes, substitutions and patterns in a path: the trainer gets each argument unchanged."""
    record = tmp_path / "record"
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "accelerate").write_text("#!/bin/sh\n")
    # The script's only other call asks for GPUs and cores.
    (tools / "python").write_text(
        f"#!/bin/sh\nif [ $# = 2 ]; then echo 0 2; else printf '%s\\0' \"$@\" > '{record}'; fi\n"
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    settings = ["model.path=a  b'\"$(touch pwned)`touch pwned`;touch pwned", "*", "name=$HOME", "a\nb"]
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([ROOT / "launch" / "local.sh", *settings], cwd=tmp_path, env=environment, check=True)
    assert record.read_text().split("\0")[-len(settings) - 1 : -1] == settings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "record"]
