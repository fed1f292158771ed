"""A log of records: only ever appended to, persistent, and in little memory, because old records are kept as columns.

Every version shares its blocks with the one before, so a fold may keep any of them. Records are frozen dataclasses; one
is made anew from the columns whenever it is read. By name (an id, a config) they are found through sorted hashes, in
time that grows with the logarithm of their number. Public: Columns, Batch, Log, Names.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import repeat
from operator import attrgetter, is_
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Integers = npt.NDArray[np.int64]

BLOCK = 512  # records that wait for a block at most, but for those of one batch
BATCH = 128  # a batch of so many records is a block of its own
KEPT = 1024  # of the latest records that are kept as they are, at least


# ---- columns ------------------------------------------------------------


class _Same:
    """One value for all."""

    def __init__(self, value: object, n: int) -> None:
        self.value, self.n = value, n

    nbytes: int = 0

    def item(self, i: int) -> object:
        return self.value

    def list(self, rows: slice) -> Any:
        return repeat(self.value, len(range(self.n)[rows]))


class _Numbers:
    """Numbers of one type; NaN stands for None where there are any."""

    def __init__(self, values: npt.NDArray[Any], *, gaps: bool = False) -> None:
        self.values, self.gaps = values, gaps
        self.nbytes: int = values.nbytes

    def item(self, i: int) -> object:
        value = self.values.item(i)
        return None if self.gaps and value != value else value

    def list(self, rows: slice) -> Any:
        values = self.values[rows].tolist()
        return [None if v != v else v for v in values] if self.gaps else values


class _Objects:
    """Anything else, as it is."""

    def __init__(self, values: Sequence[object]) -> None:
        self.values = tuple(values)
        self.nbytes: int = 8 * len(self.values)

    def item(self, i: int) -> object:
        return self.values[i]

    def list(self, rows: slice) -> Any:
        return self.values[rows]


class _Dicts:
    """Dicts: which keys each has, in order, and a column for each key."""

    def __init__(self, values: Sequence[dict[str, object]]) -> None:
        shapes: dict[tuple[str, ...], int] = {}
        self.which: _Column = _column([shapes.setdefault(tuple(of), len(shapes)) for of in values])
        self.shapes = tuple(shapes)
        names = dict.fromkeys(name for shape in shapes for name in shape)
        self.columns: dict[str, _Column] = {name: _column([of.get(name) for of in values]) for name in names}
        self.nbytes: int = self.which.nbytes + sum(column.nbytes for column in self.columns.values())

    def item(self, i: int) -> object:
        which: Any = self.which.item(i)
        return {name: self.columns[name].item(i) for name in self.shapes[which]}

    def list(self, rows: slice) -> Any:
        if len(self.shapes) == 1:
            shape = self.shapes[0]
            if not shape:
                return [{} for _ in self.which.list(rows)]
            return [
                dict(zip(shape, each, strict=True))
                for each in zip(*(self.columns[name].list(rows) for name in shape), strict=True)
            ]
        lists = {name: list(column.list(rows)) for name, column in self.columns.items()}
        return [{name: lists[name][i] for name in self.shapes[which]} for i, which in enumerate(self.which.list(rows))]


_Column = _Same | _Numbers | _Objects | _Dicts


def _column(values: list[Any]) -> _Column:
    """The column that holds these values exactly, their types and signed zeros included."""
    if all(map(is_, values, repeat(values[0]))):
        return _Same(values[0], len(values))
    kinds = set(map(type, values))
    if kinds == {dict}:
        return _Dicts(values)
    if kinds == {float} or kinds == {bool}:
        return _Numbers(np.array(values))
    if kinds == {float, type(None)} and not any(v != v for v in values):
        return _Numbers(np.array(values, dtype=float), gaps=True)
    if kinds == {int} and max(map(abs, values)) < 2**63:
        return _Numbers(np.array(values, dtype=np.int64))
    return _Objects(values)


class Columns(Sequence[T]):
    """Records of one dataclass as columns; `nbytes`: of the columns, without what objects in them take."""

    def __init__(self, records: Sequence[T]) -> None:
        kind: Any = type(records[0])
        self._make, self._length = kind, len(records)
        self._columns = [_column(list(map(attrgetter(f.name), records))) for f in fields(kind)]
        self.nbytes = sum(column.nbytes for column in self._columns)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[T, ...]: ...
    def __getitem__(self, at: int | slice) -> T | tuple[T, ...]:
        if isinstance(at, slice):
            return tuple(map(self._make, *(column.list(at) for column in self._columns)))
        at = range(self._length)[at]
        record: T = self._make(*[column.item(at) for column in self._columns])
        return record

    def __iter__(self) -> Iterator[T]:
        return iter(self[:])

    def __reversed__(self) -> Iterator[T]:
        return reversed(self[:])


class Batch(tuple[T, ...]):
    """Records, and the same as columns, which are made once and shared by all who keep them."""

    @cached_property
    def columns(self) -> Columns[T]:
        """The columns of the records."""
        return Columns(self)

    @classmethod
    def of(cls, columns: Columns[T]) -> Batch[T]:
        """The records of columns."""
        batch = cls(columns[:])
        batch.__dict__["columns"] = columns
        return batch


def _columns(records: Sequence[T]) -> Columns[T]:
    return records.columns if isinstance(records, Batch) else Columns(records)


# ---- where what is ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Index:
    """In which rows a hash occurs: runs of (hashes, rows), each sorted by both, the later runs of later rows."""

    runs: tuple[tuple[Integers, Integers], ...] = ()

    def extended(self, hashes: Integers, rows: Integers) -> _Index:
        """With more rows, each later than all before; runs are merged so that there are few."""
        order = np.argsort(hashes, kind="stable")
        runs = [*self.runs, (hashes[order], rows[order])]
        while len(runs) > 1 and len(runs[-2][0]) <= 2 * len(runs[-1][0]):
            (a, i), (b, j) = runs[-2:]
            both, at = np.concatenate([a, b]), np.concatenate([i, j])
            order = np.argsort(both, kind="stable")
            runs[-2:] = [(both[order], at[order])]
        return _Index(tuple(runs))

    def count(self, of: int) -> int:
        """How often a hash occurs."""
        return sum(int(np.searchsorted(hashes, of, "right") - np.searchsorted(hashes, of)) for hashes, _ in self.runs)

    def rows(self, of: Integers, since: int, most: int) -> list[list[int]]:
        """For each hash its latest rows in order, `most` of those from row `since` on."""
        found: list[list[int]] = [[] for _ in of]
        for hashes, rows in reversed(self.runs):
            ends = (np.searchsorted(hashes, of, side).tolist() for side in ("left", "right"))
            for i, (low, high) in enumerate(zip(*ends, strict=True)):
                if low < high and (wanted := most - len(found[i])) > 0:
                    seen = rows[max(low, high - wanted) : high]
                    found[i] = seen[seen >= since].tolist() + found[i]
        return found


Names = tuple[Callable[[T], object], ...]  # what records are found by; None: this one is not


@dataclass(frozen=True, slots=True, eq=False)
class Log(Sequence[T]):
    """`names` says by what records are found: of each name there is an index of the records in blocks.

    `ends`: where each block ends; `recent`: the latest records as they are, those not in a block among them.
    """

    names: Names[T] = ()
    blocks: tuple[Columns[T], ...] = ()
    ends: tuple[int, ...] = ()
    recent: tuple[T, ...] = ()
    length: int = 0
    indexes: tuple[_Index, ...] = field(default=())

    def __len__(self) -> int:
        return self.length

    @property
    def sealed(self) -> int:
        """How many records are in blocks."""
        return self.ends[-1] if self.ends else 0

    def extended(self, records: Sequence[T]) -> Log[T]:
        """The log with more records."""
        if not records:
            return self
        large, whole = len(records) >= BATCH, self
        if large and self.length > self.sealed:
            whole = self._sealed(_columns(self.loose), self.loose)
        recent = (*whole.recent, *records)
        recent = recent[-KEPT:] if len(recent) >= 2 * KEPT else recent
        whole = replace(whole, recent=recent, length=whole.length + len(records))
        if large:
            return whole._sealed(_columns(records), records)
        loose = whole.loose
        return whole._sealed(_columns(loose), loose) if len(loose) >= BLOCK else whole

    @property
    def loose(self) -> tuple[T, ...]:
        """The latest records that are not in a block."""
        n = self.length - self.sealed
        return self.recent[len(self.recent) - n :]

    def _sealed(self, block: Columns[T], records: Sequence[T]) -> Log[T]:
        """With the records behind the last block in a block."""
        first, indexes = self.sealed, []
        for i, name in enumerate(self.names):
            named, index = list(map(name, records)), self.indexes[i] if self.indexes else _Index()
            rows = [row for row, of in enumerate(named) if of is not None]
            if rows:
                hashes = np.array([_hash(named[row]) for row in rows], dtype=np.int64)
                index = index.extended(hashes, first + np.array(rows, dtype=np.int64))
            indexes.append(index)
        return replace(
            self,
            blocks=(*self.blocks, block),
            ends=(*self.ends, first + len(records)),
            indexes=tuple(indexes),
        )

    def replaced(self, at: int, record: T) -> Log[T]:
        """The log with another record in this place, of the same names."""
        if at >= (first := self.length - len(self.recent)):
            recent = (*self.recent[: at - first], record, *self.recent[at - first + 1 :])
            whole = replace(self, recent=recent)
        else:
            whole = self
        if at >= self.sealed:
            return whole
        b = bisect_right(self.ends, at)
        begin, block = self.ends[b] - len(self.blocks[b]), self.blocks[b][:]
        changed = Columns((*block[: at - begin], record, *block[at - begin + 1 :]))
        return replace(whole, blocks=(*self.blocks[:b], changed, *self.blocks[b + 1 :]))

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[T, ...]: ...
    def __getitem__(self, at: int | slice) -> T | tuple[T, ...]:
        if isinstance(at, slice):
            wanted = range(self.length)[at]
            if wanted.step != 1:
                return tuple(self[i] for i in wanted)
            return tuple(self._between(wanted.start, wanted.stop))
        at = range(self.length)[at]
        first = self.length - len(self.recent)
        if at >= first:
            return self.recent[at - first]
        b = bisect_right(self.ends, at)
        return self.blocks[b][at - self.ends[b] + len(self.blocks[b])]

    def _between(self, start: int, stop: int) -> Iterator[T]:
        """The records from one row to before another."""
        first = self.length - len(self.recent)
        b = bisect_right(self.ends, start)
        while start < min(stop, first):
            begin, end = self.ends[b] - len(self.blocks[b]), min(self.ends[b], stop, first)
            yield from self.blocks[b][start - begin : end - begin]
            start, b = end, b + 1
        yield from self.recent[start - first : max(stop - first, 0)] if start >= first else ()

    def __iter__(self) -> Iterator[T]:
        return self._between(0, self.length)

    def __reversed__(self) -> Iterator[T]:
        yield from reversed(self.recent)
        first = self.length - len(self.recent)
        for block, end in zip(reversed(self.blocks), reversed(self.ends), strict=True):
            yield from reversed(block[: max(len(block) - max(end - first, 0), 0)])

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]  # as of a tuple of records, which hold dicts

    def find(self, name: int, of: object, since: int = 0, most: int | None = None) -> list[tuple[int, T]]:
        """The latest rows from `since` on that bear a name, `most` of them, in order; the names are counted from 0."""
        most, named = self.length if most is None else most, self.names[name]
        begin = max(since, self.sealed)
        first = self.length - len(self.loose)
        found = [(i, r) for i, r in enumerate(self.loose, first) if i >= begin and named(r) == of]
        if len(found) < most and self.indexes and since < self.sealed:
            older = [(i, self[i]) for i in self.older(name, [of], since, most - len(found))]
            found = [(i, record) for i, record in older if named(record) == of] + found
        return found[max(len(found) - most, 0) :]

    def number_of(self, name: int, of: object) -> int:
        """How many records bear a name; for those in blocks their hash speaks, which two names share hardly ever
        (numbers do that are 2^61 times apart)."""
        loose = sum(self.names[name](record) == of for record in self.loose)
        return loose + (self.indexes[name].count(_hash(of)) if self.indexes else 0)

    def older(self, name: int, of: Sequence[object], since: int, most: int) -> list[int]:
        """Rows in blocks that bear these names, but for names of one hash, the latest `most` of each."""
        if not self.indexes or not of:
            return []
        rows = self.indexes[name].rows(np.array([_hash(each) for each in of], dtype=np.int64), since, most)
        return sorted({row for each in rows for row in each})


def _hash(name: object) -> int:
    """A hash of a name; Python's own is the same for -1 and -2."""
    if isinstance(name, tuple) and -1 in name:
        return hash((name, tuple(part == -1 for part in name)))
    return hash(name)


def _same(a: object, b: object) -> bool:
    return a is b or a == b
