"""Keys planted where users have them: no file of a run and nothing on the screen holds one. And a path that a shell
would take apart goes through unharmed."""

import shutil
from pathlib import Path

import pytest

from launch import SMALL, Ended, launch, train

pytestmark = pytest.mark.run

PLANTED = {
    "HF_TOKEN": "hf_" + "Zq9" * 11,
    "WANDB_API_KEY": "f00dcafe" * 5,
    "STORE_PASSWORD": "correct-horse-battery",
}
ODD = 'it\'s $(touch pwned) `touch pwned` ;touch pwned & "x"'


def quoted(path: Path) -> str:
    """A path as a setting: Hydra's own quotes."""
    return "'" + str(path).replace("'", "\\'") + "'"


def leaks(folder: Path, output: str) -> list[str]:
    """Where a planted value stands, in any file whatever its kind."""
    texts = {"the screen": output.encode()}
    texts |= {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [
        f"{place}: {name}" for place, text in texts.items() for name, key in PLANTED.items() if key.encode() in text
    ]


def test_no_file_of_a_run_holds_a_key(one: Ended, tmp_path: Path) -> None:
    base = tmp_path / ODD
    shutil.copytree(one.folder / "final", base)
    settings = (*SMALL, "data=demo", "adapter=lora", "optim.max_steps=2", "eval.samples=1", "track.wandb=offline")
    ended = train(1, *settings, f"model.path={quoted(base)}", cwd=tmp_path, **PLANTED)
    (folder,) = tmp_path.glob("it's*-sigmoid-*")
    written = {path.name for path in folder.rglob("*")}
    kinds = {
        "config.yaml",
        "status.json",
        "samples.jsonl",
        "model.safetensors",
        "adapter",
        "README.md",
        "manifest.json",
    }
    assert kinds <= written and any(name.endswith(".wandb") for name in written)
    assert leaks(tmp_path, ended.output) == []
    assert not list(tmp_path.rglob("pwned"))


def test_an_error_that_quotes_a_key(tmp_path: Path) -> None:
    """Here as a column's name: on the screen and in status.json it is hidden."""
    (tmp_path / "pairs.jsonl").write_text(f'{{"{PLANTED["STORE_PASSWORD"]}": 1}}')
    settings = [text for text in SMALL if not text.startswith("data.")]
    ended = launch(1, *settings, "data.path=pairs.jsonl", "name=run", cwd=tmp_path, **PLANTED)
    assert ended.code == 1 and "***" in ended.output and "***" in ended.status["why"]
    assert leaks(ended.folder, ended.output) == []
