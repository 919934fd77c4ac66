"""Prepared images: copied into records or left in their files, in one go or in two, what is read is the same."""

import io
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pydantic import ValidationError
from rich.console import Console

from cnn_keras.data import input_pipeline, records
from cnn_keras.errors import Fault
from pipelines.cli import os_errors
from pipelines.data import image_dataset, run_files, validation
from pipelines.data.image_config import Data
from pipelines.tasks.verify import config as verify_config
from tests.packed_files import add, example

COUNT = 24


@pytest.fixture
def photos(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        folder = tmp_path / "photos" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8))
        image.save(folder / f"{number}.{'gif' if number == 5 else 'jpg'}")  # a GIF cannot be decoded as it is
    return tmp_path / "photos"


def prepare(folder, photos, **settings):
    folder.mkdir(exist_ok=True)
    data = Data(**{"source": "folder", "path": photos, "size": (6, 8), **settings})
    recipe = SimpleNamespace(data=data, seed=0, fold=None)
    return image_dataset.prepare(
        SimpleNamespace(recipe=recipe, console=Console(file=io.StringIO()), parallel_map=None, training_facts=None),
        folder,
    )


def pack(folder, photos, source):
    """The photos in one file of a folder, their classes by name."""
    folder.mkdir()
    files = sorted(photos.rglob("*.*"))
    if source == "webdataset":
        with tarfile.open(folder / "photos.tar", "w") as archive:
            for path in files:
                add(archive, path.name, path.read_bytes())
                add(archive, f"{path.stem}.cls", path.parent.name.encode())
        return folder
    with tf.io.TFRecordWriter(str(folder / "photos.tfrecord")) as writer:
        for path in files:
            values = {"image/encoded": path.read_bytes(), "image/class/text": path.parent.name.encode()}
            writer.write(example(values).SerializeToString())
    return folder


def batches(folder, facts, memory):
    found = input_pipeline.training(
        folder, "train", input_pipeline.Shape((6, 8), 3), count=facts["splits"]["train"], epochs=range(2),
        batch_size=5, seed=3, memory=memory,
    )  # fmt: skip
    return [(images.numpy(), labels.numpy()) for images, labels in found]


@pytest.mark.parametrize("memory", [2**30, 0])
def test_images_that_stay_in_their_files_are_read_as_those_that_are_copied(tmp_path, photos, memory):
    copied, placed = (prepare(tmp_path / str(place), photos, in_place=place) for place in (False, True))
    assert placed == copied
    pairs = zip(*(batches(tmp_path / str(place), copied, memory) for place in (False, True)), strict=True)
    for (images, labels), (same, numbers) in pairs:
        assert (labels == numbers).all()
        assert (images == same).all()
    for split in copied["splits"]:
        whole, stored = (
            list(records.read(tmp_path / str(place), split).as_numpy_iterator()) for place in (False, True)
        )
        assert stored == whole
    held = [
        b"".join(path.read_bytes() for path in (tmp_path / str(place)).glob("*.tfrecord")) for place in (False, True)
    ]
    jpegs = [path.read_bytes() for path in photos.rglob("*.jpg")]
    assert all(jpeg in held[0] and jpeg not in held[1] for jpeg in jpegs)


@pytest.mark.parametrize("source", ["webdataset", "tfrecord"])
def test_images_that_stay_in_packed_files_are_read_as_those_that_are_copied(tmp_path, photos, source):
    packed = pack(tmp_path / source, photos, source)
    copied, placed = (prepare(tmp_path / str(place), packed, source=source, in_place=place) for place in (False, True))
    assert placed == copied
    assert placed["classes"] == ["cat", "dog"]
    assert sum(placed["splits"].values()) == COUNT
    for split in copied["splits"]:
        whole, stored = (
            list(records.read(tmp_path / str(place), split).as_numpy_iterator()) for place in (False, True)
        )
        assert stored == whole
    held = b"".join(path.read_bytes() for path in (tmp_path / "True").glob("*.tfrecord"))
    assert all(path.read_bytes() not in held for path in photos.rglob("*.jpg"))
    shard = next(packed.iterdir())
    data = next(photos.rglob("*.jpg")).read_bytes()
    shard.write_bytes(shard.read_bytes().replace(data, data[:-3] + b"\0" + data[-2:]))
    read = (one for split in placed["splits"] for one in records.read(tmp_path / "True", split))
    with pytest.raises(tf.errors.OpError) as error:
        list(read)
    fault = os_errors.fault(error.value)
    assert str(shard) in str(fault)
    assert fault.code == Fault.DATA


@pytest.mark.parametrize("change", ["other pixels", "shorter", "gone"])
def test_a_file_that_changed_since_it_was_prepared_is_named(tmp_path, photos, change):
    prepare(tmp_path / "prepare", photos, in_place=True)
    path = next(photos.rglob("*.jpg"))
    data = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if change == "shorter" else data[:-3] + b"\0" + data[-2:])
    shape = input_pipeline.Shape((6, 8), 3)
    read = (
        one
        for split in ("train", "validation", "test")
        for one in input_pipeline.decoded_examples(tmp_path / "prepare", split, shape)
    )
    with pytest.raises(tf.errors.OpError) as error:
        list(read)
    fault = os_errors.fault(error.value)
    assert str(path) in str(fault)
    assert fault.code == (Fault.STORAGE if change == "gone" else Fault.DATA)


def test_only_images_with_files_of_their_own_can_stay_there():
    for kind, source in ((Data, "digits"), (verify_config.Data, "folder")):
        with pytest.raises(ValidationError, match="in_place"):
            kind(source=source, in_place=True)


def test_an_interrupted_preparation_goes_on_to_the_same_bytes(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(records, "SHARD_BYTES", 1500)
    monkeypatch.setattr(validation, "WINDOW", 5)
    facts = prepare(tmp_path / "whole", photos)
    normalize, calls = image_dataset.normalize, []

    def stopped(data):
        calls.append(data)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return normalize(data)

    monkeypatch.setattr(image_dataset, "normalize", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "parts", photos)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*.tfrecord")}
    assert kept
    assert prepare(tmp_path / "parts", photos) == facts
    assert len(calls) < 10 + COUNT
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes()
    assert {name: (tmp_path / "parts" / name).stat().st_mtime_ns for name in kept} == kept
    journal = tmp_path / "parts" / run_files.JOURNAL
    assert len(journal.read_text().splitlines()) == COUNT
