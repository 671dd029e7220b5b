"""Arrow tables in files: Parquet, and Arrow's own format (.arrow, .feather)."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dpo.data.pair import Reject
from dpo.data.read.batches import UNREADABLE, batch_rows, rows_of
from dpo.data.read.listing import InputFile
from dpo.data.read.opened import damaged
from dpo.data.read.origin import Row

if TYPE_CHECKING:
    import pyarrow as pa

FILE_MAGIC = b"ARROW1"  # what begins otherwise is a stream, as `datasets` writes it
STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"  # Arrow takes a stream without it as well: cut between two batches


def read_parquet(file: InputFile) -> Iterator[Row | Reject]:
    """The rows of a Parquet file, one row group in memory. Raises DataError when the file is damaged."""
    import pyarrow.parquet as pq  # 0.3 s to import, for one kind of file only

    try:
        # Without pre_buffer: it would keep the compressed columns of the whole file.
        with pq.ParquetFile(file.path, pre_buffer=False) as parquet:
            yield from rows_of(_row_groups(parquet), file)
    except UNREADABLE as error:
        raise damaged(file.path, error) from error


def _row_groups(parquet: Any) -> Iterator["pa.RecordBatch"]:
    for number in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(number)
        step = batch_rows(group.total_byte_size, group.num_rows)
        yield from parquet.iter_batches(batch_size=step, row_groups=[number], use_threads=False)


def read_arrow(file: InputFile) -> Iterator[Row | Reject]:
    """The rows of an Arrow file or stream, one record batch in memory. Raises DataError when the file is damaged."""
    import pyarrow as pa

    try:
        with pa.OSFile(str(file.path)) as source:
            yield from rows_of(_record_batches(source), file)
    except UNREADABLE as error:
        raise damaged(file.path, error) from error


def _record_batches(source: Any) -> Iterable["pa.RecordBatch"]:
    import pyarrow as pa

    is_file = source.read(len(FILE_MAGIC)) == FILE_MAGIC
    if not is_file:
        source.seek(max(0, source.size() - len(STREAM_END)))
        if source.read() != STREAM_END:
            raise ValueError("it has neither the beginning of an Arrow file nor the end of an Arrow stream; cut?")
        source.seek(0)
        return pa.ipc.open_stream(source)
    source.seek(0)
    reader = pa.ipc.open_file(source)
    return (reader.get_batch(number) for number in range(reader.num_record_batches))
