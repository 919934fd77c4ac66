"""Identity-balanced batches: several pictures of each of several people, so that a batch is full of triplets.

Which people and which of their pictures a batch holds, and every augmentation, are functions of (seed, epoch, batch),
never of state: a training that is resumed at epoch k sees exactly the batches it would have seen.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras.data import host_share, records
from cnn_keras.data.files import input_file
from cnn_keras.data.input_pipeline import ImageDecoder, Shape, decoded_examples
from cnn_keras.data.transforms.augment import Augmentation, Composed, augmented_batches
from cnn_keras.errors import Fault


class Layout(NamedTuple):
    """What a batch holds: `each` pictures of `people` people, row after row of one person."""

    people: int
    each: int


class Pair(NamedTuple):
    """Two pictures by their ids, whether they show the same person, and the fold of a list of pairs."""

    left: str
    right: str
    same: bool
    fold: int


def training(
    folder: Path,
    split: str,
    shape: Shape,
    *,
    layout: Layout,
    steps: int,
    epochs: range,
    seed: int,
    augment: Augmentation | None = None,
    rotations: bool = False,
    memory: int = 2**31,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches of `epochs`, `steps` each, one after the other.

    People are drawn without repetition within a batch, and so are a person's pictures; one with fewer than `each` is
    shown several times, differently augmented. People with a single picture are left out where enough others are
    there, because no pair can be made of them.

    Args:
        layout: P × K; fewer people than P are all in every batch.
        epochs: their numbers, for example range(3, 20) when three are already done.
        augment: a function of (example, seed) from `cnn_keras.data.transforms.augment`.
        rotations: a picture turned by a multiple of 90° shows another person: each person is four, whose labels are
            four times the own and the number of quarter turns (Santoro et al., "Meta-learning with memory-augmented
            neural networks", 2016). Pictures must be square.
        memory: bytes that the decoded split may take; of a larger one the encoded pictures are in memory.
        share: as in `host_share`; the pictures and labels of other hosts are zeros.

    Yields:
        (images uint8 (people · each, height, width, channels), labels int64 (people · each,)).

    Raises:
        Fault: a split of fewer than two people with two pictures or more.
    """
    if isinstance(augment, Composed) and augment.source:
        shape = shape._replace(size=augment.source)
    images, labels = _held(folder, split, shape, memory)
    rows, counts = _rows_of_people(labels)
    if rotations:  # row + k · pictures is a picture turned by k quarters
        rows = tf.concat([rows + turns * tf.size(labels) for turns in range(4)], axis=0)
        counts = tf.tile(counts, [4])
    layout = Layout(min(layout.people, len(counts)), layout.each)

    def gathered(rows_: tf.Tensor, seeds: tf.Tensor) -> tuple[dict[str, Any], tf.Tensor]:
        turns, rows_ = tf.cast(rows_ // tf.size(labels), tf.int64), rows_ % tf.size(labels)
        label = tf.gather(labels, rows_)
        return {"image": tf.gather(images, rows_), "label": 4 * label + turns if rotations else label}, seeds

    def batch(number: tf.Tensor) -> tf.data.Dataset:
        key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 1], tf.int32), number // steps)
        key = tf.random.experimental.stateless_fold_in(key, number % steps)
        batch_rows = sample_rows(rows, counts, layout, key)
        seeds = tf.random.experimental.stateless_split(tf.reverse(key, [0]), tf.size(batch_rows))
        return tf.data.Dataset.from_tensor_slices((batch_rows, seeds))

    numbers = tf.data.Dataset.range(epochs.start * steps, epochs.stop * steps, output_type=tf.int32)
    size, decoder = (
        layout.people * layout.each,
        ImageDecoder(shape, reduced=True) if images.dtype == tf.string else None,
    )
    batches = host_share.batches(
        numbers.flat_map(batch),
        lambda drawn, size: augmented_batches(drawn, gathered, augment, size, decoder),
        share=share,
        count=len(epochs) * steps * size,
        batch_size=size,
    )
    options = tf.data.Options()
    options.deterministic = True
    packed = batches.map(lambda batch: (batch["image"], batch["label"]))
    if rotations:
        packed = packed.map(lambda pictures, labels: (rotated(pictures, labels % 4), labels))
    return packed.prefetch(tf.data.AUTOTUNE).with_options(options)


