"""How launch/submit.py brings a run to a Slurm cluster: `conf/launch/<site>.yaml`, one per cluster or partition."""

from dataclasses import dataclass, field

from dpo.config.fields import number, one_of


@dataclass(kw_only=True, slots=True)
class LaunchConfig:
    """Settings of a submission. None of them reaches the run, and none changes a number of it."""

    nodes: int = number(1, low=1)
    gpus_per_node: int = number(1, low=0)  # 0: workers on CPUs
    gpu_type: str | None = None  # as the cluster names it: h100
    workers_per_node: int | None = number(None, low=1)  # null: one per GPU, two where there is none
    cpus_per_node: int | None = number(None, low=1)  # null: the cluster's default, often a single core
    memory: str | None = None  # of the host, per node: 200G; "0": all of it; null: the cluster's default
    exclusive: bool = False  # whole nodes
    time: str | None = None  # of one stretch between two requeues: 4:00:00, 1-12:00:00; null: the partition's default
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    sbatch: list[str] = field(default_factory=list)  # any other options: [--reservation=r1, --mail-type=FAIL]
    # Before the end of the time: USR1, then a checkpoint and the next stretch. Slurm may be a minute early.
    notice_seconds: int = number(300, low=30)
    max_requeues: int = number(100, low=0)  # after failures of nodes and preemptions too
    after: str | None = None  # job that must have succeeded before: 1234, or as --dependency has it: afterany:1234
    log: str | None = None  # file, %x: name, %j: number of the job; null: <output_dir>/slurm_logs/%x-%j.log
    modules: list[str] = field(default_factory=list)  # module load ...
    setup: list[str] = field(default_factory=list)  # lines of bash on the first node, before: source /opt/site.sh
    # Exported in the job, where $NAMES in the values are filled in. No keys: those come from your environment.
    env: dict[str, str] = field(default_factory=dict)
    # Folder on each node's own disk for what libraries compile (ops, kernels), where home folders are on a slow or full
    # network disk: /local/$USER. Downloads: launch.env.HF_HOME.
    node_cache: str | None = None
    container: str | None = None  # image: a file, or for pyxis also registry#name:tag
    container_runtime: str = one_of("pyxis", "pyxis", "apptainer")  # pyxis: srun's plug-in over enroot
    container_mounts: list[str] = field(default_factory=list)  # besides the project and the current folder: /a, /a:/b
