"""The image on a real Docker engine: built from the Dockerfile as it is, it trains, is stopped, continues, and is one
of two machines."""

import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_engine import build, engine

from launch import ROOT, SMALL, finish, read_rows

pytestmark = [pytest.mark.run, pytest.mark.slow, pytest.mark.timeout(2400)]  # the image alone takes five minutes

DOCKER = str(ROOT / "launch" / "docker.sh")
LIMIT = 900  # seconds of a launch: the first compiles DeepSpeed's op, minutes on a busy machine
# Those of the pods in launch/kubernetes.yaml.
RIGHTS = "--user 10001:10001 --cap-drop ALL --security-opt no-new-privileges --read-only --tmpfs /tmp"
USER = 4321  # a number that no file in the image knows
SETTINGS = [text for text in SMALL if not text.startswith("output_dir")]  # where launch/docker.sh mounts it


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables for launch/docker.sh and docker: the engine, no network, one cache. The image `dpo` is there."""
    folder = tmp_path_factory.mktemp("docker")
    (folder / "cache").mkdir(mode=0o777)
    (folder / "cache").chmod(0o777)
    given = {"NETWORK": "none", "SHM": "2g", "CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    if host := os.environ.get(
        "DPO_DOCKER_HOST"
    ):  # an engine that has the image already: minutes less while writing tests
        yield {"DOCKER_HOST": host, **given}
        return
    with engine(folder) as environment:
        build(folder, environment, "--build-arg", "REVISION=abc")
        yield {**environment, **given}


def say(docker: dict[str, str], *words: str) -> str:
    done = subprocess.run(["docker", *words], env={**os.environ, **docker}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def launched(cwd: Path, docker: dict[str, str], *words: str, **variables: str) -> "subprocess.Popen[str]":
    """launch/docker.sh, with an outputs folder that any user may write."""
    (cwd / "outputs").mkdir(exist_ok=True)
    (cwd / "outputs").chmod(0o777)
    return subprocess.Popen(
        [DOCKER, *words],
        cwd=cwd,
        env={**os.environ, **docker, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def status(cwd: Path) -> dict[str, object]:
    return json.loads((cwd / "outputs" / "run" / "status.json").read_text())


def test_the_image_is_what_it_says(docker: dict[str, str]) -> None:
    said = json.loads(say(docker, "image", "inspect", "dpo"))[0]
    config = said["Config"]
    assert config["User"] == "10001" and config["Entrypoint"] == ["launch/entry.sh"]
    assert config["Labels"]["org.opencontainers.image.title"] == "DPO trainer"
    assert set(config["Volumes"]) == {"/cache", "/app/outputs"}
    files = say(docker, "run", "--rm", "--network", "none", "dpo", "ls", "-A", "/app").split()
    assert set(files) - {"__pycache__"} == {
        *("conf", "constraints.txt", "dpo", "dpo_trainer.egg-info", "launch", "outputs", "pyproject.toml", "train.py")
    }
    assert "accelerate launch train.py" in say(docker, "run", "--rm", "--network", "none", "dpo", "--help")


def test_the_doctor_sees_what_docker_gives(docker: dict[str, str], tmp_path: Path) -> None:
    """Docker's own 64 MiB of shared memory fail; launch/docker.sh gives enough."""
    checks = "doctor.checks=[versions,driver,allreduce,compiler,disk,shm,limits]"
    words = ("dpo", "doctor", checks, "doctor.free_gb=1", "doctor.json=-")
    bare = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "dpo", *words],
        env={**os.environ, **docker},
        capture_output=True,
        text=True,
    )
    assert bare.returncode == 1, bare.stderr
    failed = [f["check"] for f in json.loads(bare.stdout)["findings"] if f["level"] == "fail"]
    assert failed == ["shm"], bare.stdout
    code, output = finish_one(
        launched(tmp_path, docker, *words, DOCKER_OPTIONS=f"--user {USER} --read-only --tmpfs /tmp")
    )
    assert code == 0, output


def test_two_workers_train_as_any_user_stop_and_continue(docker: dict[str, str], tmp_path: Path) -> None:
    name = f"dpo-test-{uuid.uuid4().hex[:8]}"
    words = [*SETTINGS, "name=run", "optim.max_steps=12", "checkpoint.every=0"]
    options = f"--name {name} --user {USER}:{USER} --read-only --tmpfs /tmp"
    process = launched(tmp_path, docker, *words, DOCKER_OPTIONS=options)
    wait_for_step(process, tmp_path / "outputs" / "run" / "metrics.jsonl", 2)
    say(docker, "stop", "--time", "120", name)
    code, output = finish_one(process)
    assert code == 128 + 15 and status(tmp_path)["state"] == "stopped", output
    assert list((tmp_path / "outputs" / "run" / "checkpoints").glob("step-*"))
    code, output = finish_one(launched(tmp_path, docker, *words, DOCKER_OPTIONS=options))
    assert code == 0 and status(tmp_path)["state"] == "done", output
    steps = [row["step"] for row in read_rows(tmp_path / "outputs/run/metrics.jsonl") if row["split"] == "train"]
    assert steps == list(range(1, 13))
    assert {path.stat().st_uid for path in (tmp_path / "outputs" / "run").rglob("*")} == {USER}


def test_two_containers_are_two_machines_that_stop_together(docker: dict[str, str], tmp_path: Path) -> None:
    """As pods do: one is asked to leave, all workers save, and the other's exit code says that it is not done."""
    network = f"dpo-test-{uuid.uuid4().hex[:8]}"
    say(docker, "network", "create", "--internal", network)
    words = [*SETTINGS, "name=run", "optim.max_steps=12", "checkpoint.every=0", "checkpoint.stopped_code=75"]

    def both() -> "list[subprocess.Popen[str]]":
        job = {"NETWORK": network, "NODES": "2", "NPROC": "1", "MASTER_ADDR": f"{network}-0"}
        return [
            launched(
                tmp_path,
                docker,
                *words,
                **job,
                NODE_RANK=str(node),
                DOCKER_OPTIONS=f"--name {network}-{node} --hostname {network}-{node} {RIGHTS}",
            )
            for node in range(2)
        ]

    try:
        processes = both()
        wait_for_step(processes[0], tmp_path / "outputs" / "run" / "metrics.jsonl", 2)
        say(docker, "stop", "--time", "120", f"{network}-1")
        ended = finish_all(processes)
        assert [code for code, _ in ended] == [75, 128 + 15], ended
        assert status(tmp_path)["state"] == "stopped"
        ended = finish_all(both())
        assert [code for code, _ in ended] == [0, 0], ended
        assert status(tmp_path)["state"] == "done"
    finally:
        for node in range(2):
            subprocess.run(["docker", "rm", "--force", f"{network}-{node}"], env={**os.environ, **docker}, check=False)
        say(docker, "network", "rm", network)


def finish_one(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and output."""
    return finish(process, LIMIT)


def finish_all(processes: "list[subprocess.Popen[str]]") -> list[tuple[int, str]]:
    """Read from all at once: one whose pipe is full would wait, and the others for it."""
    found: dict[int, tuple[int, str]] = {}
    threads = [
        threading.Thread(target=lambda i=i, p=p: found.update({i: finish_one(p)})) for i, p in enumerate(processes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[i] for i in range(len(processes))]


def wait_for_step(process: "subprocess.Popen[str]", metrics: Path, step: int) -> None:
    """Until it is logged. Ends the container's launch when it never is."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and process.poll() is None:
        if any(row["step"] >= step for row in read_rows(metrics)):
            return
        time.sleep(0.05)
    raise AssertionError(finish(process, limit_seconds=1))
