"""The classify task: four verbs in a row on a handful of images, and what each leaves behind."""

import csv
import io
import json

import keras
import numpy as np
import pytest
from rich.console import Console

from cnn_keras.data.sources.classification import Item
from cnn_keras.errors import Fault
from pipelines.data import image_config, image_dataset

FILES = {
    "prepare": ["contact_sheet.png", "class_balance.png", "split.csv", "problems.csv", "data.json"],
    "train": ["model.keras", "history.csv", "curves.png", "augmented.png"],
    "evaluate": ["report.json", "predictions.csv", "confusion_matrix.png", "reliability.png", "worst.png"],
    "export": ["small/1/saved_model.pb", "small/1/card.md", "small/1/assets.extra/tf_serving_warmup_requests"],
}


@pytest.mark.parametrize("stage", FILES)
def test_a_stage_leaves_its_files_and_a_manifest(exported, stage):
    for name in [*FILES[stage], "manifest.json"]:
        assert (exported.run / stage / name).stat().st_size > 0, name


def test_every_image_is_in_exactly_one_split_and_every_class_in_every_split(exported):
    with (exported.run / "prepare" / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == len(rows) == 120
    assert {(row["label"], row["split"]) for row in rows} == {
        (str(label), split) for label in range(4) for split in ("train", "validation", "test")
    }


def test_the_report_counts_what_the_predictions_say(exported):
    report = json.loads((exported.run / "evaluate" / "report.json").read_text())
    with (exported.run / "evaluate" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = sum(row["truth"] == row["prediction"] for row in rows)
    assert report["accuracy"] == pytest.approx(right / len(rows))
    assert set(report["baselines"]["accuracy"]) == {"majority", "logistic regression", "nearest neighbour"}


def test_the_model_carries_the_normalisation_of_the_training_split(exported):
    data = json.loads((exported.run / "prepare" / "data.json").read_text())
    model = keras.models.load_model(exported.run / "train" / "model.keras", compile=False)
    layer = model.get_layer("normalization")
    np.testing.assert_allclose(layer.mean.numpy().ravel(), data["normalization"]["mean"], rtol=1e-6)
    assert model.input.dtype == "uint8"


def test_the_model_card_names_data_measures_and_layers(exported):
    card = (exported.run / "export" / "small" / "1" / "card.md").read_text()
    for part in ("lenet.lenet5_modern", "nearest neighbour", "sha256:", "c3", "task: classify"):
        assert part in card


def test_a_second_run_changes_nothing(exported, capsys):
    before = {path: path.stat().st_mtime_ns for path in exported.run.rglob("*") if path.is_file()}
    assert exported.cnn("run", exported.recipe) == 0
    assert capsys.readouterr().out.count("skipped: nothing it depends on changed") == 4
    assert {path: path.stat().st_mtime_ns for path in exported.run.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_requirement_that_does_not_hold_exits_4_and_exports_nothing(exported, tmp_path, capsys):
    arguments = ["--set", "evaluate.require={accuracy: 1.01}", "--set", "name=strict", "--runs", tmp_path]
    from tests.conftest import cnn

    assert cnn("run", exported.recipe, "--set", "train.epochs=1", *arguments) == Fault.GATE
    assert "accuracy must be at least 1.01" in capsys.readouterr().err
    assert (tmp_path / "classify" / "strict" / "evaluate" / "report.json").is_file()
    assert not (tmp_path / "classify" / "strict" / "export").exists()


def test_a_source_that_prescribes_its_test_split_keeps_it():
    data = image_config.Data(source="digits", validation=0.2)
    rows = [(str(row), str(row % 2), "test" if row < 6 else "train") for row in range(46)]
    kept = [(Item(name, label, bytes, split), name) for name, label, split in rows]
    splits = image_dataset.splits_of(kept, data, seed=0)
    assert splits[:6] == ["test"] * 6
    assert sorted(set(splits[6:])) == ["train", "validation"]
    assert splits.count("validation") == 8


def test_a_list_that_is_not_utf_8_is_left_to_the_reader_to_refuse(tmp_path):
    (tmp_path / "list.csv").write_bytes("path,label\nä.png,Bär\n".encode("latin-1"))
    assert image_config.files_digest(image_config.Data(source="csv", path=tmp_path / "list.csv"))


def test_prescribed_splits_with_other_classes_are_refused_and_what_is_not_tested_is_told():
    def labels(*rows):
        return [(Item(f"{row}", label, bytes, split), f"{row}") for row, (label, split) in enumerate(rows)]

    data = image_config.Data(source="folder")
    kept = labels(("cat", "train"), ("cat", "train"), ("dog", "train"), ("cat", "test"), ("Dog", "test"))
    splits = ["train", "train", "train", "test", "test"]
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(Fault, match=r"got Dog in test alone; the training split holds cat, dog") as fault:
        image_dataset.check_classes(kept, splits, console=console)
    assert fault.value.code == Fault.DATA
    image_dataset.check_classes(kept[:4], splits[:4], console=console)
    assert "dog: not in the test split" in console.file.getvalue()
    with pytest.raises(Fault, match="got only test, validation"):
        image_dataset.splits_of(labels(("cat", "test"), ("cat", "validation")), data, seed=0)


def test_class_names_stand_in_natural_order_or_as_the_recipe_lists_them():
    labels = ["class10", "class2", "class1"]
    assert image_dataset.class_names(labels, image_config.Data(source="digits")) == ["class1", "class2", "class10"]
    named = image_config.Data(source="digits", classes=("class2", "class10", "class1", "absent"))
    assert image_dataset.class_names(labels, named) == ["class2", "class10", "class1"]
    with pytest.raises(Fault, match="at least two classes") as fault:
        image_dataset.class_names(["one"], image_config.Data(source="digits"))
    assert fault.value.code == Fault.DATA