def rotated(images: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    """Each picture of (batch, side, side, channels) turned counterclockwise by its quarter turns, 0 to 3, (batch,)."""
    every = tf.stack([tf.image.rot90(images, quarter) for quarter in range(4)], axis=1)
    return tf.gather(every, turns, axis=1, batch_dims=1)


def sample_rows(rows: tf.Tensor, counts: tf.Tensor, layout: Layout, key: tf.Tensor) -> tf.Tensor:
    """The rows of one batch, person after person: int32 (people · each,).

    Args:
        rows: int32 (all people, most pictures), each person's rows and, behind them, anything.
        counts: int32 (all people,), how many pictures each one has.
        key: a stateless seed, int32 (2,).
    """
    people = tf.random.experimental.stateless_shuffle(tf.range(tf.size(counts)), key)[: layout.people]
    mine, have = tf.gather(rows, people), tf.gather(counts, people)[:, None]
    draws = tf.random.stateless_uniform(tf.shape(mine), tf.reverse(key, [0]))
    order = tf.argsort(tf.where(tf.range(tf.shape(mine)[1]) < have, draws, 2.0), axis=1)
    places = tf.gather(order, tf.range(layout.each)[None, :] % have, batch_dims=1)
    return tf.reshape(tf.gather(mine, places, batch_dims=1), [-1])


def ordered_batches(folder: Path, split: str, shape: Shape, *, count: int, batch_size: int) -> tf.data.Dataset:
    """The split's `count` pictures person after person, in batches of (images uint8, labels int64).

    `batch_size` is best so large that a batch holds several whole people.
    """
    examples = decoded_examples(folder, split, shape)
    labels = np.fromiter((int(example["label"]) for example in records.read(folder, split)), np.int64)
    order = np.argsort(labels, kind="stable")
    if (np.diff(order) == 1).all():
        batches = examples.batch(batch_size)
    else:
        held, labels = _held(folder, split, shape, memory=0)
        decoder = ImageDecoder(shape)
        batches = tf.data.Dataset.from_tensor_slices((tf.gather(held, order), tf.gather(labels, order)))
        batches = batches.map(lambda data, label: {"image": decoder(data), "label": label}).batch(batch_size)
    known = batches.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))  # else Keras warns
    return known.map(lambda batch: (batch["image"], batch["label"])).prefetch(tf.data.AUTOTUNE)


def lfw_pairs(path: Path) -> list[Pair]:
    """The pairs of a `pairs.txt` as Labeled Faces in the Wild has it; ids are `Name/Name_0001`, without suffix.

    The first line holds the number of folds and of pairs of either kind in each, or, as in `pairsDevTest.txt`, that
    number alone. Of a same pair a line holds the name and two numbers, of another two names each with its number. A
    `pairs.csv` with a line of column names, `name,imagenum1,imagenum2`, is one fold of such lines.

    Raises:
        Fault: a line that is neither, or another number of lines than the first one says (code DATA).
    """
    if not input_file.is_regular(path):
        raise Fault(f"data.pairs.path must be a file such as LFW's pairs.txt, got {path}")
    text = input_file.read_text(path)
    lines = [(number, _words(line)) for number, line in enumerate(text.splitlines(), 1) if line.strip(" ,\t")]
    (_, head), *body = lines or [(0, [])]
    if head[:1] == ["name"]:
        return [_pair(words, path, number, 0) for number, words in body]
    if len(head) not in (1, 2) or not all(map(_is_count, head)):
        raise Fault(f"{path} must begin with the numbers of folds and pairs, got {' '.join(head)!r}", code=Fault.DATA)
    folds, each = (int(head[0]), int(head[1])) if len(head) == 2 else (1, int(head[0]))
    if len(body) != 2 * folds * each:
        expected = f"{folds} × {each} pairs of either kind, {2 * folds * each} lines"
        raise Fault(f"{path} must hold {expected}, as its first line says, got {len(body)}", code=Fault.DATA)
    return [_pair(words, path, number, row // (2 * each)) for row, (number, words) in enumerate(body)]


def _words(line: str) -> list[str]:
    """What stands between tabs or commas, or else between spaces."""
    mark = next((mark for mark in "\t," if mark in line), None)
    return [word.strip() for word in line.strip(" ,\t").split(mark)]


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 10


def _pair(words: Sequence[str], path: Path, line: int, fold: int) -> Pair:
    match words:
        case [name, first, second] if _is_count(first) and _is_count(second):
            return Pair(_lfw_id(name, first), _lfw_id(name, second), True, fold)
        case [name, first, other, second] if _is_count(first) and _is_count(second):
            return Pair(_lfw_id(name, first), _lfw_id(other, second), False, fold)
    expected = "must be `NAME 1 2` or `NAME 1 OTHER 2`"
    raise Fault(f"{path}, line {line}: a pair {expected}, got {' '.join(words)[:200]!r}", code=Fault.DATA)


def _lfw_id(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"


def _held(folder: Path, split: str, shape: Shape, memory: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The split in memory: images decoded, uint8, or encoded, strings; and labels int64."""
    examples = list(records.read(folder, split))
    labels = tf.stack([example["label"] for example in examples])
    if len(examples) * math.prod((*shape.size, shape.channels)) > memory:
        return tf.stack([example["image"] for example in examples]), labels
    decoder = ImageDecoder(shape)
    return tf.stack([decoder(example["image"]) for example in examples]), labels


def _rows_of_people(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Each person's rows, padded with zeros, and how many there are: of people with two pictures or more."""
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(labels.numpy().tolist()):
        rows_of[label].append(row)
    several = [rows for _, rows in sorted(rows_of.items()) if len(rows) > 1]
    if len(several) < 2:
        raise Fault(
            f"data must hold at least two people with two pictures or more to train on, got {len(several)}",
            code=Fault.DATA,
        )
    most = max(map(len, several))
    rows = [[*own, *([0] * (most - len(own)))] for own in several]
    return tf.constant(rows, tf.int32), tf.constant([len(own) for own in several], tf.int32)
