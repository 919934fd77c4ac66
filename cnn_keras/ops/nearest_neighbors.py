"""The nearest of many embeddings: exactly, by one matrix product, and beyond that by an approximate index.

The index is usearch's: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
hierarchical navigable small world graphs", 2018, over numbers of 8 bits. Its candidates are measured again with the 32
bits that were given, so that a distance is the same whichever way it was found. It lives in memory only: there is no
file of it that somebody would have to be removed from.

Of the ten nearest of 100,000 it finds all among embeddings of faces and 40 % among Gaussian vectors of 128 dimensions,
which nothing is near; `tests/benchmarks/bench_gallery.py` prints it.

Embeddings are float32 of length 1; distances are squared, ‖f − f′‖² = 2 − 2·f·f′, between 0 and 4.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

EXACT = 100_000  # embeddings up to which all are compared
PAYS = 200  # searches of more, after which an index is made: it takes as long as many searches
CHUNK = 10_000  # embeddings that are taken into an index at once
WIDER = 8  # candidates of the index for each neighbour that is asked for
LEAST = 64  # candidates at least
PRODUCT = 2**24  # distances that are in memory at once
GRAVE = 2**62  # the index only marks what is removed; zeros under this number and more take its place and overwrite it


class Neighbours:
    """Embeddings by their numbers, for any number of threads.

    Args:
        dimension: of the embeddings.
        exact: how many are compared one by one, however often.
        pays: searches of more, after which an index is made. That is a thread's work; until it is done all are
            compared.
    """

    def __init__(self, dimension: int, *, exact: int = EXACT, pays: int = PAYS) -> None:
        self.dimension, self.exact, self.pays = dimension, exact, pays
        self._vectors, self._ids = np.zeros((0, dimension), np.float32), np.zeros(0, np.int64)
        self._rows: dict[int, int] = {}  # by number
        self._lock = threading.RLock()
        self._index: Any = None
        self._maker: threading.Thread | None = None
        self._late: list[int] = []  # numbers that came while an index was made
        self._gone: list[int] = []  # and those that went
        self._searches = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, number: int) -> bool:
        return number in self._rows

    @property
    def approximate(self) -> bool:
        """Whether an index answers."""
        return self._index is not None

    def add(self, ids: Sequence[int] | np.ndarray, vectors: np.ndarray) -> None:
        """Take in embeddings, float32 (N, dimension), under numbers that are not there yet, int64 (N,)."""
        with self._lock:
            start, end = len(self), len(self) + len(ids)
            if end > len(self._ids):
                room = max(end, 2 * len(self._ids))
                self._vectors = np.concatenate([self._vectors, np.zeros((room - start, self.dimension), np.float32)])
                self._ids = np.concatenate([self._ids, np.zeros(room - start, np.int64)])
            self._vectors[start:end], self._ids[start:end] = vectors, ids
            self._rows |= zip(np.asarray(ids).tolist(), range(start, end), strict=True)
            if self._index is not None:
                self._index.add(ids, vectors)
            elif self._maker is not None:
                self._late += np.asarray(ids).tolist()

    def remove(self, ids: Sequence[int] | np.ndarray) -> None:
        """Forget embeddings by their numbers, those that are not there too; what they were is overwritten."""
        with self._lock:
            for number in ids:
                row = self._rows.pop(number, None)
                if row is None:
                    continue
                last = len(self._rows)  # it moves into the gap
                if row != last:
                    self._vectors[row], self._ids[row] = self._vectors[last], self._ids[last]
                    self._rows[int(self._ids[row])] = row
                self._vectors[last] = 0
                if self._index is not None:
                    _bury(self._index, number, self.dimension)
                elif self._maker is not None:
                    self._gone.append(number)
            if self._index is not None and len(self) <= self.exact // 2:
                self._index, self._searches = None, 0

    def settle(self) -> None:
        """Wait for an index that is being made."""
        if (maker := self._maker) is not None:
            maker.join()

    def close(self) -> None:
        """Give up an index that is being made."""
        self._closed = True
        self.settle()

    def vector(self, number: int) -> np.ndarray:
        """The embedding under a number, float32 (dimension,)."""
        return self._vectors[self._rows[number]].copy()

    def nearest(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the `count` nearest embeddings of each query, nearest first, and their distances.

        Args:
            queries: float32 (Q, dimension).

        Returns:
            (int64 (Q, min(count, N)), float32 of that shape).
        """
        with self._lock:
            self._searches += 1
            if len(self) > self.exact and self._searches > self.pays and self._index is self._maker is None:
                self._maker = threading.Thread(target=self._make, args=(list(self._rows),), name="index", daemon=True)
                self._maker.start()
            count = min(count, len(self))
            if not count:
                return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
            search = self._all if self._index is None else self._likely
            parts = max(1, len(queries) * len(self) // PRODUCT)
            results = [search(part, count) for part in np.array_split(queries, parts)]
            rows, distances = (np.concatenate(column) for column in zip(*results, strict=True))
            return self._ids[rows], distances

    def _make(self, ids: list[int]) -> None:
        """Make an index of these numbers, and put it in place with what has come and gone meanwhile."""
        from usearch.index import Index  # a native library, for more than EXACT embeddings

        settings = {"connectivity": 16, "expansion_add": 64, "expansion_search": 192}
        index = Index(ndim=self.dimension, metric="ip", dtype="i8", **settings)
        for start in range(0, len(ids), CHUNK):
            if self._closed:
                break
            self._take_in(index, ids[start : start + CHUNK])
        with self._lock:
            self._take_in(index, self._late)
            for number in self._gone:
                if number in index:
                    _bury(index, number, self.dimension)
            self._index, self._maker = None if self._closed else index, None
            self._late, self._gone = [], []

    def _take_in(self, index: Any, ids: list[int]) -> None:
        with self._lock:
            known = [number for number in ids if number in self._rows]
            vectors = self._vectors[[self._rows[number] for number in known]]
        if known:
            index.add(np.array(known), vectors)

    def _all(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        distances = np.maximum(2 - 2 * queries @ self._vectors[: len(self)].T, 0)
        near = np.argpartition(distances, count - 1, axis=1)[:, :count] if count < len(self) else None
        return _ordered(distances, np.broadcast_to(np.arange(len(self)), distances.shape) if near is None else near)

    def _likely(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        candidates = self._index.search(queries, min(len(self), max(LEAST, WIDER * count)))
        keys = np.asarray(candidates.keys).reshape(len(queries), -1)
        rows = np.array([[self._rows.get(key, -1) for key in near] for near in keys.tolist()])
        products = np.einsum("qd,qcd->qc", queries, self._vectors[rows])
        distances = np.where(rows < 0, np.float32(np.inf), np.maximum(2 - 2 * products, 0))
        order = np.argsort(distances, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _ordered(distances: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (Q, count) with the smallest distance first, and the distances."""
    nearest = np.take_along_axis(distances, rows, axis=1)
    order = np.argsort(nearest, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(nearest, order, axis=1)


def _bury(index: Any, number: int, dimension: int) -> None:
    """Remove a number from an index, and overwrite what it stood for."""
    index.remove(number)
    index.add(np.array([GRAVE + number]), np.zeros((1, dimension), np.float32))
