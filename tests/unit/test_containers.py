"""The Dockerfile, the manifests of clouds and the scripts that start containers: linted, held to their schemas, and run
with stand-ins for docker and nvidia-smi that write down what they are asked."""

import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from composing import composed

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = [*sorted(LAUNCH.rglob("*.sh")), *sorted(LAUNCH.rglob("*.sbatch")), ROOT / ".ci" / "run"]
STOPPED = "checkpoint.stopped_code=75"


def tool(name: str) -> str:
    """Of this Python's environment, or of the PATH."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")
    return found


# Linters and schemas


def test_the_dockerfile_is_linted() -> None:
    done = subprocess.run([tool("hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_scripts_are_linted() -> None:
    done = subprocess.run([tool("shellcheck"), *map(str, SCRIPTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", ["1.31", "1.37"])  # podFailurePolicy is stable since the first
def test_the_manifests_have_kubernetes_schema(version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for document in documents():
        kubernetes_validate.validate(document, version, strict=True)


# Kubernetes


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text()))


def kinds() -> dict[str, dict[str, Any]]:
    return {document["kind"]: document for document in documents()}


def container() -> dict[str, Any]:
    (only,) = kinds()["Job"]["spec"]["template"]["spec"]["containers"]
    return only


def variables() -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in container()["env"]}


def test_pods_find_each_other() -> None:
    job, service = kinds()["Job"], kinds()["Service"]
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}, (
        "the label that the Job's controller gives its pods"
    )
    assert pod["subdomain"] == service["metadata"]["name"]
    assert variables()["MASTER_ADDR"].startswith(f"{name}-0.{pod['subdomain']}.$(NAMESPACE).svc.")
    order = [entry["name"] for entry in container()["env"]]
    assert order.index("NAMESPACE") < order.index("MASTER_ADDR"), "$(NAME) is put in only where NAME came before"


def test_every_pod_is_a_node() -> None:
    spec = kinds()["Job"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(variables()["NODES"])
    (rank,) = (entry for entry in container()["env"] if entry["name"] == "NODE_RANK")
    assert "job-completion-index" in rank["valueFrom"]["fieldRef"]["fieldPath"]


def test_preemption_is_no_failure_and_wrong_settings_are_final() -> None:
    spec = kinds()["Job"]["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "podFailurePolicy is refused otherwise"
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 300
    rules = {rule["action"]: rule for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule}
    assert rules["FailJob"]["onExitCodes"]["values"] == [2]
    assert rules["Ignore"]["onExitCodes"]["values"] == [75, 128 + 15] and STOPPED in container()["args"]
    assert {rule["onExitCodes"]["containerName"] for rule in rules.values()} == {container()["name"]}
    conditions = [c["type"] for rule in spec["podFailurePolicy"]["rules"] for c in rule.get("onPodConditions", [])]
    assert conditions == ["DisruptionTarget"]


def test_volumes_are_there_and_large_enough() -> None:
    pod = kinds()["Job"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = [mount["mountPath"] for mount in container()["volumeMounts"]]
    assert {mount["name"] for mount in container()["volumeMounts"]} == set(volumes)
    assert volumes["shm"]["emptyDir"]["medium"] == "Memory" and set(mounts) == {
        "/dev/shm",
        "/storage",
        "/cache",
        "/tmp",
    }
    assert composed(*container()["args"], world_size=16).output_dir.startswith("/storage/")
    assert variables()["HF_HOME"].startswith("/storage/")
    assert (
        volumes["storage"]["persistentVolumeClaim"]["claimName"] == kinds()["PersistentVolumeClaim"]["metadata"]["name"]
    )


def test_pods_have_no_rights_and_no_keys_in_the_manifest() -> None:
    assert container()["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert kinds()["Job"]["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 10001
    assert "USER 10001" in (ROOT / "Dockerfile").read_text()
    assert not [name for name in variables() if re.search("TOKEN|KEY", name)]


def test_the_settings_of_the_pods_compose() -> None:
    assert composed(*container()["args"], world_size=16).checkpoint.stopped_code == 75


# SkyPilot


def sky() -> dict[str, Any]:
    return yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())


def test_skypilot_starts_a_node_as_a_person_would(tmp_path: Path) -> None:
    """Its `run` in a checkout where launch/local.sh writes down what it is given."""
    (tmp_path / "launch").mkdir()
    recorder(tmp_path / "launch" / "local.sh", tmp_path / "asked", "$NODES $NODE_RANK $NPROC $MASTER_ADDR")
    given = {"NUM_NODES": "2", "NODE_RANK": "1", "NUM_GPUS_PER_NODE": "8", "NODE_IPS": "10.0.0.1\n10.0.0.2"}
    environment = {**os.environ, **sky()["envs"], **{f"SKYPILOT_{key}": value for key, value in given.items()}}
    subprocess.run(["bash", "-c", sky()["run"]], cwd=tmp_path, env=environment, check=True)
    told, *settings = (tmp_path / "asked").read_text().splitlines()
    assert told == "2 1 8 10.0.0.1"
    assert composed(*settings, world_size=16).checkpoint.stopped_code == 75
    assert f"output_dir={Path.home()}/outputs" in settings, "only worker 0's machine writes to the bucket"


def test_skypilot_starts_again_what_was_stopped() -> None:
    task = sky()
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75] and STOPPED in task["run"]
    assert task["file_mounts"]["/outputs"]["mode"] == "MOUNT_CACHED"
    assert set(task["secrets"].values()) == {""}


# Scripts


def recorder(script: Path, file: Path, told: str = "") -> None:
    """A program that writes `told`, in which the shell puts its variables, and its arguments to `file`: a line each."""
    script.write_text(f'#!/bin/bash\nprintf "%s\\n" "{told}" "$@" > {file}\n')
    script.chmod(0o755)


def docker_run(tmp_path: Path, *words: str, gpus: bool = False, **variables: str) -> list[str]:
    """What launch/docker.sh asks of docker."""
    programs, file = tmp_path / "bin", tmp_path / "asked"
    programs.mkdir(exist_ok=True)
    recorder(programs / "docker", file)
    smi = programs / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\nexit {0 if gpus else 9}\n")
    smi.chmod(0o755)
    bare = {"HOME": str(tmp_path), "PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run([str(LAUNCH / "docker.sh"), *words], cwd=tmp_path, env={**bare, **variables}, check=True)
    return file.read_text().splitlines()[1:]


def test_docker_gets_mounts_limits_and_the_user(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    asked = docker_run(tmp_path, "model=qwen7b", "a=[1, 2]", gpus=True, DATA="pairs", SHM="2g")
    assert asked[-3:] == ["dpo", "model=qwen7b", "a=[1, 2]"]
    pairs = list(pairwise(asked))
    wanted = [
        ("--user", f"{os.getuid()}:{os.getgid()}"),
        ("--shm-size", "2g"),
        ("--gpus", "all"),
        ("--ulimit", "memlock=-1"),
        ("--mount", f"type=bind,src={tmp_path}/outputs,dst=/app/outputs"),
        ("--mount", f"type=bind,src={tmp_path}/.cache/dpo,dst=/cache"),
        ("--mount", f"type=bind,src={tmp_path}/pairs,dst=/data,readonly"),
    ]
    assert [pair for pair in wanted if pair not in pairs] == []
    assert (tmp_path / "outputs").is_dir(), "made by this user and not by Docker, as root"
    assert "--network" not in asked and "--tty" not in asked


def test_docker_gets_names_and_no_keys(tmp_path: Path) -> None:
    keys = {"HF_TOKEN": "hf_planted", "WANDB_API_KEY": "planted", "NCCL_DEBUG": "INFO"}
    asked = docker_run(tmp_path, **keys, WANDB_MODE="")
    assert [asked[i + 1] for i, word in enumerate(asked) if word == "--env"] == list(keys)
    assert not [word for word in asked if "planted" in word]


def test_docker_of_several_machines(tmp_path: Path) -> None:
    job = {"NODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1"}
    asked = docker_run(tmp_path, **job, DOCKER_OPTIONS="--name one --read-only", IMAGE="here/dpo:1")
    assert asked[asked.index("--network") + 1] == "host"
    assert asked[-4:] == ["--name", "one", "--read-only", "here/dpo:1"]
    assert set(job) <= set(asked) and "--gpus" not in asked
    asked = docker_run(tmp_path, **job, NETWORK="mine")
    assert [asked[i + 1] for i, word in enumerate(asked) if word == "--network"] == ["mine"]


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["model=qwen7b", "loss=ipo"], ["local.sh", "model=qwen7b", "loss=ipo"]),
        ([], ["local.sh"]),
        (["--help"], ["python", "train.py", "--help"]),
        (["dpo", "doctor", "doctor.gpus=8"], ["dpo", "doctor", "doctor.gpus=8"]),
        (["torchrun", "--nnodes=2", "train.py"], ["torchrun", "--nnodes=2", "train.py"]),
    ],
)
def test_what_a_container_starts_with(words: list[str], called: list[str], tmp_path: Path) -> None:
    (tmp_path / "launch").mkdir()
    for name in ("launch/local.sh", "python", "dpo", "torchrun"):
        recorder(tmp_path / name, tmp_path / "asked", "${0##*/}")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([str(LAUNCH / "entry.sh"), *words], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "asked").read_text().split() == called


def test_the_image_gets_nothing_that_it_does_not_need() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*", "all is left out but what follows"
    assert [line[1:] for line in lines if line.startswith("!") and not (ROOT / line[1:]).exists()] == []
