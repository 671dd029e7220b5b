"""What a user can get wrong: refused before any training, in words that name the file or the setting."""

import json
from pathlib import Path

import pytest
import yaml

from launch import SMALL, Ended, accelerate, finish, launch, start, train

pytestmark = pytest.mark.run

QUIET = ("output_dir=.", "eval.samples=0", "track.wandb=off", "track.progress=false", "name=run")


def good_row(i: int) -> dict[str, str]:
    return {"prompt": f"What is {i} and {i}?", "chosen": f"It is {2 * i}.", "rejected": f"Who knows, {i}."}


BAD_LINES = {  # line -> text, reason
    3: (json.dumps({"prompt": "a", "chosen": "b"}), "rejected"),
    5: (json.dumps({"prompt": "a", "chosen": "", "rejected": "c"}), "empty"),
    8: (json.dumps({"prompt": "a", "chosen": "same", "rejected": "same"}), "same"),
    11: ('{"prompt": "a", "chosen": ', "JSON"),
}


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    lines = [BAD_LINES[i][0] if i in BAD_LINES else json.dumps(good_row(i)) for i in range(1, 41)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def rejects(ended: Ended) -> list[dict[str, str]]:
    return [json.loads(line) for line in (ended.folder / "rejects.jsonl").read_text().splitlines()]


def test_bad_rows_stop_the_run_before_any_training(broken: Path, tmp_path: Path) -> None:
    """All of them with file and line, on the screen and in rejects.jsonl; nothing was trained, nothing is left over."""
    ended = launch(1, *QUIET, "data.path=pairs.jsonl", cwd=tmp_path)
    assert ended.code == 1
    assert "4 bad rows" in ended.output and "data.on_bad_row=skip" in ended.output
    for line, (_, reason) in BAD_LINES.items():
        (shown,) = [text for text in ended.output.splitlines() if f"pairs.jsonl:{line}:" in text]
        assert reason.lower() in shown.lower()
    assert "Traceback" not in ended.output
    assert [int(row["source"].rsplit(":", 1)[1]) for row in rejects(ended)] == list(BAD_LINES)
    assert ended.status["state"] == "failed" and "4 bad rows" in ended.status["why"]
    assert ended.rows == [] and ended.checkpoints == [] and not (ended.folder / "final").exists()


def test_bad_rows_are_left_out_on_request_with_accelerate_launch(broken: Path, tmp_path: Path) -> None:
    """One process under `accelerate launch`, which sets no rendezvous variables: it trains on the 36 others."""
    arguments = [*QUIET, "data.path=pairs.jsonl", "data.on_bad_row=skip", "optim.max_steps=2", "checkpoint.every=0"]
    code, output = finish(start(accelerate([], *arguments), tmp_path))
    ended = Ended(code=code, output=output, folder=tmp_path / "run")
    assert code == 0, output
    assert len(rejects(ended)) == 4
    assert "40 rows" in output
    assert ended.train[-1]["step"] == len(ended.train) > 0
    assert ended.status["state"] == "done"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    ended = launch(1, *QUIET, "data.path=no_such_pairs.jsonl", cwd=tmp_path)
    assert ended.code == 1
    assert "no_such_pairs.jsonl" in ended.output and "data.path" in ended.output
    assert "Traceback" not in ended.output


def errors(ended: Ended) -> list[str]:
    return [line for line in ended.output.splitlines() if line.startswith("[dpo] error:")]


def test_a_model_folder_that_is_not_there(tmp_path: Path) -> None:
    ended = launch(1, *QUIET, "model.path=./no_such_model", cwd=tmp_path)
    assert ended.code == 1
    (message,) = errors(ended)
    assert "model.path=./no_such_model" in message and str(tmp_path / "no_such_model") in message
    assert "Traceback" not in ended.output
    assert list(tmp_path.iterdir()) == []  # no run begins


@pytest.mark.parametrize("network", ["refused", "offline"])
def test_a_hub_model_without_a_network(network: str, tmp_path: Path) -> None:
    """One sentence: which file it looked for, and what to set to a folder instead."""
    closed = "http://127.0.0.1:9"
    extra = {"HF_HUB_OFFLINE": "1"} if network == "offline" else {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": closed}
    ended = launch(1, *QUIET, "model=qwen7b", cwd=tmp_path, HF_HOME=str(tmp_path / "cache"), **extra)
    assert ended.code == 1
    (message,) = errors(ended)
    assert "model.path" in message and "config.json" in message and "Qwen/Qwen2.5-7B-Instruct" in message
    assert "Traceback" not in ended.output


def test_wrong_settings_end_with_2_and_name_them_all(tmp_path: Path) -> None:
    ended = launch(1, "optim.learning_rate=1", "loss=sigmiod", "optim.epochs=many", cwd=tmp_path)
    assert ended.code == 2
    assert "Traceback" not in ended.output
    assert "sigmoid" in ended.output  # what was meant
    ended = launch(1, "loss.beta=-1", "optim.global_batch_size=0", "reference=none", cwd=tmp_path)
    assert ended.code == 2
    assert "3 problems" in ended.output
    for setting in ("loss.beta", "optim.global_batch_size", "reference"):
        assert setting in ended.output
    assert "Traceback" not in ended.output
    assert list(tmp_path.iterdir()) == []


def test_an_accelerate_config_with_its_own_deepspeed(tmp_path: Path) -> None:
    """A user's default accelerate config brings DeepSpeed settings that would compete: refused, with the cure."""
    config = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "DEEPSPEED",
        "deepspeed_config": {"zero_stage": 3, "gradient_accumulation_steps": 4, "zero3_init_flag": True},
        "mixed_precision": "no",
        "num_machines": 1,
        "num_processes": 1,
    }
    file = tmp_path / "accelerate.yaml"
    file.write_text(yaml.safe_dump(config))
    code, output = finish(start(accelerate(["--config_file", str(file)], *SMALL, "name=run"), tmp_path))
    assert code != 0
    assert "conf/zero" in output and "--config_file" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_accelerate_launches_two_workers(tmp_path: Path) -> None:
    """`accelerate launch --multi_gpu --num_processes 2 train.py`, on a CPU too."""
    options = ["--multi_gpu", "--num_processes", "2"]
    code, output = finish(start(accelerate(options, *SMALL, "optim.max_steps=3", "name=run"), tmp_path))
    assert code == 0, output
    assert "workers: 2 on cpu" in output and "ZeRO-3" in output
    assert len(Ended(code=code, output=output, folder=tmp_path / "run").train) == 3


@pytest.mark.slow
def test_bad_rows_stop_all_workers(broken: Path, tmp_path: Path) -> None:
    """Every worker meets them; the message comes once and the launcher reports failure."""
    ended = launch(2, *QUIET, "data.path=pairs.jsonl", cwd=tmp_path)
    assert ended.code != 0
    assert ended.output.count("4 bad rows") == 1
    assert ended.status["state"] == "failed"


@pytest.mark.slow
def test_one_process_under_zero3(tmp_path: Path) -> None:
    """No launcher, no rendezvous variables: the sharding engine gets a process group of one."""
    ended = train(1, *SMALL, "zero=zero3", "optim.max_steps=3", "name=run", cwd=tmp_path)
    assert len(ended.train) == 3
    assert ended.train[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
