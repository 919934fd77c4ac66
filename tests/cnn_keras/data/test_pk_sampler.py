"""Identity-balanced batches, people kept apart, and the files that name them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras.data import pk_sampler, records
from cnn_keras.data.files.image_file import encode_png, normalize
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.data.pk_sampler import Layout
from cnn_keras.data.sources import classification
from cnn_keras.data.sources.classification import Item
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from pipelines.tasks.verify import dataset
from pipelines.tasks.verify.config import Data

SHAPE = Shape((4, 4), 1)
COUNTS = (3, 1, 5, 2)  # pictures of the people 0 to 3


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Pictures whose grey is 40 × person + number, shuffled as prepare shuffles them."""
    folder = tmp_path_factory.mktemp("people")
    rows = [
        (f"{person}/{number}.png", encode_png(np.full((4, 4, 1), 40 * person + number, np.uint8)), person)
        for person, count in enumerate(COUNTS)
        for number in range(count)
    ]
    order = np.random.default_rng(1).permutation(len(rows))
    records.write(folder, "train", [rows[row] for row in order])
    return folder


def drawn(prepared, epochs=range(1), steps=3, layout=(2, 3), **options):
    batches = pk_sampler.training(
        prepared, "train", SHAPE, layout=Layout(*layout), steps=steps, epochs=epochs, seed=7, **options
    )
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def test_a_batch_holds_several_pictures_of_each_of_several_people(prepared):
    for images, labels in drawn(prepared, steps=20):
        assert images.shape == (6, 4, 4, 1)
        assert sorted(Counter(labels.tolist()).values()) == [3, 3]
        assert (images[:, 0, 0, 0] // 40 == labels).all()


def test_pictures_are_repeated_only_when_a_person_has_too_few(prepared):
    for images, labels in drawn(prepared, steps=20):
        for person in set(labels.tolist()):
            shown = set(images[labels == person][:, 0, 0, 0].tolist())
            assert len(shown) == min(3, COUNTS[person])


def test_everybody_with_two_pictures_is_drawn_and_nobody_with_one(prepared):
    seen = {label for _, labels in drawn(prepared, steps=30) for label in labels.tolist()}
    assert seen == {0, 2, 3}


def test_a_resumed_training_sees_the_batches_it_would_have_seen(prepared):
    whole = drawn(prepared, epochs=range(3), augment=augment.compose([{"affine": {"rotate": 20}}, "mirror"]))
    later = drawn(prepared, epochs=range(2, 3), augment=augment.compose([{"affine": {"rotate": 20}}, "mirror"]))
    assert len(whole) == 9
    for (images, labels), (again, same) in zip(whole[6:], later, strict=True):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, same)
    assert len({labels.tobytes() + images.tobytes() for images, labels in whole}) > 6


def test_what_does_not_fit_into_memory_is_held_encoded_and_gives_the_same_batches(prepared):
    for (images, labels), (again, same) in zip(drawn(prepared), drawn(prepared, memory=1), strict=True):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, same)


def test_more_people_asked_for_than_there_are_is_everybody(prepared):
    for _, labels in drawn(prepared, layout=(50, 2)):
        assert Counter(labels.tolist()) == {0: 2, 2: 2, 3: 2}


def test_ordered_pictures_come_person_after_person(prepared):
    batches = list(pk_sampler.ordered_batches(prepared, "train", SHAPE, count=sum(COUNTS), batch_size=4))
    labels = np.concatenate([labels.numpy() for _, labels in batches])
    images = np.concatenate([images.numpy() for images, _ in batches])
    assert labels.tolist() == sorted(labels.tolist())
    assert [len(labels) for _, labels in batches] == [4, 4, 3]
    assert (images[:, 0, 0, 0] // 40 == labels).all()


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(2, 6), min_size=2, max_size=8), each=st.integers(2, 4), seed=st.integers(0, 99))
def test_rows_of_a_batch_belong_to_their_people_whatever_the_counts(counts, each, seed):
    starts = np.cumsum([0, *counts[:-1]])
    rows = np.full((len(counts), max(counts)), -1)
    for person, (start, count) in enumerate(zip(starts, counts, strict=True)):
        rows[person, :count] = np.arange(start, start + count)
    layout = Layout(min(3, len(counts)), each)
    found = pk_sampler.sample_rows(
        tf.constant(rows, tf.int32), tf.constant(counts, tf.int32), layout, tf.constant([seed, 1], tf.int32)
    ).numpy()
    owner = np.repeat(np.arange(len(counts)), counts)[found].reshape(layout.people, each)
    assert (owner == owner[:, :1]).all()
    assert len(set(owner[:, 0].tolist())) == layout.people


def test_a_list_of_pairs_is_read_as_labeled_faces_in_the_wild_has_it(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("2\t1\nAnn_A\t1\t4\nAnn_A\t2\tBob\t11\nBob\t3\t5\nBob\t1\tCid\t1\n")
    pairs = pk_sampler.lfw_pairs(path)
    assert pairs == [
        ("Ann_A/Ann_A_0001", "Ann_A/Ann_A_0004", True, 0),
        ("Ann_A/Ann_A_0002", "Bob/Bob_0011", False, 0),
        ("Bob/Bob_0003", "Bob/Bob_0005", True, 1),
        ("Bob/Bob_0001", "Cid/Cid_0001", False, 1),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ten\n", "must begin with the numbers of folds and pairs, got 'ten'"),
        ("1 1\nAnn 1 2\n", "1 × 1 pairs of either kind, 2 lines, as its first line says, got 1"),
        ("² 1\nAnn 1 2\n", "must begin with the numbers"),
        ("1\nAnn 1 ²\nAnn 1 Bob 2\n", "line 2: a pair must be"),
        ("1\nAnn 1 2\nAnn one Bob 2\n", "line 3: a pair must be .*got 'Ann one Bob 2'"),
    ],
)
def test_a_broken_list_of_pairs_is_refused_with_its_line(tmp_path, text, reason):
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(Fault, match=reason) as fault:
        pk_sampler.lfw_pairs(tmp_path / "pairs.txt")
    assert fault.value.code == Fault.DATA


