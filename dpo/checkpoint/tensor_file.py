"""One file of tensors in the safetensors format, hashed while it is written: its bytes pass through memory once."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, uint8

from dpo.checkpoint.manifest import FileRecord

CHUNK = 2**24  # bytes handed over at a time: one call of write for a whole embedding could not be interrupted


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> FileRecord:
    """Write float32 tensors on the CPU, synced to disk when this returns.

    The library's own `save_file` reports a full disk without its error number and would have to be followed by a second
    reading of the file for the checksum. Format: https://huggingface.co/docs/safetensors, section Format.

    Raises:
        OSError: with its number, see `dpo.disk.explain`.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("wb", buffering=0) as file:
        for piece in _pieces(tensors):
            digest.update(piece)
            while len(piece):  # a nearly full disk takes a part
                written = file.write(piece)
                size += written
                piece = piece[written:]
        os.fsync(file.fileno())
    return FileRecord(size=size, sha256=digest.hexdigest())


def _pieces(tensors: dict[str, Tensor]) -> Iterator[memoryview]:
    """Length of the header, header, then the tensors' bytes in its order."""
    entries, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8 bytes
    yield memoryview(len(header).to_bytes(8, "little") + header)
    for tensor in tensors.values():
        data = tensor.reshape(-1).view(uint8).numpy().data
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]
