"""What the doctor says of compilers that are missing or broken, and of packages in wrong versions."""

import importlib.machinery
import stat
from pathlib import Path

import pytest
from doctor_node import mounted, one

from dpo.doctor import compiler, versions
from dpo.doctor.versions import Wanted, compare, wanted

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


# Compiler


def test_the_compiler_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    one([compiler.host_finding(needed=True)], "ok")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_compiler_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = one([compiler.host_finding(needed=True)], "fail")
    assert "lacks g++" in finding.text and "apt-get install g++" in finding.cure
    one([compiler.host_finding(needed=False)], "warn")


def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken-c++"
    broken.write_text("#!/bin/sh\necho 'cc1plus: error: out of memory' >&2\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert "cc1plus: error: out of memory" in one([compiler.host_finding(needed=True)], "fail").text


def test_ops_on_a_disk_from_which_nothing_may_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path / "ops", "-t", "tmpfs", "-o", "noexec", "none") as folder:
        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
        finding = one([compiler.host_finding(needed=True)], "fail")
    assert "cannot live in" in finding.text and "TORCH_EXTENSIONS_DIR" in finding.cure


@pytest.mark.parametrize(
    ("toolkit", "torch_cuda", "needed", "level", "said"),
    [
        ("13.0", "13.0", True, "ok", "CUDA 13.0"),
        ("12.8", "13.0", True, "fail", "DeepSpeed refuses"),
        ("12.8", "13.0", False, "warn", "DeepSpeed refuses"),
        (None, "13.0", True, "fail", "no nvcc"),
        (None, "13.0", False, "ok", "not needed here"),
    ],
)
def test_the_toolkit(
    toolkit: str | None,
    torch_cuda: str,
    needed: bool,
    level: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "bin").mkdir()
    if toolkit:
        nvcc = tmp_path / "bin" / "nvcc"
        nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {toolkit}, V{toolkit}.61'\n")
        nvcc.chmod(0o755)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "version.py").write_text(f"cuda: Optional[str] = '{torch_cuda}'\n")
    found = importlib.machinery.PathFinder.find_spec("torch", [str(tmp_path)])
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: found)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert said in one(compiler._cuda(needed), level).text


# Versions


def test_wrong_versions() -> None:
    want = wanted(ROOT)
    want.ranges = [r for r in want.ranges if r.name == "numpy"] or want.ranges[:1]
    name = want.ranges[0].name
    want.ranges[0].specifier &= "<0.0.1"
    want.pins = {name: "0.0.1", "not-installed": "1.0"}
    outside, beside = compare(want)
    assert outside.level == "fail" and name in outside.text and "needs" in outside.text
    assert beside.level == "warn" and "(tested: 0.0.1)" in beside.text and "not-installed" not in beside.text


def test_a_package_that_is_missing_and_a_python_that_is_too_old() -> None:
    want = wanted(ROOT)
    want.ranges[0].name = "no-such-package"
    want.pins = {"torch": versions._installed("torch").split("+")[0]}
    assert "no-such-package is not installed" in one(compare(want), "fail").text
    assert "Python" in one(compare(Wanted(python=">=4", ranges=[])), "fail").text


def test_the_installation_speaks_where_there_is_no_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions.metadata, "requires", lambda name: ["torch>=2", 'pytest>=9; extra == "dev"'])
    monkeypatch.setattr(versions.metadata, "metadata", lambda name: {"Requires-Python": ">=3.11"})
    want = wanted(tmp_path)
    assert [r.name for r in want.ranges] == ["torch"]
    assert "only ranges were compared" in one(compare(want), "warn").text


def test_pins_and_ranges_of_the_checkout() -> None:
    want = wanted(ROOT)
    assert want.pins["deepspeed"] and want.python == ">=3.11"
    assert [r.name for r in want.ranges if want.pins.get(r.name, "") not in r.specifier] == []