def test_a_list_of_pairs_with_a_line_of_column_names_is_one_fold(tmp_path):
    text = "\ufeffname,imagenum1,imagenum2,\nAnn_A,1,4,\nAnn_A,2,Bob,11\n"
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    assert pk_sampler.lfw_pairs(tmp_path / "pairs.csv") == [
        ("Ann_A/Ann_A_0001", "Ann_A/Ann_A_0004", True, 0),
        ("Ann_A/Ann_A_0002", "Bob/Bob_0011", False, 0),
    ]
    (tmp_path / "pairs.csv").write_bytes("name,a,b\nZo\xeb,1,2".encode("latin-1"))
    with pytest.raises(Fault, match="must be text in UTF-8"):
        pk_sampler.lfw_pairs(tmp_path / "pairs.csv")


def kept(rows):
    return [(Item(name, label, bytes, split), name) for name, label, split in rows]


def test_nobody_is_in_two_splits_and_the_shares_are_of_people():
    rows = [(f"{person}/{number}", f"p{person}", None) for person in range(20) for number in range(1 + person % 3)]
    data = Data(source="orl", validation=0.1, calibration=0.2, test=0.25)
    splits = dataset.splits_of(kept(rows), data, seed=3)
    split_of = {}
    for (_, label, _), split in zip(rows, splits, strict=True):
        assert split_of.setdefault(label, split) == split
    assert Counter(split_of.values()) == {"train": 9, "test": 5, "calibration": 4, "validation": 2}
    assert splits != dataset.splits_of(kept(rows), data, seed=4)


@pytest.mark.parametrize(("count", "calibrating"), [(6, 0), (9, 0), (10, 3), (100, 10)])
def test_people_who_chose_nothing_calibrate_unless_hardly_anybody_would_be_left_to_train_on(count, calibrating):
    rows = [(f"{person}/1", f"p{person}", None) for person in range(count)]
    found = Counter(dataset.splits_of(kept(rows), Data(source="orl"), seed=0))
    assert found["calibration"] == calibrating
    assert found["train"] >= 2
    facts = {"splits": dict(found)}
    assert dataset.calibration_split(facts) == ("calibration" if calibrating else "validation")


def test_people_of_a_list_of_pairs_are_tested_and_not_learnt(tmp_path):
    (tmp_path / "pairs.txt").write_text("1\np1 1 2\np1 1 p2 1\n")
    rows = [(f"p{person}/p{person}_{number:04d}.jpg", f"p{person}", None) for person in range(8) for number in (1, 2)]
    data = Data(source="orl", pairs={"path": tmp_path / "pairs.txt"}, validation=0.3, test=0.25)
    split_of = dict(zip([row[1] for row in rows], dataset.splits_of(kept(rows), data, seed=0), strict=True))
    assert {name for name, split in split_of.items() if split == "test"} == {"p1", "p2"}
    with pytest.raises(Fault, match="must name people of the data only, got p1 and 1 more"):
        dataset.splits_of(kept([row for row in rows if row[1] not in ("p1", "p2")]), data, seed=0)


def test_a_person_in_two_prescribed_splits_is_refused():
    rows = [("train/a/1", "a", "train"), ("test/a/2", "a", "test")]
    with pytest.raises(Fault, match="a must be in one split only, got train and test"):
        dataset.splits_of(kept(rows), Data(source="orl"), seed=0)


def test_too_few_people_are_refused():
    rows = [(f"{person}/1", str(person), None) for person in range(5)]
    with pytest.raises(Fault, match="at least two people to train on beside 4 to validate and test, got 5"):
        dataset.splits_of(kept(rows), Data(source="orl"), seed=0)


def test_orl_has_ten_photographs_of_each_of_forty_people():
    items = classification.orl()
    assert Counter(item.label for item in items) == {f"s{person}": 10 for person in range(1, 41)}
    assert [item.id for item in items[:3]] == ["s1/1.pgm", "s1/2.pgm", "s1/3.pgm"]
    image = tf.io.decode_image(items[0].read()).numpy()
    assert image.shape == (112, 92, 1)


def test_a_pgm_file_becomes_a_png_of_the_same_pixels(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    data, notes = normalize(b"P5\n4 3\n255\n" + pixels.tobytes())
    assert notes == ["ppm"]
    np.testing.assert_array_equal(tf.io.decode_image(data).numpy()[..., 0], pixels)


def test_a_picture_turned_by_quarters_shows_another_person(tmp_path):
    """Each picture has its number in one corner: the corner says the quarter turns, as NumPy turns pictures."""
    pictures = np.zeros((6, 4, 4, 1), np.uint8)
    pictures[:, 0, 0, 0] = np.arange(10, 16)
    records.write(
        tmp_path, "train", [(f"{row}.png", encode_png(picture), row // 2) for row, picture in enumerate(pictures)]
    )
    seen = set()
    for images, labels in drawn(tmp_path, steps=40, layout=(3, 2), rotations=True):
        assert sorted(Counter(labels.tolist()).values()) == [2, 2, 2]
        for image, label in zip(images, labels, strict=True):
            upright = np.rot90(image, -(label % 4))
            assert upright[0, 0, 0] in (10 + 2 * (label // 4), 11 + 2 * (label // 4))
            seen.add(int(label))
    assert seen == set(range(12))
