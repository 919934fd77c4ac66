"""The nearest embeddings: exactly, by the index, and after somebody was forgotten."""

import threading
import time

import numpy as np
import pytest

from cnn_keras.ops.nearest_neighbors import Neighbours


def directions(count, dimension=32, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def near(rows, noise=0.1, seed=1):
    moved = rows + noise * directions(len(rows), rows.shape[1], seed)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def indexed(found):
    """The same, with the index that it makes after a search where it is large enough."""
    found.nearest(np.zeros((1, found.dimension), np.float32), 1)
    found.settle()
    return found


def brute(rows, queries, count):
    distances = np.square(queries[:, None] - rows[None]).sum(axis=-1)
    order = np.argsort(distances, axis=1)[:, :count]
    return order, np.take_along_axis(distances, order, axis=1)


@pytest.mark.parametrize("exact", [10_000, 100])
def test_the_nearest_are_those_of_all_distances_with_an_index_and_without(exact):
    rows = directions(600)
    found = Neighbours(32, exact=exact, pays=0)
    found.add(np.arange(400) + 7, rows[:400])
    indexed(found)
    found.add(np.arange(400, 600) + 7, rows[400:])
    assert found.approximate == (exact == 100)
    queries = near(rows[::40])
    numbers, distances = found.nearest(queries, 5)
    order, expected = brute(rows, queries, 5)
    assert (numbers - 7 == order).mean() > (0.97 if found.approximate else 0.999)
    np.testing.assert_allclose(distances[:, 0], expected[:, 0], atol=1e-5)


def test_queries_are_answered_in_parts_where_all_distances_would_fill_the_memory(monkeypatch):
    monkeypatch.setattr("cnn_keras.ops.nearest_neighbors.PRODUCT", 1000)
    rows = directions(100)
    found = Neighbours(32)
    found.add(np.arange(100), rows)
    np.testing.assert_array_equal(found.nearest(rows, 1)[0][:, 0], np.arange(100))


@pytest.mark.parametrize("exact", [10_000, 20])
def test_who_is_removed_is_found_no_more_and_the_others_are(exact):
    rows = directions(120)
    found = Neighbours(32, exact=exact, pays=0)
    found.add(np.arange(120), rows)
    indexed(found)
    gone = np.random.default_rng(3).permutation(120)[:40].tolist()
    found.remove([*gone, 5000])
    left = sorted(set(range(120)) - set(gone))
    assert len(found) == 80
    np.testing.assert_array_equal(found.nearest(rows[left], 1)[0][:, 0], left)
    assert not set(found.nearest(rows[gone], 10)[0].ravel().tolist()) & set(gone)
    np.testing.assert_array_equal(found.vector(left[5]), rows[left[5]])
    found.add(np.array([200]), near(rows[gone[:1]]))
    assert found.nearest(rows[gone[:1]], 1)[0].tolist() == [[200]]


def test_nothing_of_who_is_removed_stays_in_memory():
    rows = directions(60, 64)
    found = Neighbours(64, exact=20, pays=0)
    found.add(np.arange(60), rows)
    indexed(found)
    pieces = [rows[10].tobytes()[:16], np.asarray(found._index.get(10, "i8")).tobytes()[:16]]

    def held():
        return found._vectors.tobytes() + bytes(found._index.save())

    assert all(piece in held() for piece in pieces)
    found.remove([10])
    assert found.approximate
    assert not any(piece in held() for piece in pieces)


def test_the_index_is_let_go_of_when_few_are_left():
    rows = directions(60)
    found = Neighbours(32, exact=40, pays=0)
    found.add(np.arange(60), rows)
    assert indexed(found).approximate
    found.remove(range(45))
    assert not found.approximate
    np.testing.assert_array_equal(found.nearest(rows[50:51], 1)[0], [[50]])


def test_who_comes_and_goes_while_the_index_is_made_is_in_it_and_is_not(monkeypatch):
    monkeypatch.setattr("cnn_keras.ops.nearest_neighbors.CHUNK", 10)
    rows = directions(300)
    found, take_in, started = Neighbours(32, exact=50, pays=1), Neighbours._take_in, threading.Event()

    def slowly(self, index, ids):
        started.set()
        time.sleep(0.01)
        take_in(self, index, ids)

    monkeypatch.setattr(Neighbours, "_take_in", slowly)
    found.add(np.arange(200), rows[:200])
    found.nearest(rows[:1], 1)
    assert found._maker is None  # one search does not pay for it
    found.nearest(rows[:1], 1)
    assert started.wait(10)
    found.add(np.arange(200, 300), rows[200:])
    found.remove(range(0, 300, 7))
    assert not found.approximate
    assert found.nearest(rows[8:9], 1)[0].tolist() == [[8]]
    found.settle()
    assert found.approximate
    left = np.array([row for row in range(300) if row % 7])
    assert (found.nearest(rows[left], 1)[0][:, 0] == left).mean() > 0.95  # an approximate index misses some
    assert not set(found.nearest(rows[::7], 5)[0].ravel().tolist()) & set(range(0, 300, 7))


def test_an_index_that_is_being_made_is_given_up_when_asked():
    found = Neighbours(32, exact=50, pays=0)
    found.add(np.arange(200), directions(200))
    found.nearest(directions(1), 1)
    found.close()
    assert found._maker is None


def test_where_nobody_is_nobody_is_near():
    numbers, distances = Neighbours(8).nearest(directions(3, 8), 4)
    assert numbers.shape == distances.shape == (3, 0)
