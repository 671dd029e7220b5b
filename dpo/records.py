"""The files of one run, written by rank 0: status.json, metrics.jsonl and the places of the others.

Whoever reads them may do so at any moment, and the run may be killed at any moment. So whole files are replaced in one
rename, and line files only ever grow, apart from a resume.
"""

import json
import math
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from dpo.redact import redact

STATES = ("running", "done", "stopped", "failed")

# Strict JSON has no such numbers. As words they stay visible; a 0.0 in their place would look like a perfect loss.
_WORD_TO_FLOAT = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(slots=True)
class RunFolder:
    """`outputs/<name>/`: where each file of a run lies. Making the object touches nothing on disk."""

    path: Path

    def __post_init__(self) -> None:
        self.path = Path(self.path)

    def create(self) -> "RunFolder":
        """Make the folder and its parents; returns itself."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self

    @property
    def name(self) -> str:
        """The run's name: the folder's own."""
        return self.path.name

    @property
    def status(self) -> Path:
        """How far the run is and how it ended (`Status`)."""
        return self.path / "status.json"

    @property
    def lock(self) -> Path:
        """Held by the launch that trains this run. Beside the folder, because resume=never moves that one away."""
        return self.path.with_name(f".{self.name}.lock")

    @property
    def config(self) -> Path:
        """Every setting of the run, after composition."""
        return self.path / "config.yaml"

    @property
    def inputs(self) -> Path:
        """Digests of the local files that the settings name."""
        return self.path / "inputs.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per logged step (`MetricsLog`)."""
        return self.path / "metrics.jsonl"

    @property
    def rejects(self) -> Path:
        """One JSON object per row of the data that was not used, with the reason."""
        return self.path / "rejects.jsonl"

    @property
    def samples(self) -> Path:
        """One JSON object per sampled answer, before and after training."""
        return self.path / "samples.jsonl"

    @property
    def bad_steps(self) -> Path:
        """One JSON object per pair of a step that was not applied because its numbers were not finite."""
        return self.path / "bad_steps.jsonl"

    @property
    def plots(self) -> Path:
        """Folder of the curves."""
        return self.path / "plots"

    @property
    def checkpoints(self) -> Path:
        """Folder of the states a run can continue from."""
        return self.path / "checkpoints"

    @property
    def final(self) -> Path:
        """Folder of the trained model."""
        return self.path / "final"


def write_atomic(path: Path | str, text: str) -> None:
    """Replace `path` by `text` (UTF-8) such that a reader sees the old file or the new one, never a part.

    The bytes are on disk (fsync) before the rename makes them visible. Makes missing parent folders. Raises OSError;
    the old file is then untouched and no temporary one is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder because a rename is atomic within one file system only.
    # A random name because two containers on one shared folder can have the same process id.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@dataclass(kw_only=True, slots=True)
class Status:
    """`status.json`: what a user or a batch script asks about a run."""

    state: str = "running"  # running | done | stopped | failed
    why: str = ""  # one sentence for stopped and failed
    step: int = 0  # optimizer steps done
    stop_seconds: float | None = None  # of a stopped run: from the request to here, the checkpoint included
    total_steps: int | None = None  # null until the data are counted
    updated: str = ""  # ISO 8601, UTC; set by write_status
    name: str = ""  # of the run
    wandb_id: str | None = None  # under which a resumed run goes on in W&B
    warnings: list[str] = field(default_factory=list)  # about the numbers, each once

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"state {self.state!r} is none of {', '.join(STATES)}")


def read_status(folder: RunFolder) -> Status | None:
    """The run's status, or None where there is none or it cannot be understood. Unknown entries are passed over."""
    try:
        entries = json.loads(folder.status.read_text(encoding="utf-8"))
        if "state" not in entries:
            return None
        return Status(**{f.name: entries[f.name] for f in fields(Status) if f.name in entries})
    except (OSError, ValueError, TypeError):  # ValueError covers broken JSON, broken UTF-8 and an unknown state
        return None


