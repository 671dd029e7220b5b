"""One Arrow file, read at the places where Arrow keeps each value.

Neither mapped nor loaded: of a mapped file every page that was ever touched counts as memory of the process, and
storage that goes away ends the process with a signal instead of an error. The layout is fixed by the format
(https://arrow.apache.org/docs/format/Columnar.html): per record batch and column a buffer of values, before it one of
offsets (int32) where values differ in length.
"""

import os
from array import array
from bisect import bisect_right
from itertools import accumulate, pairwise
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo.data.store.columns import FIXED, KEYS
from dpo.disk import explain
from dpo.errors import EnvironmentProblem

OFFSETS = Struct("<ii")  # where a value of varying length begins and ends


class ArrowFile:
    """Of the columns in `columns`. In memory: where the buffers of every record batch begin, 300 bytes per batch."""

    def __init__(self, path: Path):
        """Raises pa.ArrowException, OSError: no such file, or not a whole one."""
        sizes, self._buffers = _layout(path)
        self._begins = [0, *accumulate(sizes)]
        self._path = path
        self._file = path.open("rb", buffering=0)

    def __len__(self) -> int:
        return self._begins[-1]

    def value(self, name: str, number: int) -> Any:
        """One value of `columns.FIXED`."""
        batch, row = self._find(number)
        dtype = np.dtype(FIXED[name][0])
        data = self._read(dtype.itemsize, int(self._buffers[name][batch, 0]) + row * dtype.itemsize)
        return np.frombuffer(data, dtype)[0].item()

    def ints(self, name: str, number: int) -> list[int]:
        """One value of `columns.LISTS`."""
        return array("i", self._varying(name, number, 4)).tolist()

    def text(self, name: str, number: int) -> str:
        return self._varying(name, number, 1).decode()

    def take(self, name: str, numbers: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Fill `values` [n, ...] with those of these rows, ascending, of a column of fixed width."""
        bounds = np.searchsorted(numbers, self._begins).tolist()
        for batch, (a, b) in enumerate(pairwise(bounds)):
            if a < b:
                begin, end = self._begins[batch], self._begins[batch + 1]
                data = self._read((end - begin) * values[:1].nbytes, int(self._buffers[name][batch, 0]))
                whole = np.frombuffer(data, values.dtype).reshape(-1, *values.shape[1:])
                values[a:b] = whole[numbers[a:b] - begin]

    def lengths(self, name: str) -> NDArray[np.int64]:
        """[n] entries of every value of a column of varying length."""
        found = []
        for batch, begin in enumerate(self._begins[:-1]):
            count = self._begins[batch + 1] - begin + 1
            offsets = np.frombuffer(self._read(4 * count, int(self._buffers[name][batch, 0])), np.int32)
            found.append(np.diff(offsets).astype(np.int64))
        return np.concatenate([np.empty(0, np.int64), *found])

    def _varying(self, name: str, number: int, width: int) -> bytes:
        batch, row = self._find(number)
        offsets, values = self._buffers[name][batch].tolist()
        begin, end = OFFSETS.unpack(self._read(OFFSETS.size, offsets + 4 * row))
        return self._read(width * (end - begin), values + width * begin) if end > begin else b""

    def _find(self, number: int) -> tuple[int, int]:
        batch = bisect_right(self._begins, number) - 1
        return batch, number - self._begins[batch]

    def _read(self, count: int, offset: int) -> bytes:
        try:
            data = os.pread(self._file.fileno(), count, offset)
        except OSError as error:
            raise EnvironmentProblem(f"prepared data cannot be read: {explain(error, self._path.parent)}") from error
        if len(data) < count:
            raise EnvironmentProblem(f"{self._path} has become shorter: remove its folder, it is prepared again then")
        return data


def _layout(path: Path) -> tuple[list[int], dict[str, NDArray[np.int64]]]:
    """Rows of every record batch, and per column [batches, 2] where its buffers begin in the file: values, or offsets
    and values."""
    sizes: list[int] = []
    found: dict[str, list[list[int]]] = {}
    with pa.memory_map(str(path)) as mapped:
        whole = mapped.read_buffer()
        reader = pa.ipc.open_file(whole)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            sizes.append(batch.num_rows)
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                begins = [buffer.address - whole.address if buffer else 0 for buffer in column.buffers()]
                fixed = name == KEYS or name in FIXED
                found.setdefault(name, []).append([begins[1], 0 if fixed else begins[-1]])
    return sizes, {name: np.array(places, np.int64) for name, places in found.items()}
