"""Text in columns."""


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """A line per row, cells padded on the right to the widest of their column."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
