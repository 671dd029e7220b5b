"""Who may import whom, and a few words that the package does without. Read from the source with `ast`, so that imports
inside functions count as well, and nothing is imported."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]

# From the top down. A part (a module, or a package with all beneath it) imports from itself and from the layers below;
# parts of one layer do not know each other. The longest name that fits decides: dpo.config.schema is a part of its own.
LAYERS = [
    ["train", "dpo.__main__"],
    ["dpo.cli"],
    ["dpo.commands"],
    [
        "dpo.run",
        "dpo.run_doctor",
        "dpo.run_plan",
        "dpo.run_planner",
        "dpo.run_prepare",
        "dpo.run_reference",
        "dpo.run_report",
        "dpo.run_status",
        "dpo.run_submit",
        "dpo.run_sweep",
    ],
    ["dpo.compare", "dpo.submit"],
    ["dpo.report_sweep", "dpo.status", "dpo.verify"],
    ["dpo.build_reference", "dpo.plan_here", "dpo.start"],
    ["dpo.build_plan"],
    ["dpo.planned_lengths"],
    [
        "dpo.trainer",
        "dpo.run_folder",
        "dpo.closing",
        "dpo.doctor",
        "dpo.build_data",
        "dpo.build_groups",
        "dpo.build_model",
        "dpo.model_card",
    ],
    [
        "dpo.bad_steps",
        "dpo.checkpoint",
        "dpo.config",
        "dpo.evaluate",
        "dpo.export",
        "dpo.recorder",
        "dpo.reference",
        "dpo.self_check",
    ],
    ["dpo.step", "dpo.window"],
    ["dpo.model", "dpo.metrics"],
    ["dpo.planner"],
    ["dpo.distributed", "dpo.losses"],
    ["dpo.optim", "dpo.data.prepare", "dpo.progressed"],
    ["dpo.optim_8bit"],
    ["dpo.demo", "dpo.data_report"],
    ["dpo.data"],
    ["dpo.digests"],
    [
        "dpo.columns",
        "dpo.determinism",
        "dpo.disk",
        "dpo.log",
        "dpo.available_memory",
        "dpo.memory",
        "dpo.metric_table",
        "dpo.preempt",
        "dpo.progress",
        "dpo.records",
        "dpo.report",
        "dpo.usage",
        "dpo.run_lock",
        "dpo.symptoms",
        "dpo.track",
    ],
    ["dpo.deadline", "dpo.histogram", "dpo.redact"],
    ["dpo.config.schema", "dpo.errors"],
    [
        "dpo.config.doctor",
        "dpo.config.losses",
        "dpo.config.expect",
        "dpo.config.launch",
        "dpo.config.plan",
        "dpo.config.shape",
    ],
    ["dpo.config.fields"],
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

# Libraries with their only importers. All else that reaches the network or the launcher goes through these.
OWNERS = {
    "accelerate": ["dpo.distributed"],
    "deepspeed": ["dpo.distributed"],
    "torch.distributed": ["dpo.distributed"],
    "hydra": ["dpo.config.compose", "dpo.config.meant"],
    "omegaconf": ["dpo.config.compose", "dpo.config.meant"],
    "wandb": ["dpo.track.wandb_tracker", "dpo.track.wandb_file"],
    "tensorboard": ["dpo.track.tensorboard_tracker"],
    "torch.utils.tensorboard": ["dpo.track.tensorboard_tracker"],
    "gradio": [],
    "datasets": ["dpo.data.read.hub"],
    "huggingface_hub": ["dpo.data.read.hub", "dpo.model.source", "dpo.model_card", "dpo.log"],
    "requests": [],
    "httpx": [],
    "urllib": ["dpo.doctor.web", "dpo.track.reach"],
    "liger_kernel": ["dpo.model.kernels"],
    "bitsandbytes": ["dpo.optim_8bit"],
    "peft": ["dpo.model.adapter", "dpo.export"],
    "matplotlib": ["dpo.report", "dpo.report_sweep", "dpo.planner.picture"],
    "tqdm": ["dpo.progress"],
}
# The values and the mathematics: they know neither launcher nor workers, directly or through others of the package.
PURE = ["dpo.data", "dpo.losses", "dpo.metrics"]

# Everybody else receives a section. The trainer is to lose it.
SEE_RUN_CONFIG = [
    "dpo.start",
    "dpo.run",
    "dpo.run_doctor",
    "dpo.run_folder",
    "dpo.run_plan",
    "dpo.run_planner",
    "dpo.build_plan",
    "dpo.plan_here",
    "dpo.planned_lengths",
    "dpo.model_card",
    "dpo.run_report",
    "dpo.build_data",
    "dpo.build_groups",
    "dpo.build_model",
    "dpo.build_reference",
    "dpo.config",
    "dpo.submit",
]


@cache
def sources() -> dict[str, ast.Module]:
    """Every module of the package, and train.py, parsed."""
    files = [ROOT / "train.py", *sorted((ROOT / "dpo").rglob("*.py"))]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return {name: ast.parse(file.read_text()) for name, file in zip(names, files, strict=True)}


def nodes(module: str, kind: type[ast.AST]) -> Iterator[ast.AST]:
    return (node for node in ast.walk(sources()[module]) if isinstance(node, kind))


@cache
def imports(module: str) -> frozenset[str]:
    """Full names of what a module imports, and `torch.distributed` where it is reached as an attribute of torch."""
    found = set()
    for node in ast.walk(sources()[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: write the full name of the module"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.distributed":
            found.add("torch.distributed")
    return frozenset(found)


def inside(name: str, parts: list[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def own(module: str) -> set[str]:
    """The modules of this project among a module's imports."""
    names = {name if name in sources() else name.rpartition(".")[0] for name in imports(module)}
    return {name for name in names if name in sources()}


