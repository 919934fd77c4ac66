"""Records: what is written comes back, in its order, whatever the number of shards."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.data import records

ROWS = [(f"Bär/ünï-{number}\n,“x”.png", bytes([number]) * 40, number % 3) for number in range(10)]


def rows(dataset):
    return [(example["id"].decode(), example["image"], example["label"]) for example in dataset.as_numpy_iterator()]


@pytest.mark.parametrize(("shard_bytes", "shards"), [(2**27, 1), (100, 4), (1, 10)])
def test_rows_come_back_in_the_order_written(tmp_path, monkeypatch, shard_bytes, shards):
    monkeypatch.setattr(records, "SHARD_BYTES", shard_bytes)
    records.write(tmp_path, "train", ROWS)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"train-{n:05d}.tfrecord" for n in range(shards)]
    assert rows(records.read(tmp_path, "train")) == ROWS


def test_a_seed_makes_the_shards_change_places(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SHARD_BYTES", 80)  # two rows each
    records.write(tmp_path, "train", ROWS)
    first, same, other = (rows(records.read(tmp_path, "train", seed=[seed, 0])) for seed in (1, 1, 2))
    assert first == same
    assert first != ROWS
    assert first != other
    assert sorted(first) == sorted(ROWS)
    assert all(first[row + 1] == ROWS[ROWS.index(first[row]) + 1] for row in range(0, 10, 2))


def test_splits_stay_apart_and_a_missing_one_is_an_error(tmp_path):
    records.write(tmp_path, "train", ROWS[:4])
    records.write(tmp_path, "test", ROWS[4:])
    assert rows(records.read(tmp_path, "test")) == ROWS[4:]
    with pytest.raises(FileNotFoundError, match="no records of the split 'validation'"):
        records.read(tmp_path, "validation")


def test_examples_have_scalar_features_of_fixed_types(tmp_path):
    records.write(tmp_path, "train", ROWS)
    assert records.read(tmp_path, "train").element_spec == {
        "id": tf.TensorSpec((), tf.string),
        "image": tf.TensorSpec((), tf.string),
        "label": tf.TensorSpec((), tf.int64),
    }


def test_an_interrupted_writing_keeps_its_whole_shards_and_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SHARD_BYTES", 80)  # two rows each
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    records.write(tmp_path / "whole", "train", ROWS)
    taken = []

    def values(row):
        taken.append(row)
        if len(taken) == 6:
            raise OSError("the disk went away")
        return row

    with pytest.raises(OSError, match="went away"):
        records.write(tmp_path / "parts", "train", ROWS, values=values, resume=True)
    assert rows(records.read(tmp_path / "parts", "train")) == ROWS[:4]
    for _ in range(2):  # the second finds nothing left to do
        records.write(tmp_path / "parts", "train", ROWS, values=values, resume=True)
        assert taken[6:] == ROWS[4:]
    whole, parts = (sorted((tmp_path / name).iterdir()) for name in ("whole", "parts"))
    assert [path.name for path in parts] == [path.name for path in whole]
    assert [path.read_bytes() for path in parts] == [path.read_bytes() for path in whole]


def test_a_split_of_many_examples_has_shards_for_many_readers(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MANY", 10)
    monkeypatch.setattr(records, "SHARDS", 4)
    records.write(tmp_path, "train", ROWS)
    records.write(tmp_path, "test", ROWS[:9])
    assert len(records.shards(tmp_path, "train")) == 4
    assert len(records.shards(tmp_path, "test")) == 1
    assert rows(records.read(tmp_path, "train")) == ROWS


def test_the_bytes_of_a_shard_are_those_of_earlier_versions(tmp_path):
    records.write(tmp_path, "train", ROWS)
    digest = hashlib.sha256((tmp_path / "train-00000.tfrecord").read_bytes()).hexdigest()
    assert digest == "34f34aeb12c0c8e164b61246aa34971f423b68b2e9500500e1f824dd7f1accaf"


def test_labels_survive_as_64_bits(tmp_path):
    records.write(tmp_path, "train", [("a", b"", np.iinfo(np.int64).max)])
    assert rows(records.read(tmp_path, "train"))[0][2] == np.iinfo(np.int64).max


def test_the_same_rows_are_the_same_bytes(tmp_path):
    """In one process as in another: the order of a message's parts is not left to chance."""
    features = records.box_features(2, landmarks=1, proposals=2, masks=True)
    zeros = {key: np.zeros(one.shape, one.dtype.as_numpy_dtype) for key, one in features.items() if one.shape}
    records.write(tmp_path, "train", [tuple(zeros.get(key, b"x") for key in features)] * 9, features=features)
    for record in tf.data.TFRecordDataset(records.shards(tmp_path, "train")).as_numpy_iterator():
        assert record == tf.train.Example.FromString(record).SerializeToString(deterministic=True)
