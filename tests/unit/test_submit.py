"""launch/submit.py: what is wrong is said before anything waits in a queue, and settings arrive as they were given."""

import logging
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from dpo import cli
from dpo.commands import COMMANDS
from dpo.config.checks_launch import launch_problems
from dpo.config.compose import compose_launch, sites
from dpo.config.launch import LaunchConfig
from dpo.config.sweep import jobs_of
from dpo.errors import ConfigError
from dpo.submit.batch import SCRIPTS, Batch, text_of
from dpo.submit.sweep import references

pytestmark = pytest.mark.unit

AWKWARD = [
    "loss.terms=[{name: sigmoid, beta: 0.1}, {name: sft}]",
    "data.path=it's here.jsonl",
    'model.chat_template="say \\"hi\\""',
    "name=$(touch gone)`touch gone`$HOME",
    "a=two\nlines",
    "glob=*",
]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "CLUSTER.md").read_text()
COMMANDS_SHOWN = re.findall(r"^python launch/submit\.py (.*)$", DOCUMENT, flags=re.MULTILINE)


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's logging stays as it is."""
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)


def submit(*arguments: str) -> int:
    return cli.main(list(arguments), COMMANDS["submit"])


def ran(text: str, folder: Path, show: str) -> str:
    """What the script's launch prints when `show`, a line of bash, stands in its place."""
    printer = folder / "printer"
    printer.write_text(f"#!/usr/bin/env bash\n{show}\n")
    printer.chmod(0o755)
    script = text.replace(str(SCRIPTS / "train.sbatch"), str(printer))
    done = subprocess.run(["bash", "-eu"], input=script, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def batch(arguments: list[str], **launch: object) -> Batch:
    return Batch(name="run", launch=LaunchConfig(**launch), arguments=arguments, log="run.log")  # type: ignore[arg-type]


def test_settings_survive_the_script(tmp_path: Path) -> None:
    text = text_of(batch(AWKWARD))
    assert ran(text, tmp_path, "printf '%s\\0' \"$@\"").split("\0")[:-1] == AWKWARD
    assert not (tmp_path / "gone").exists()


def test_variables_are_filled_in_and_nothing_is_run(tmp_path: Path) -> None:
    values = {"A": "/scratch/$WHO/${WHO}x", "B": '$(touch gone) `touch gone` "q" \\ $5 5$', "C": "a b"}
    text = text_of(batch([], env=values, setup=["export WHO=me"]))
    shown = ran(text, tmp_path, 'printf "%s\\n" "$A" "$B" "$C"').splitlines()
    assert shown == ["/scratch/me/mex", '$(touch gone) `touch gone` "q" \\ $5 5$', "a b"]
    assert not (tmp_path / "gone").exists()


def test_the_script_holds_what_the_site_says() -> None:
    launch = LaunchConfig(
        nodes=4,
        gpus_per_node=8,
        gpu_type="h100",
        partition="gpu",
        time="4:00:00",
        modules=["cuda/12.8", "gcc"],
        container="image.sqsh",
        container_mounts=["/data", "/a:/b"],
        node_cache="/local",
        sbatch=["--reservation=r 1"],
    )
    lines = text_of(Batch(name="run", launch=launch, arguments=[], log="a b.log"), after="afterok:7").splitlines()
    for line in (
        "#SBATCH --nodes=4",
        "#SBATCH --gpus-per-node=h100:8",
        "#SBATCH --partition=gpu",
        "#SBATCH --signal=B:USR1@300",
        "#SBATCH --output='a b.log'",
        "#SBATCH --dependency=afterok:7",
        "#SBATCH --kill-on-invalid-dep=yes",
        "#SBATCH --reservation=r 1",
        "module load cuda/12.8 gcc",
        'export CONTAINER_MOUNTS="/data:/data,/a:/b"',
        'export TRITON_CACHE_DIR="/local/triton"',
        'export NPROC="8"',
    ):
        assert line in lines


def test_a_dry_run_prints_the_script_and_submits_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert submit("--dry-run", "launch=cpu", "launch.after=12", "model=tiny", "loss.beta=0.3", "output_dir=/o") == 0
    text = capsys.readouterr().out
    assert "#SBATCH --dependency=afterok:12\n" in text and "#SBATCH --output=/o/slurm_logs/%x-%j.log\n" in text
    assert "loss.beta=0.3" in text and "name=tiny-demo-sigmoid-" in text, "the run is named now, not when it starts"
    assert "launch." not in text.replace("launch/", "")


def test_problems_of_submission_and_run_come_together(caplog: pytest.LogCaptureFixture) -> None:
    assert submit("launch.nodess=2", "optim.lrr=1") == 2
    assert "Did you mean launch.nodes?" in caplog.text and "Did you mean optim.lr?" in caplog.text
    caplog.clear()
    assert submit("launch=nowhere") == 2
    assert all(site in caplog.text for site in sites())
    caplog.clear()
    assert submit("launch=cpu", "precision=fp16") == 2
    assert "precision=fp16 needs a GPU" in caplog.text
    caplog.clear()
    assert submit("evaluate") == 2
    assert "train, reference, sweep" in caplog.text


def test_without_slurm_it_says_so(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert submit("launch=cpu") == 1
    assert "sbatch is not on the PATH" in caplog.text and "--dry-run" in caplog.text


def test_what_slurm_refuses_is_passed_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "sbatch"
    refusing.write_text("#!/bin/sh\ncat >/dev/null; echo 'sbatch: error: invalid partition' >&2; exit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert submit("launch=cpu", f"output_dir={tmp_path}", "name=x") == 1
    assert "Slurm refuses x: sbatch: error: invalid partition" in caplog.text


def test_keys_never_reach_a_script(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    for given in (
        "launch.env.HF_TOKEN=hf_x",
        "launch.env.X=0123456789abcdef",
        "launch.setup=[export K=0123456789abcdef]",
    ):
        caplog.clear()
        assert submit("--dry-run", "launch=cpu", given) == 2
        assert "never settings" in caplog.text and "0123456789abcdef" not in caplog.text


def test_a_run_knows_nothing_of_submissions(caplog: pytest.LogCaptureFixture) -> None:
    assert cli.main(["launch.nodes=2"]) == 2
    assert "launch/submit.py" in caplog.text


@pytest.mark.parametrize("site", sites())
def test_every_site_composes(site: str) -> None:
    assert launch_problems(compose_launch([f"launch={site}"])) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nodes": 0}, "must be at least 1"),
        ({"time": "soon"}, "1-12:00:00"),
        ({"time": "9"}, "less notice"),
        ({"env": {"A-B": "x"}}, "no name of an environment variable"),
        ({"sbatch": ["partition=x"]}, "expected an option of sbatch"),
        ({"after": "the first"}, "afterany:1"),
        ({"memory": "lots"}, "200G"),
        ({"gpus_per_node": 0, "gpu_type": "h100"}, "remove it"),
        ({"gpus_per_node": 8, "workers_per_node": 4}, "one worker per GPU"),
        ({"container_mounts": ["/a"]}, "without launch.container"),
        ({"container": "x", "modules": ["cuda"]}, "inside a pyxis container"),
        ({"container": "x", "container_runtime": "docker"}, "pyxis, apptainer"),
    ],
)
def test_what_cannot_be_right_names_the_setting(settings: dict[str, object], said: str) -> None:
    (problem,) = launch_problems(LaunchConfig(**settings))  # type: ignore[arg-type]
    assert said in problem and any(problem.startswith(f"launch.{name}") for name in settings)


@pytest.mark.parametrize("after", ["12", "12_3", "afterany:1:2", "afterok:1,afternotok:2", "singleton"])
def test_dependencies_as_sbatch_takes_them(after: str) -> None:
    assert launch_problems(LaunchConfig(after=after)) == []


@pytest.mark.parametrize(
    ("swept", "passes"),
    [
        (["loss=sigmoid,ipo", "adapter=none,lora"], 1),
        (["loss=sigmoid,kto"], 2),  # kto also looks for prompts with the answers of others
        (["model.path=a,b", "data.path=p.jsonl"], 2),
        (["loss=simpo,orpo"], 0),
    ],
)
def test_a_sweep_computes_each_reference_once(swept: list[str], passes: int) -> None:
    assert len(references(jobs_of(swept))) == passes


def test_a_sweep_is_an_array_behind_its_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("sweep", "--dry-run", "launch=cpu", "loss.beta=0.1,0.5") == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert "reference \\\n  loss.beta=0.1" in first and "--array" not in first
    assert "#SBATCH --array=0-1\n" in second and "#SBATCH --dependency=afterok:NUMBER_OF_sweep-reference-0\n" in second
    assert "-- \\\n  loss.beta=0.5 \\\n  name=sweep-beta0.5" in second


def test_nothing_to_sweep_over_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError):
        jobs_of(["loss=ipo"])
    assert submit("sweep", "launch=cpu", "loss=ipo") == 2
    assert "nothing to sweep over" in caplog.text


@pytest.mark.parametrize("command", COMMANDS_SHOWN)
def test_the_commands_of_the_document_are_right(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command.replace("<yours>", "gpu").replace("launch=mine", "launch=default"), comments=True)
    assert submit("--dry-run", *words) == 0
    assert capsys.readouterr().out.startswith("#!/usr/bin/env bash\n#SBATCH --job-name=")


def test_the_document_names_every_site() -> None:
    assert [site for site in sites() if f"| `{site}` |" not in DOCUMENT] == []
