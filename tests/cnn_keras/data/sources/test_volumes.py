"""Volumes: what is read from NIfTI files, and the task from prepare to predict on volumes that the test writes."""

import csv
import gzip
import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf

import pipelines as door
from cnn_keras.data.files import nifti
from cnn_keras.data.sources import volumes
from cnn_keras.errors import Fault, Unreadable
from pipelines.data import array_config, array_dataset
from pipelines.engine import recipe as recipes
from tests.advice import follow
from tests.conftest import WHOLE, cnn
from tests.stored_weights import model_bytes, stored_bytes

nibabel = pytest.importorskip("nibabel", reason="needs the package nibabel (make samples)")

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def write(path, values, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("name", ["brain.nii", "brain.nii.gz"])
def test_a_volume_is_read_with_its_channels_last(tmp_path, name):
    values, notes = nifti.read(write(tmp_path / name, VOXELS))
    np.testing.assert_array_equal(values, VOXELS[..., None])
    assert values.dtype == np.float32
    assert notes == []


def test_the_scaling_that_is_stored_is_applied(tmp_path):
    image = nibabel.Nifti1Image(VOXELS, np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "scaled.nii")
    stored = nibabel.load(tmp_path / "scaled.nii")
    np.testing.assert_allclose(nifti.read(tmp_path / "scaled.nii")[0][..., 0], stored.get_fdata())


def test_a_volume_that_lies_otherwise_is_turned_upright_and_said_to_be(tmp_path):
    values, notes = nifti.read(write(tmp_path / "left.nii", VOXELS[::-1], np.diag([-1.0, 1, 1, 1])))
    np.testing.assert_array_equal(values[..., 0], VOXELS)
    assert notes == ["turned upright"]
    axes = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)  # its first axis points forward
    values, notes = nifti.read(write(tmp_path / "lying.nii", VOXELS.transpose(1, 0, 2), axes))
    np.testing.assert_array_equal(values[..., 0], VOXELS)


def test_a_fourth_axis_is_the_channels(tmp_path):
    values = np.stack([VOXELS, 2 * VOXELS], axis=-1)
    np.testing.assert_array_equal(nifti.read(write(tmp_path / "two.nii", values))[0], values)
    vectors = write(tmp_path / "vectors.nii", values[:, :, :, None, :])
    np.testing.assert_array_equal(nifti.read(vectors)[0], values)


def test_voxels_that_are_not_finite_become_zeros_and_are_reported(tmp_path):
    values = np.where(VOXELS == 5, np.nan, VOXELS).astype(np.float32)
    found, notes = nifti.read(write(tmp_path / "nan.nii", values))
    np.testing.assert_array_equal(found[..., 0], np.where(VOXELS == 5, 0, VOXELS))
    assert notes == ["not finite in places, set to 0"]


def test_a_file_of_no_use_says_why(tmp_path, monkeypatch):
    (tmp_path / "empty.nii").touch()
    (tmp_path / "words.nii").write_text("no volume, but a few words " * 40)
    (tmp_path / "words.nii.gz").write_bytes(gzip.compress(b"no volume, but a few words " * 40))
    (tmp_path / "plain.nii.gz").write_text("not even gzip")
    noise = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    whole = write(tmp_path / "whole.nii", noise).read_bytes()
    (tmp_path / "half.nii").write_bytes(whole[:9000])
    (tmp_path / "half.nii.gz").write_bytes(gzip.compress(whole)[:5000])
    flipped = bytearray(gzip.compress(whole))
    flipped[3000] ^= 255
    (tmp_path / "flipped.nii.gz").write_bytes(flipped)
    (tmp_path / "header.nii").write_bytes(whole[:100])
    write(tmp_path / "flat.nii", np.zeros((4, 4), np.float32))
    write(tmp_path / "complex.nii", np.zeros((4, 4, 4), np.complex64))
    expected = {
        "empty.nii": "empty",
        "words.nii": "undecodable",
        "words.nii.gz": "undecodable",
        "plain.nii.gz": "undecodable",
        "half.nii": "undecodable",
        "half.nii.gz": "undecodable",
        "flipped.nii.gz": "undecodable",
        "header.nii": "undecodable",
        "flat.nii": "unsupported",
        "complex.nii": "unsupported",
    }
    kinds = {}
    for name in expected:
        with pytest.raises(Unreadable, match=r".") as error:
            nifti.read(tmp_path / name)
        kinds[name] = error.value.kind
    assert kinds == expected
    monkeypatch.setattr(nifti, "VOXEL_LIMIT", 23)
    with pytest.raises(Unreadable, match=r"may have 23 voxels.*\(2, 3, 4\)") as error:
        nifti.read(write(tmp_path / "large.nii", VOXELS))
    assert error.value.kind == "huge"


