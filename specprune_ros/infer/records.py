"""Named records of tensors (NamedTuple, some fields None), and the plain tuples of tensors that graphs take and
give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from torch import Tensor

Record = TypeVar("Record", bound=tuple)


def tensors_of(record: object) -> tuple[Tensor, ...]:
    """The tensors of a record, and of records and tuples in it, in order of declaration; None stands for no tensor."""
    if record is None:
        return ()
    if isinstance(record, Tensor):
        return (record,)
    return tuple(tensor for part in record for tensor in tensors_of(part))


def refilled(record: Record, tensors: Iterable[Tensor]) -> Record:
    """A record of the same form with other tensors, in the order of `tensors_of`; ValueError when their number
    differs."""
    source = iter(tensors)
    filled = _refilled(record, source)
    if next(source, None) is not None:
        raise ValueError(f"more tensors than the {len(tensors_of(record))} of the record")
    return filled


def _refilled(record, source: Iterator[Tensor]):
    if record is None:
        return None
    if isinstance(record, Tensor):
        tensor = next(source, None)
        if tensor is None:
            raise ValueError("fewer tensors than the record has")
        return tensor
    parts = [_refilled(part, source) for part in record]
    return type(record)(*parts) if hasattr(record, "_fields") else tuple(parts)
