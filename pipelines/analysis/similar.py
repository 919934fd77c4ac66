"""`cnn similar`: pictures of a prepared run that look alike, and whether its splits share some.

A test picture that almost equals one that is trained on is no test. Exact copies stay in one split whatever the recipe
says; those that were resized, compressed anew or taken a moment later do with `data.group_similar`.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.markup import escape

from cnn_keras.data import records
from cnn_keras.data.difference_hash import BITS, difference_hash, similar_pairs
from cnn_keras.data.files import durable, image_pixels
from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.data import validation as data_validation
from pipelines.engine import stages
from pipelines.plots import image_grid

FEATURES = {name: tf.io.FixedLenFeature((), tf.string) for name in ("id", "image")}  # of every record of a picture
SHOWN = 24  # pairs on the sheet
SIDE = 256  # pixels of the longer side of a picture on it, about


def similar(
    reference: str, *, runs: Path, console: Console, output: Path | None, distance: int, within: bool = False
) -> dict[str, Any]:
    """Find pairs of pictures that look alike; write `similar.csv` and, of the closest, the sheet `similar.png`.

    Args:
        reference: a prepared run, `classify/photos`, or its recipe.
        output: the folder for both; None takes `similar` in the run's folder.
        distance: the most bits of the difference hash in which they differ, see `cnn_keras.data.difference_hash`.
        within: take pairs in one split, too.

    Returns:
        pictures, pairs, splits (pairs by their splits, such as "train, test"), and the paths csv and sheet, which is
        None where there is no pair.

    Raises:
        Fault: no such run, or of no pictures.
    """
    if not 0 <= distance <= BITS // 2:
        raise Fault(f"--distance must be 0 to {BITS // 2} bits, got {distance}")
    folder, sizes = _prepared(reference, runs)
    names, splits, hashes = [], [], []
    with data_validation.progress(console) as bar:
        pictures = _pictures(folder, sizes)
        for name, split, data in bar.track(pictures, total=sum(sizes.values()), description="hashing images"):
            names.append(name)
            splits.append(split)
            hashes.append(difference_hash(image_pixels.decode(data, channels=1)))
    number = np.unique(splits, return_inverse=True)[1]
    parts = []
    for first, second, bits in similar_pairs(np.array(hashes, np.uint64), distance):
        kept = within | (number[first] != number[second])
        parts.append(np.stack([bits, first, second], axis=1).astype(np.int64)[kept])
    found = np.concatenate(parts)
    pairs = found[np.argsort(found[:, 0], kind="stable")].tolist()
    output = output or folder.parent / "similar"
    durable.mkdir(output)
    rows = [(bits, names[first], splits[first], names[second], splits[second]) for bits, first, second in pairs]
    durable.write_text(output / "similar.csv", _csv(rows))
    (output / "similar.png").unlink(missing_ok=True)
    if pairs:
        _draw(folder, sizes, pairs[:SHOWN], output / "similar.png")
    return {
        "pictures": len(names),
        "distance": distance,
        "pairs": len(rows),
        "splits": dict(Counter(f"{one}, {other}" for _, _, one, _, other in rows)),
        "csv": str(output / "similar.csv"),
        "sheet": str(output / "similar.png") if pairs else None,
    }


def show(found: dict[str, Any], console: Console) -> None:
    """The counts, and what to do."""
    limit = f"with at most {found['distance']} of {BITS} bits that differ"
    for splits, count in found["splits"].items():
        one, other = splits.split(", ")
        where = f"in {one}" if one == other else f"in {one} and {other}"
        console.print(f"{count:,} pair{'s' * (count != 1)} {where} {limit}")
    if not found["pairs"]:
        console.print(f"no pair of {found['pictures']:,} pictures {limit}")
        return
    console.print(f"[dim]wrote {escape(found['csv'])} and {escape(found['sheet'])}[/]", highlight=False)
    if any(len({*splits.split(", ")}) > 1 for splits in found["splits"]):
        console.print(f"--set data.group_similar={found['distance']} keeps those alike in one split")


def _prepared(reference: str, runs: Path) -> tuple[Path, dict[str, int]]:
    """The folder of prepared pictures of a run, and how many each split has."""
    run = stages.run_folder(reference, runs)
    if not (run / "prepare" / run_files.MANIFEST).is_file():
        raise Fault(f"RUN must be a prepared run, found nothing in {run / 'prepare'}; `cnn prepare` prepares one")
    facts = stages.finished_manifest(run, "prepare")["facts"]
    if not any((run / "prepare").glob("*.tfrecord")):
        raise Fault(f"RUN must be a run of pictures, got one of the task {run.parent.name}")
    return run / "prepare", facts["splits"]


def _pictures(folder: Path, splits: Iterable[str]) -> Iterator[tuple[str, str, bytes]]:
    """Id, split and file of every picture."""
    for split in splits:
        for row in records.read(folder, split, features=FEATURES).as_numpy_iterator():
            yield row["id"].decode(), split, row["image"]


def _draw(folder: Path, splits: Iterable[str], pairs: list[list[int]], path: Path) -> None:
    """A sheet of the pairs, two of them side by side."""
    wanted = {row for _, *ends in pairs for row in ends}
    tiles = {}
    for row, (name, split, data) in enumerate(_pictures(folder, splits)):
        if row in wanted:
            pixels = image_pixels.decode(data, channels=3)
            step = max(1, max(pixels.shape[:2]) // SIDE)
            tiles[row] = pixels[::step, ::step], f"{split}: {Path(name).name}"
    images, titles = zip(*(tiles[row] for _, *ends in pairs for row in ends), strict=True)
    heading = "The pair that is alike" if len(pairs) == 1 else f"The {len(pairs)} pairs that are most alike"
    image_grid.contact_sheet(list(images), list(titles), path, columns=4, size=1.8, heading=heading)


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["bits", "first", "split", "second", "split of second"])
    writer.writerows(rows)
    return out.getvalue()