def test_a_header_that_promises_too_much_is_refused_before_anything_is_read(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((30000, 30000, 30000))
    (tmp_path / "bomb.nii").write_bytes(header.binaryblock + bytes(1000))
    with pytest.raises(Unreadable) as error:
        nifti.read(tmp_path / "bomb.nii")
    assert error.value.kind == "huge"


def test_a_source_says_what_it_needs(monkeypatch):
    with pytest.raises(Fault, match="must be folder or mni152, got 'dicom'"):
        volumes.items("dicom")
    with pytest.raises(Fault, match=r"data\.path is required with source: folder"):
        array_config.files_digest(recipes.load("volumes/folder-resnet18").data)
    with pytest.raises(Fault, match=r"data\.path does not go with source: mni152"):
        volumes.items("mni152", path=".", size=(14, 14, 14))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Fault, match="nilearn and nibabel; `make samples`"):
        volumes.items("mni152", size=(14, 14, 14))


def test_without_nibabel_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(Fault, match="package nibabel; `make samples`"):
        volumes.folder(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("nilearn") is None, reason="needs the package nilearn (make samples)")
def test_no_patch_of_the_brain_reaches_from_one_split_into_another():
    items = volumes.items("mni152", size=(14, 14, 14))
    assert {item.label for item in items} == {"grey", "white", "other"}
    planes = {}
    for item in items:
        y = int(item.id.split("-")[1])
        planes.setdefault(item.split, set()).update(range(y - 7, y + 7))
    assert planes.keys() == {"train", "validation", "test"}
    assert not planes["train"] & planes["test"]
    assert not planes["validation"] & (planes["train"] | planes["test"])
    values = {label: next(item for item in items if item.label == label).read()[0] for label in ("white", "other")}
    assert values["white"].shape == (14, 14, 14, 1)
    assert values["white"][7, 7, 7, 0] > values["other"][7, 7, 7, 0]


RECIPE = """\
# Balls and bars.
task: volumes
data: {source: folder, path: scans, size: [10, 10, 10], normalize: each}
augment: [{flip: [0, 1], shift: 0.1}]
model: {builder: conv3d.two_conv}
train: {epochs: 8, batch_size: 8, learning_rate: 1e-2}
evaluate: {require: {accuracy: 0.7}}
"""


def write_volumes(root):
    """30 balls and 30 bars of differing sizes and brightness, with a file of no use, and their recipe."""
    generator = np.random.default_rng(0)
    for number in range(30):
        side = 12 + number % 4
        x, y, z = np.meshgrid(*[np.linspace(-1, 1, side)] * 3, indexing="ij")
        for label, inside in (("ball", x**2 + y**2 + z**2 < 0.5), ("bar", np.maximum(abs(x), abs(y)) < 0.25)):
            values = (inside * (50 + 10 * number) + generator.normal(0, 2, x.shape)).astype(np.float32)
            write(root / "scans" / label / f"{number:02d}.nii.gz", values)
    (root / "scans" / "ball" / "broken.nii").write_text("no volume")
    (root / "shapes.yaml").write_text(RECIPE)


@pytest.fixture(scope="module", params=WHOLE)
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    write_volumes(root)
    assert cnn("run", root / "shapes.yaml", "--runs", root / "runs") == 0
    return root


@pytest.fixture(scope="module")
def run(root):
    return root / "runs" / "volumes" / "shapes"


