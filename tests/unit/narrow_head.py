"""The scoring head in narrow slices of the vocabulary, so that small models have several."""

from collections.abc import Iterator
from typing import Any

import pytest

from dpo.model import head


def narrow_slices(monkeypatch: pytest.MonkeyPatch, width: int) -> list[int]:
    """Make the head compute `width` words at a time; the widths of the slices it really computes."""
    widths: list[int] = []
    plain = head._Logits.slices

    def watched(self: Any) -> Iterator[Any]:
        for part in plain(self):
            widths.append(part.values.shape[1])
            yield part

    monkeypatch.setattr(head._Logits, "slices", watched)
    monkeypatch.setattr(head, "SLICE_LOGITS", {"cpu": 0})
    monkeypatch.setattr(head, "NARROWEST", width)
    return widths
