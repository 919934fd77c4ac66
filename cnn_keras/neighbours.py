"""The nearest of many embeddings: exactly, by one matrix product, and beyond that by an approximate index.

The index is usearch's: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
hierarchical navigable small world graphs", 2018, over numbers of 8 bits. Its candidates are measured again with the 32
bits that were given, so that a distance is the same whichever way it was found. It lives in memory only: there is no
file of it that somebody would have to be removed from.

Embeddings are float32 of length 1; distances are squared, ‖f − f′‖² = 2 − 2·f·f′, between 0 and 4.
"""

import numpy as np

EXACT = 100_000  # embeddings up to which all are compared
WIDER = 8  # candidates of the index for each neighbour that is asked for
LEAST = 64  # candidates at least
PRODUCT = 2**24  # distances that are in memory at once
GRAVE = 2**62  # the index only marks what is removed; zeros under this number and more take its place and overwrite it


class Neighbours:
    """Embeddings by their numbers.

    Args:
        dimension: of the embeddings.
        exact: how many are compared one by one before an index is made.
    """

    def __init__(self, dimension, *, exact=EXACT):
        self.dimension, self.exact = dimension, exact
        self._vectors, self._ids = np.zeros((0, dimension), np.float32), np.zeros(0, np.int64)
        self._rows = {}  # by number
        self._index = None

    def __len__(self):
        return len(self._rows)

    def __contains__(self, number):
        return number in self._rows

    @property
    def approximate(self):
        return self._index is not None

    def add(self, ids, vectors):
        """Take in embeddings, float32 (N, dimension), under numbers that are not there yet, int64 (N,)."""
        start, end = len(self), len(self) + len(ids)
        if end > len(self._ids):
            room = max(end, 2 * len(self._ids))
            self._vectors = np.concatenate([self._vectors, np.zeros((room - start, self.dimension), np.float32)])
            self._ids = np.concatenate([self._ids, np.zeros(room - start, np.int64)])
        self._vectors[start:end], self._ids[start:end] = vectors, ids
        self._rows |= zip(np.asarray(ids).tolist(), range(start, end), strict=True)
        if self._index is not None:
            self._index.add(ids, vectors)
        elif end > self.exact:
            self._index = _indexed(self._ids[:end], self._vectors[:end])

    def remove(self, ids):
        """Forget embeddings by their numbers, those that are not there too; what they were is overwritten."""
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
                self._index.remove(number)
                self._index.add(np.array([GRAVE + number]), np.zeros((1, self.dimension), np.float32))
        if self._index is not None and len(self) <= self.exact // 2:
            self._index = None

    def vector(self, number):
        """The embedding under a number, float32 (dimension,)."""
        return self._vectors[self._rows[number]].copy()

    def nearest(self, queries, count):
        """The numbers of the `count` nearest embeddings of each query, nearest first, and their distances.

        Args:
            queries: float32 (Q, dimension).

        Returns:
            (int64 (Q, min(count, N)), float32 of that shape).
        """
        count = min(count, len(self))
        if not count:
            return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
        search = self._all if self._index is None else self._likely
        parts = [search(part, count) for part in np.array_split(queries, max(1, len(queries) * len(self) // PRODUCT))]
        rows, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
        return self._ids[rows], distances

    def _all(self, queries, count):
        distances = np.maximum(2 - 2 * queries @ self._vectors[: len(self)].T, 0)
        near = np.argpartition(distances, count - 1, axis=1)[:, :count] if count < len(self) else None
        return _ordered(distances, np.broadcast_to(np.arange(len(self)), distances.shape) if near is None else near)

    def _likely(self, queries, count):
        found = self._index.search(queries, min(len(self), max(LEAST, WIDER * count)))
        keys = np.asarray(found.keys).reshape(len(queries), -1)
        rows = np.array([[self._rows.get(key, -1) for key in near] for near in keys.tolist()])
        products = np.einsum("qd,qcd->qc", queries, self._vectors[rows])
        distances = np.where(rows < 0, np.float32(np.inf), np.maximum(2 - 2 * products, 0))
        order = np.argsort(distances, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _ordered(distances, rows):
    """Rows (Q, count) with the smallest distance first, and the distances."""
    chosen = np.take_along_axis(distances, rows, axis=1)
    order = np.argsort(chosen, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(chosen, order, axis=1)


def _indexed(ids, vectors):
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1], metric="ip", dtype="i8", connectivity=16, expansion_add=64, expansion_search=128
    )
    index.add(ids, vectors)
    return index