def write_status(folder: RunFolder, **changes: Any) -> Status:
    """Merge `changes` into the run's status and replace the file at once, without secrets: `why` quotes errors.
    Returns what was written.

    Raises TypeError for an entry that `Status` does not have, ValueError for an unknown state.
    """
    before = read_status(folder) or Status(name=folder.name)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    status = replace(before, **(changes | {"updated": now}))
    write_atomic(folder.status, json.dumps(redact(asdict(status), os.environ), indent=2) + "\n")
    return status


def encode_line(record: dict[str, Any]) -> str:
    """`record` as one line of strict JSON without its newline; NaN and the infinities become words.

    Numbers of other libraries (numpy, torch) are taken by their `item()`. Raises TypeError for what JSON cannot hold.
    """
    return json.dumps(_plain(record), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """`value` made of what JSON knows."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _word(value)
    if value is None or isinstance(value, str | int):
        return value
    if callable(item := getattr(value, "item", None)):  # a numpy or torch scalar
        return _plain(item())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def _word(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _decode_line(line: str) -> dict[str, Any] | None:
    """The object on one line, the words turned back into numbers; None for a line that holds no object."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    return {key: _WORD_TO_FLOAT.get(value, value) if isinstance(value, str) else value for key, value in record.items()}


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """All whole records of a metrics file in their order; [] where there is no file."""
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [record for line in lines if (record := _decode_line(line)) is not None]


def keep_rows(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Drop all other records of a JSONL file, and lines that are not whole."""
    if path.exists():
        kept = [record for record in read_metrics(path) if wanted(record)]
        write_atomic(path, "".join(encode_line(record) + "\n" for record in kept))


def append_lines(path: Path | str, records: Iterable[dict[str, Any]]) -> None:
    """Add records to a JSONL file (rejects, samples) and close it. Raises OSError; nothing is added then."""
    data = "".join(encode_line(record) + "\n" for record in records).encode()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        _append(file, data)


def _append(file: FileIO, data: bytes) -> None:
    """All of `data` or, when OSError is raised, none: a full disk takes a part of it."""
    end = os.fstat(file.fileno()).st_size
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        with suppress(OSError):
            file.truncate(end)
        raise


@dataclass(slots=True)
class MetricsLog:
    """metrics.jsonl, one record per logged step.

    Each line is handed to the operating system at once, so a killed process loses no record. It is not synced to disk
    step by step: that would cost milliseconds each on a network file system, for a crash of the whole machine only.
    """

    path: Path
    _file: FileIO | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.path = Path(self.path)

    def append(self, record: dict[str, Any]) -> None:
        """Write one record. Raises TypeError for a value JSON cannot hold, OSError; nothing is written then."""
        data = (encode_line(record) + "\n").encode()
        if self._file is None:
            self._file = self._open()
        try:
            _append(self._file, data)
        except OSError:
            self.close()  # after a lost mount the open file stays lost
            raise

    def keep_until(self, step: int, evaluated: int) -> None:
        """Drop every record with a later step, and a last line that a kill left half written.

        For a resume from a checkpoint of `step`, the last evaluation being that of step `evaluated`: what comes after
        them is done, and logged, again. -1 empties the log.
        """
        self.close()
        last = {"train": step, "eval": evaluated}
        keep_rows(self.path, lambda row: row.get("step", -1) <= last.get(row.get("split", ""), step))

    def sync(self) -> None:
        """Wait until the file's lines are on the disk. Raises OSError."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # nothing is buffered
                file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> FileIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if _ends_in_mid_line(self.path):  # else the first new record would continue the broken line and be lost too
            write_atomic(self.path, "".join(encode_line(record) + "\n" for record in read_metrics(self.path)))
        return self.path.open("ab", buffering=0)


def _ends_in_mid_line(path: Path) -> bool:
    """Whether the file's last byte is anything but a newline."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
