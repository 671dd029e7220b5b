"""Two machines, each with its own network, name and disk (see hosts.py): they train as one, and a cut between them
costs nothing but time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import LOCAL, Hosts, missing, two_hosts
from test_resume import ZERO3, assert_as_undisturbed

from launch import LIMIT_SECONDS, ROOT, SMALL, TWENTY, Ended, wait_for_step

pytestmark = pytest.mark.run

KEEP = str(ROOT / "launch" / "keep.sh")
GUARDED = (*TWENTY, *ZERO3, "checkpoint.every=2", "guard.hang_seconds=6")


@pytest.fixture(autouse=True, scope="module")
def can_play_two() -> None:
    if why := missing():
        pytest.skip(why)


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Hosts]:
    """Each with a disk of its own."""
    with two_hosts(tmp_path) as hosts:
        yield hosts


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[Hosts]:
    with two_hosts(tmp_path, shared=True) as hosts:
        yield hosts


def weights(ended: Ended) -> bytes:
    return (ended.folder / "final" / "model.safetensors").read_bytes()


def assert_names_the_other(ends: list[Ended]) -> None:
    for here, end in enumerate(ends):
        assert end.code == 1, end.output
        there = 1 - here
        assert f"worker {there} (host host{there}, pid " in end.output, end.output
    assert "gives no sign of life, last seen at step " in ends[0].output
    assert "host1 does not reach the machine of worker 0" in ends[1].output
    assert ends[0].status["state"] == "failed" and "host host1" in ends[0].status["why"]


def test_two_hosts_with_disks_of_their_own_survive_a_cut_network(apart: Hosts, two: Ended) -> None:
    """Packets vanish in the middle of a step, without a word to either. Both end, and the next launch, of which machine
    0 alone has the checkpoint, ends with the bits of an undisturbed run of two workers on one machine."""
    launched = apart.launch(*GUARDED, "name=cut")
    wait_for_step(launched[0], apart.all[0].disk / "cut" / "metrics.jsonl", 5)
    apart.drop(1)
    for host in apart.all:
        host.wait_until_empty()
    assert_names_the_other(apart.finish(launched, "cut"))
    apart.mend()
    main, _ = apart.train(*GUARDED, name="cut")
    assert_as_undisturbed(main, two)
    assert weights(main) == weights(two)
    assert main.output.count("resume: continuing from") == 1
    assert "1 of 2 workers do not see" in main.output
    assert "920 of 920 responses found" in main.output, "values that host1 had computed are computed again"
    assert [path.name for path in apart.all[1].disk.iterdir()] == ["data_cache"], "pairs that it has prepared, no more"


@pytest.mark.slow
def test_a_pulled_cable_and_hosts_that_start_again_by_themselves(sharing: Hosts, two: Ended) -> None:
    """Machine 0 notices at once, machine 1 does not. keep.sh on both starts again and waits until the cable is back."""
    launched = sharing.launch(*GUARDED, "name=kept", before=[KEEP], PAUSE="1")
    metrics = sharing.all[0].disk / "kept" / "metrics.jsonl"
    wait_for_step(launched[0], metrics, 5)
    sharing.pull(0)
    for host in sharing.all:
        host.wait_for("keep.sh: ended with exit code 1")
    sharing.mend()
    main, other = sharing.finish(launched, "kept")
    assert main.code == 0 and other.code == 0, main.output + other.output
    assert_as_undisturbed(main, two)
    assert weights(main) == weights(two)


@pytest.mark.slow
def test_two_workers_on_each_host_write_the_files_of_machine_0_only(apart: Hosts, one: Ended) -> None:
    """Stopped by the file, which machine 0 alone sees; a launch on it alone goes on from there."""
    launched = apart.launch(*TWENTY, "zero=zero2", "name=four", NPROC="2")
    folder = apart.all[0].disk / "four"
    wait_for_step(launched[0], folder / "metrics.jsonl", 5)
    (folder / "STOP").touch()
    main, other = apart.finish(launched, "four")
    assert main.code == 0 and other.code == 0, main.output + other.output
    assert main.status["state"] == "stopped" and "2 of 4 workers do not see" in main.output
    files = sorted(path.name for path in (folder / "checkpoints" / main.checkpoints[-1]).glob("*.safetensors"))
    assert files == ["state-00000-of-00002.safetensors", "state-00001-of-00002.safetensors"]
    again = apart.all[0].start(LOCAL, *TWENTY, "zero=zero2", "name=four", NPROC="2")
    assert again.wait(LIMIT_SECONDS) == 0, apart.all[0].log.read_text()
    ended = Ended(code=0, output=apart.all[0].log.read_text(), folder=main.folder)
    assert "workers: 4 in the checkpoint, 2 now" in ended.output
    assert [row["loss"] for row in ended.train] == pytest.approx([row["loss"] for row in one.train], abs=1e-5)


@pytest.mark.slow
def test_what_ends_one_host_is_told_on_the_other(apart: Hosts) -> None:
    """Machine 1 lacks the data: machine 0 says so, long before guard.hang_seconds."""
    (apart.all[0].disk / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 40)
    own = [setting for setting in SMALL if not setting.startswith("data.")]
    main, other = apart.finish(apart.launch(*own, *ZERO3, "data.path=pairs.jsonl", "name=told"), "told")
    assert main.code == 1 and other.code == 1
    for end in (main, other):
        assert "worker 1" in end.output and "pairs.jsonl" in end.output, end.output
    assert "host host1" in main.output


def test_a_master_that_is_not_there_is_said_at_once(apart: Hosts) -> None:
    """By launch/local.sh, before torch's launcher asks for it in silence."""
    for address, said in (
        ("nowhere.invalid", "MASTER_ADDR=nowhere.invalid cannot be resolved"),
        ("10.99.0.9", "machine 0 at 10.99.0.9:29500: "),
        ("host0", "machine 0 at host0:29500: Connection refused"),
    ):
        host = apart.all[1]
        script = [LOCAL, *SMALL]
        process = host.start(*script, NODES="2", NODE_RANK="1", NPROC="1", MASTER_ADDR=address, MASTER_WAIT="1")
        assert process.wait(LIMIT_SECONDS) == 1
        output = host.log.read_text()
        assert said in output and "Given up after 1 s" in output and "Traceback" not in output, output
