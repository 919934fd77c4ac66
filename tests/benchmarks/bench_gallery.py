"""How fast does a gallery find somebody among a million? Run it on a quiet machine:

    python tests/benchmarks/bench_gallery.py [--faces 10000 100000 1000000] [--queries 200] [--store 100000]
                                             [--recall 100000]

The faces are made up: directions in 128 dimensions, near each other in groups of people who look alike, and photographs
around them. Each query is another photograph of somebody enrolled. Exact search compares all; the index is usearch's,
measured again (`cnn_keras/ops/nearest_neighbors.py`). Recall is the share of queries of which both name the same face
first; `--recall` prints the share of the ten nearest that the index finds, among such faces and among Gaussian vectors,
which have no near neighbours. `--store` faces are then enrolled into a SQLite file, searched for, and one of them is
forgotten.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.ops.nearest_neighbors import Neighbours
from pipelines.faces import store as gallery_store
from pipelines.faces.gallery import Photo, Settings

DIMENSION = 128
LIKENESS, NOISE = 0.8, 0.5  # how far people of a group, and photographs of a person, lie from their middle
GROUP = 50  # people who look alike


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def people(count, rng):
    """Embeddings, float32 (count, DIMENSION)."""
    groups = unit(rng.standard_normal((-(-count // GROUP), DIMENSION), np.float32))
    rows = np.repeat(groups, GROUP, axis=0)[:count]
    return unit(rows + LIKENESS * unit(rng.standard_normal(rows.shape, np.float32)))


def photographs(rows, rng):
    return unit(rows + NOISE * unit(rng.standard_normal(rows.shape, np.float32)))


def timed(search, queries):
    """The first answers of one query after the other, and the milliseconds of each, in order."""
    answers, spent = [], []
    for query in queries:
        started = time.perf_counter()
        numbers, _ = search(query[None], 1)
        spent.append(1e3 * (time.perf_counter() - started))
        answers.append(numbers[0, 0])
    return np.array(answers), np.sort(spent)


def row(name, count, seconds, spent, right, recall=""):
    half, most = spent[len(spent) // 2], spent[-len(spent) // 100 - 1]
    memory = psutil.Process().memory_info().rss / 2**20
    print(
        f"{count:>10,}  {name:<6} {seconds:8.1f} {half:9.3f} {most:9.3f}   {right:8.2%} {recall:>8} {memory:8.0f} MB",
        flush=True,
    )


def search(count, queries):
    rng = np.random.default_rng(0)
    rows = people(count, rng)
    asked = rng.choice(count, queries, replace=False)
    photos = photographs(rows[asked], rng)
    found = {}
    for name, limit in (("exact", count), ("index", count - 1)):
        started = time.perf_counter()
        near = Neighbours(DIMENSION, exact=limit, pays=0)
        near.add(np.arange(count), rows)
        near.nearest(photos[:1], 1)
        near.settle()  # of the index, where there is to be one
        seconds = time.perf_counter() - started
        found[name], spent = timed(near.nearest, photos)
        recall = f"{(found[name] == found['exact']).mean():.2%}" if name == "index" else ""
        row(name, count, seconds, spent, (found[name] == asked).mean(), recall)
        del near


def recall(count, queries):
    """Of the ten nearest: of faces to other photographs of them, and of Gaussian vectors to others."""
    rng = np.random.default_rng(0)
    faces, strangers = people(count, rng), unit(rng.standard_normal((count + queries, DIMENSION), np.float32))
    photos = photographs(faces[rng.choice(count, queries, replace=False)], rng)
    for name, rows, asked in (("faces", faces, photos), ("Gaussian", strangers[:count], strangers[count:])):
        found = []
        for limit in (count, count - 1):
            near = Neighbours(DIMENSION, exact=limit, pays=0)
            near.add(np.arange(count), rows)
            near.nearest(asked[:1], 1)
            near.settle()
            found.append(near.nearest(asked, 10)[0])
        share = np.mean([len(set(right) & set(likely)) / 10 for right, likely in zip(*found, strict=True)])
        print(f"{count:>10,}  {name}: {share:.2%} of the ten nearest", flush=True)


def store(count):
    rng = np.random.default_rng(0)
    rows, settings = people(count, rng), Settings("sha256:bench", DIMENSION, "bench")
    with tempfile.TemporaryDirectory() as folder:
        opened = gallery_store.open_gallery(f"{folder}/faces.db")
        started = time.perf_counter()
        for start in range(0, count, 1000):
            part = range(start, min(start + 1000, count))
            opened.enrol(settings, [Photo(f"p{number}", rows[number], str(number)) for number in part])
        enrolled = time.perf_counter()
        opened.nearest(settings.model, rows[:1], 1)
        read = time.perf_counter()
        opened.enrol(settings, [Photo("new", photographs(rows[:1], rng)[0], "new")])
        one = time.perf_counter()
        opened.nearest(settings.model, rows[:1], 1)
        asked = time.perf_counter()
        opened.forget("p7")
        forgotten = time.perf_counter()
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 2**20
        print(
            f"SQLite, {count:,} faces, {size:.0f} MB: enrolled in {enrolled - started:.1f} s; read in "
            f"{read - enrolled:.1f} s; one more {1e3 * (one - read):.1f} ms, the search after it "
            f"{1e3 * (asked - one):.1f} ms; one forgotten {1e3 * (forgotten - asked):.0f} ms"
        )
        opened.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--store", type=int, default=100_000)
    parser.add_argument("--recall", type=int, default=100_000)
    options = parser.parse_args()
    print("     faces  search  ready s    p50 ms    p99 ms      right   recall   memory")
    for count in options.faces:
        search(count, options.queries)
    if options.recall:
        recall(options.recall, options.queries)
    if options.store:
        store(options.store)


if __name__ == "__main__":
    main()
