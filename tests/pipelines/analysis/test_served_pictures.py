"""What a server has kept becomes a folder to correct, with what clients were answered beside what is answered now."""

import csv
import json
import warnings
from hashlib import sha256

import numpy as np
import pytest

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources import detection, segmentation
from cnn_keras.errors import Fault
from pipelines.inference.exported_model import newest
from pipelines.serving.archive import Settings
from pipelines.serving.server import application
from tests import toy_labellers
from tests.conftest import cnn

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


def noise(seed):
    return encode_png(np.random.default_rng(seed).integers(0, 255, (40, 50, 3)).astype(np.uint8))


DARK = encode_png(np.zeros((20, 30, 3), np.uint8))


def name_of(data):
    return f"{sha256(data).hexdigest()[:32]}.png"


def serve(model, folder, pictures):
    """Have a model answer about pictures, one by one, and keep all of them."""
    with TestClient(application(model, keep=Settings(folder, share=1))) as client:
        for data in pictures:
            assert client.post("/predict", files={"file": data}).is_success


def table(path):
    with path.open() as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_classes_that_were_served_are_written_as_folders_and_listed(exported, tmp_path, capsys):
    files = sorted(exported.photos.rglob("*.png"))[:40:8]
    pictures = [path.read_bytes() for path in files]
    serve(newest(exported.run / "export" / "small"), tmp_path / "served", pictures)
    first = next((tmp_path / "served").glob("*.json"))
    content = json.loads(first.read_text())
    was, content["answer"]["label"] = content["answer"]["label"], "9"
    first.write_text(json.dumps(content))
    (tmp_path / "served" / "abandoned.json").write_text("{}")
    assert exported.cnn("label", "classify/small", "--from-served", tmp_path / "served", "--out", tmp_path / "out") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 get another answer than when they were served" in shown
    assert "its picture is not there" in shown
    assert f"data.also={tmp_path / 'out'}" in shown
    written = {path.name: path for path in (tmp_path / "out").rglob("*.png")}
    assert {name: path.read_bytes() for name, path in written.items()} == {name_of(data): data for data in pictures}
    rows = table(tmp_path / "out-served.csv")
    assert rows.keys() == written.keys()
    for name, path in written.items():
        assert (rows[name]["answer"], rows[name]["kept"]) == (path.parent.name, "share")
        is_changed = name == first.with_suffix(".png").name
        assert rows[name]["served"] == ("9" if is_changed else path.parent.name)
    assert rows[first.with_suffix(".png").name]["answer"] == was


def test_boxes_that_were_served_are_written_as_annotations(tmp_path, capsys):
    model = toy_labellers.detector(tmp_path / "toy" / "1")
    serve(model, tmp_path / "served", [noise(0), DARK])
    options = ("--to", "coco", "--out", tmp_path / "out")
    assert cnn("label", model, "--from-served", tmp_path / "served", *options) == 0
    assert "0 get another answer" in capsys.readouterr().out
    items = {item.id.rpartition("/")[2]: item for item in detection.load("coco", path=tmp_path / "out").items}
    assert [object_.name for object_ in items[name_of(noise(0))].objects] == list(toy_labellers.CLASSES)
    assert not items[name_of(DARK)].objects
    rows = table(tmp_path / "out-served.csv")
    assert rows[name_of(noise(0))]["served"] == "mouse 2|ant"
    assert float(rows[name_of(noise(0))]["confidence"]) == pytest.approx(0.6)
    assert rows[name_of(DARK)]["served"] == ""


def test_masks_that_were_served_are_written(tmp_path, capsys):
    model = toy_labellers.segmenter(tmp_path / "toy" / "1")
    serve(model, tmp_path / "served", [noise(0), noise(1)])
    assert cnn("label", model, "--from-served", tmp_path / "served", "--out", tmp_path / "out") == 0
    assert "0 get another answer" in capsys.readouterr().out
    maps = segmentation.load("folder", path=tmp_path / "out")
    assert sorted(item.read() for item in maps.items) == sorted([noise(0), noise(1)])
    assert (maps.items[0].mask((40, 50)).values[1:, :25] == 2).all()


def test_a_folder_that_nothing_was_kept_in_is_refused(tmp_path, capsys):
    model = toy_labellers.detector(tmp_path / "toy" / "1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.png").write_bytes(DARK)
    for folder in ("empty", "nowhere"):
        arguments = ("--from-served", tmp_path / folder, "--out", tmp_path / "out")
        assert cnn("label", model, *arguments) == Fault.INPUT
        assert "--from-served must be a folder of" in " ".join(capsys.readouterr().err.split())
    for arguments in ((), (tmp_path / "empty", "--from-served", tmp_path / "empty")):
        assert cnn("label", model, *arguments, "--out", tmp_path / "out") == Fault.INPUT
        assert "and not both" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