def reached(module: str) -> set[str]:
    """The modules of this project that come along when a module is imported, itself included."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += own(name)
    return found


def part_of(module: str) -> str:
    fitting = [part for part in LEVEL if inside(module, [part])]
    return max(fitting, key=len, default="")


def test_every_module_has_a_layer() -> None:
    assert [module for module in sources() if module != "dpo" and not part_of(module)] == []
    assert [part for part in LEVEL if part not in sources()] == [], "layers name modules that are gone"


def test_arrows_only_go_down() -> None:
    wrong = [
        f"{module} imports {target}"
        for module in sources()
        for target in own(module) - {"dpo"}
        if part_of(target) != part_of(module) and LEVEL[part_of(target)] <= LEVEL[part_of(module)]
    ]
    assert wrong == []


@pytest.mark.parametrize("library", OWNERS)
def test_library_has_one_owner(library: str) -> None:
    users = [module for module in sources() if any(inside(name, [library]) for name in imports(module))]
    assert [module for module in users if not inside(module, OWNERS[library])] == []


@pytest.mark.parametrize("module", [module for module in sources() if inside(module, PURE)])
def test_data_and_mathematics_know_no_workers(module: str) -> None:
    assert [name for name in sorted(reached(module)) if inside(name, ["dpo.distributed", "dpo.model"])] == []


def test_only_the_assembly_sees_the_whole_configuration() -> None:
    seeing = [
        module
        for module, tree in sources().items()
        if any("RunConfig" in (getattr(node, key, "") for key in ("id", "attr", "name")) for node in ast.walk(tree))
    ]
    assert [module for module in seeing if not inside(module, SEE_RUN_CONFIG)] == []


def test_nothing_is_printed() -> None:
    calls = [f"{m}:{c.lineno}" for m in sources() for c in nodes(m, ast.Call) if ast.unparse(c.func) == "print"]
    assert calls == [], "use logging, or sys.stdout for what a command was asked to say"


def test_settings_are_read_by_name() -> None:
    """A section is typed: `cfg.get("lr", 0)` or `getattr(cfg, "lr", 0)` would hide a setting that does not exist.

    dpo/model is left out: what it calls `config` is a Hugging Face model's, which differs from model to model.
    """
    ours = ("cfg", "config", "self.config")
    wrong = [
        f"{module}:{call.lineno}"
        for module in sources()
        if not inside(module, ["dpo.model"])
        for call in nodes(module, ast.Call)
        if ast.unparse(call.func) in [f"{name}.get" for name in ours]
        or (ast.unparse(call.func) == "getattr" and ast.unparse(call.args[0]).split(".")[0] in ours)
    ]
    assert wrong == []
