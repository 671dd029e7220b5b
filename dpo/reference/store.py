"""The values on disk: one folder per fingerprint, in it parts that are written once and never changed.

    <cache_dir>/<model>-<16 digits>/
        about.json                      which model, precision, since when
        part-<time>-<random>.safetensors    keys [N, 16] uint8, logps [N] float32, tokens [N] int32, a checksum

A part appears whole or not at all (temporary name, fsync, rename), under a name that nobody else uses. So any number of
jobs may read and write at once without locks; a value that two of them computed is there twice, to no harm.
"""

import json
import logging
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dpo.errors import EnvironmentProblem
from dpo.records import write_atomic
from dpo.reference.fingerprint import Fingerprint
from dpo.reference.keys import BYTES, Keys

log = logging.getLogger(__name__)

ABOUT, DAMAGED = "about.json", ".damaged"


class PartDamaged(Exception):
    """A part that cannot be read or is not what was written."""


@dataclass(kw_only=True, slots=True)
class Values:
    """Responses and their summed log-probabilities."""

    keys: Keys  # [N]
    logps: NDArray[np.float32]  # [N] nats
    tokens: NDArray[np.int32]  # [N] scored tokens of each


class Store:
    """The values of one fingerprint. Making the object touches nothing on disk."""

    def __init__(self, cache_dir: Path, fingerprint: Fingerprint):
        self.folder = cache_dir / f"{_label(fingerprint.model)}-{fingerprint.short}"
        self.fingerprint = fingerprint

    def lookup(self, keys: Keys) -> NDArray[np.float32]:
        """[N] of `keys`, NaN where there is no value. A damaged part is set aside with a warning.

        Of a value that is there more than once the oldest counts, so that a run which goes on finds what it had. Parts
        are looked through one after the other: all of them together may be larger than the data.
        """
        found = np.full(len(keys), np.nan, dtype=np.float32)
        order = np.argsort(keys, kind="stable")
        wanted = keys[order]
        for known in self._parts() if len(keys) else ():
            place = np.minimum(np.searchsorted(wanted, known.keys), len(wanted) - 1)
            hit = np.flatnonzero(wanted[place] == known.keys)[::-1]  # of several in one part the last one written stays
            places = order[place[hit]]
            found[places] = np.where(np.isnan(found[places]), known.logps[hit], found[places])
        return found

    def append(self, values: Values) -> None:
        """One more part, on disk when this returns. Raises EnvironmentProblem when it cannot be written."""
        try:
            self._write(values)
        except OSError as error:
            raise EnvironmentProblem(
                f"reference values cannot be kept in {self.folder}: {error.strerror}; make room there, or name another "
                "folder with reference.cache_dir"
            ) from error

    def _write(self, values: Values) -> None:
        if not (self.folder / ABOUT).exists():
            self._write_about()
        arrays: dict[str, NDArray[Any]] = {
            "keys": values.keys.view(np.uint8).reshape(-1, BYTES),
            "logps": values.logps.astype(np.float32),
            "tokens": values.tokens.astype(np.int32),
        }
        data = save(arrays, metadata={"checksum": _checksum(arrays)})
        final = self.folder / f"part-{time.time_ns():020d}-{secrets.token_hex(4)}.safetensors"
        temporary = final.with_name(f".{final.name}.tmp")
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(final)

    def _parts(self) -> Iterator[Values]:
        """Oldest first."""
        for path in parts_of(self.folder):
            try:
                yield read_part(path)
            except FileNotFoundError:  # removed or set aside by another job since
                continue
            except PartDamaged as problem:
                _set_aside(path, problem)

    def _write_about(self) -> None:
        about = {
            "model": self.fingerprint.model,
            "fingerprint": self.fingerprint.digest,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **self.fingerprint.parts,
        }
        write_atomic(self.folder / ABOUT, json.dumps(about, indent=2, default=str) + "\n")


def parts_of(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob("part-*.safetensors"))


def read_part(path: Path) -> Values:
    """Raises PartDamaged; FileNotFoundError when another job has removed it."""
    try:
        with safe_open(path, framework="numpy") as part:
            arrays = {name: part.get_tensor(name) for name in ("keys", "logps", "tokens")}
            expected = (part.metadata() or {}).get("checksum")
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:
        raise PartDamaged(f"cannot be read ({error})") from error
    if _checksum(arrays) != expected:
        raise PartDamaged("is not what was written (its checksum differs)")
    keys = np.frombuffer(arrays["keys"].tobytes(), dtype=f"S{BYTES}")
    return Values(keys=keys, logps=arrays["logps"], tokens=arrays["tokens"])


def join(parts: list[Values]) -> Values:
    return Values(
        keys=np.concatenate([np.empty(0, f"S{BYTES}"), *(part.keys for part in parts)]),
        logps=np.concatenate([np.empty(0, np.float32), *(part.logps for part in parts)]),
        tokens=np.concatenate([np.empty(0, np.int32), *(part.tokens for part in parts)]),
    )


def _checksum(arrays: dict[str, NDArray[Any]]) -> str:
    digest = blake2b(digest_size=BYTES)
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _set_aside(path: Path, problem: PartDamaged) -> None:
    aside = path.with_name(path.name + DAMAGED)
    log.warning("reference: %s %s; it is kept as %s, and its values are computed again", path, problem, aside.name)
    try:
        path.rename(aside)
    except FileNotFoundError:  # another job was first
        log.debug("%s is gone already", path)


def _label(model: str) -> str:
    """The end of a path or hub name as part of a folder's name."""
    parts = [part for part in Path(model).parts if part not in ("/", "..")]
    last = parts[-2] if len(parts) > 1 and parts[-1] == "final" else parts[-1]
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in last)[:40].strip("-.") or "model"