def test_what_comes_next_is_accepted(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    done = follow(root / "shapes.yaml", root / "runs", [root / "scans" / "bar"], capsys=capsys, monkeypatch=monkeypatch)
    assert done == ["serve", "predict", "dashboard"]


def test_an_array_is_answered_as_its_file_is(root):
    file = root / "scans" / "bar" / "01.nii.gz"
    values = nifti.read(file)[0]
    found = door.load("volumes/shapes", runs=root / "runs")
    whole, array, stacked = (found.predict(given)[0] for given in (file, values[..., 0], values[None]))
    assert whole["path"] == str(file)
    assert array == stacked == {**whole, "path": None}
    assert found.draw(values)[0].size == found.draw(file)[0].size


FILES = {
    "prepare": ["volumes.png", "class_balance.png", "split.csv", "problems.csv", "data.json", "train.npz"],
    "train": ["model.keras", "history.csv", "curves.png"],
    "evaluate": ["report.json", "predictions.csv", "confusion_matrix.png", "reliability.png", "worst.png"],
    "export": ["shapes/1/saved_model.pb", "shapes/1/card.md", "shapes/1/assets.extra/tf_serving_warmup_requests"],
}


@pytest.mark.parametrize("stage", FILES)
def test_a_stage_leaves_its_files_and_a_manifest(run, stage):
    for name in [*FILES[stage], "manifest.json"]:
        assert (run / stage / name).stat().st_size > 0, name


def test_a_broken_file_is_named_and_the_others_are_used(run):
    with (run / "prepare" / "problems.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["kind"], row["action"]) for row in rows] == [
        ("ball/broken.nii", "undecodable", "dropped"),
    ]
    data = json.loads((run / "prepare" / "data.json").read_text())
    assert data["shape"] == [10, 10, 10, 1]
    assert sum(data["splits"].values()) == 60


def test_each_volume_is_normalised_by_itself_inside_the_export(run):
    loaded = tf.saved_model.load(str(run / "export" / "shapes" / "1"))
    assert stored_bytes(run / "export" / "shapes" / "1") == model_bytes(run / "train" / "model.keras")
    serve = loaded.signatures["serving_default"]
    assert serve.structured_input_signature[1]["volume"].shape.as_list() == [None, None, None, None, 1]
    with np.load(run / "prepare" / "test.npz") as file:
        values, labels = file["values"], file["labels"]
    answer = serve(volume=tf.constant(values))
    assert np.mean(answer["class_id"].numpy() == labels) >= 0.7
    brighter = serve(volume=tf.constant(values * 100 + 7))["probabilities"]
    np.testing.assert_allclose(brighter, answer["probabilities"], atol=1e-3)


def test_predict_answers_for_files_of_any_size(root, tmp_path, capsys):
    arguments = ["predict", "volumes/shapes", root / "scans" / "bar", "--pictures", tmp_path, "--json"]
    assert cnn(*arguments, "--runs", root / "runs") == 0
    answers = json.loads(capsys.readouterr().out)
    assert len(answers) == len(list(tmp_path.iterdir())) == 30
    assert sum(answer["classes"][0]["label"] == "bar" for answer in answers) > 20


def test_predict_says_what_files_it_wants(root, tmp_path, capsys):
    assert cnn("predict", "volumes/shapes", tmp_path, "--runs", root / "runs") == Fault.DATA
    assert "IMAGES must be volume files" in capsys.readouterr().err
    (tmp_path / "a.nii").write_text("no volume")
    assert cnn("predict", "volumes/shapes", tmp_path / "a.nii", "--runs", root / "runs") == Fault.DATA


def test_more_than_the_memory_allows_is_refused(root, tmp_path, capsys):
    arguments = ["--set", "data.size=[200, 200, 200]", "--set", "data.memory_gb=0.1", "--runs", tmp_path]
    assert cnn("prepare", root / "shapes.yaml", *arguments) == Fault.INPUT
    assert "data.memory_gb must be at least what the examples take, got 0.1 and 1.8 GB" in capsys.readouterr().err


def test_the_middle_of_a_volume_is_drawn_from_three_sides():
    volume = np.zeros((5, 7, 9, 1), np.float32)
    volume[2, 3, 4] = 1
    drawn = array_dataset.draw_array(volume)
    assert drawn.dtype == np.uint8
    assert drawn.shape == (9, 7 + 1 + 5 + 1 + 5)
    assert (drawn[:, [7, 13]] == 255).all()
    assert np.delete(drawn, [7, 13], axis=1).sum() == 3 * 255
