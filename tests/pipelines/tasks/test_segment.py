"""Segmentation, from masks to HTTP: prepare, train, evaluate, export, predict and serve agree with each other."""

import base64
import csv
import io
import json
import shutil
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras.errors import Fault
from cnn_keras.metrics import segmentation
from pipelines.engine import recipe as recipes
from pipelines.serving.server import application
from pipelines.tasks.segment import report
from pipelines.tasks.segment.config import Evaluate
from tests.advice import follow
from tests.conftest import WHOLE, cnn
from tests.converted import assert_converted
from tests.pipelines.tasks.test_segmentation_dataset import write_scenes
from tests.stored_weights import model_bytes, stored_bytes

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

RECIPE = """\
# Squares and discs.
task: segment
data: {source: folder, path: source, classes: [ground, square, disc], size: [32, 32], borders: 3.0, validation: 0.2}
augment: [mirror]
model: {builder: unet.unet_small, filters: 4, depth: 2}
train: {epochs: 2, batch_size: 4, learning_rate: 1e-2, loss: {dice: 1.0}}
evaluate: {worst: 2}
"""
PATCHES = """\
# The same in patches, two networks one after the other.
task: segment
data:
  {source: folder, path: source, classes: [ground, square, disc], size: [32, 32], fit: patch, patches: 8, balance: 0.5}
model: {builder: unet.unet, filters: 2, depth: 1, dropout: 0.2}
train: {epochs: 3, batch_size: 4, before: [{builder: unet.unet, epochs: 2}]}
"""


@pytest.fixture(scope="module", params=WHOLE)
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment")
    write_scenes(folder / "source", count=18)
    (folder / "shapes.yaml").write_text(RECIPE)
    (folder / "patches.yaml").write_text(PATCHES)
    assert cnn("run", folder / "shapes.yaml", "--runs", folder / "runs") == 0
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return folder / "runs" / "segment" / "shapes"


def test_other_formats_say_the_same_of_every_pixel(folder, run):
    assert_converted(folder / "shapes.yaml", run, metric="mean_iou")


def test_what_comes_next_is_accepted(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    done = follow(
        folder / "shapes.yaml", folder / "runs", [folder / "source" / "images"], capsys=capsys, monkeypatch=monkeypatch
    )
    assert done == ["serve", "predict", "dashboard"]


def held_out(run):
    """The files of the test pictures, by the names that evaluate has for them."""
    with (run / "prepare" / "split.csv").open() as file:
        return [row["id"] for row in csv.DictReader(file) if row["split"] == "test"]


def asked(client, data, name="shapes"):
    answer = client.post(f"/v1/models/{name}:predict", content=data, headers={"content-type": "image/png"})
    (said,) = answer.json()["predictions"]
    return said, np.asarray(Image.open(io.BytesIO(base64.b64decode(said["mask_bytes"]["b64"]))))


def test_every_stage_leaves_what_people_look_at(run):
    drawn = ("prepare/contact_sheet", "train/augmented", "train/curves", "evaluate/best", "evaluate/classes")
    for name in drawn:
        assert (run / f"{name}.png").is_file()
    with (run / "train" / "history.csv").open() as file:
        first, last = csv.DictReader(file)
    assert {"cross_entropy_loss", "dice_loss", "mean_iou", "val_mean_iou", "val_loss"} <= first.keys()
    assert float(last["loss"]) < float(first["loss"])
    report = json.loads((run / "evaluate" / "report.json").read_text())
    assert [row["name"] for row in report["classes"]] == ["ground", "square", "disc"]
    assert report["baseline"]["mean_iou"] > 0.9  # colours alone tell them apart
    card = (run / "export" / "shapes" / "1" / "card.md").read_text()
    assert "0 ground, 1 square, 2 disc" in card


def test_the_served_mask_has_the_size_of_the_picture_and_says_what_evaluate_said(folder, run):
    with (run / "evaluate" / "pictures.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    sizes = set()
    with TestClient(application(run / "export" / "shapes")) as client:
        for name in held_out(run):
            data = (folder / "source" / name).read_bytes()
            said, mask = asked(client, data)
            truth = np.asarray(Image.open(folder / "source" / name.replace("images", "masks")))
            assert mask.shape == truth.shape
            assert (mask == truth).mean() == pytest.approx(float(rows[name]["pixel_accuracy"]), abs=1e-6)
            assert said["classes"] == ["ground", "square", "disc"]
            np.testing.assert_allclose(said["shares"], [(mask == number).mean() for number in range(3)], atol=1e-6)
            assert 0.3 < max(said["confidence"]) <= 1
            sizes.add(mask.shape)
    assert len(sizes) > 1


def test_the_graph_takes_tensors_and_many_pictures_of_any_size(run, folder):
    loaded = tf.saved_model.load(str(run / "export" / "shapes" / "1"))
    assert stored_bytes(run / "export" / "shapes" / "1") == model_bytes(run / "train" / "model.keras")
    files = [(folder / "source" / "images" / f"{row:02d}.png").read_bytes() for row in (0, 1)]
    together = loaded.signatures["serving_default"](image_bytes=tf.constant(files))
    for row, data in enumerate(files):
        alone = loaded.signatures["serving_tensor"](image=tf.io.decode_png(data)[None])
        assert alone["mask_bytes"][0] == together["mask_bytes"][row]


def test_predict_lists_draws_and_writes_masks_that_are_read_again(folder, run, tmp_path, capsys):
    name = folder / "source" / held_out(run)[0]
    arguments = ("--csv", tmp_path / "said.csv", "--pictures", tmp_path / "drawn", "--masks", tmp_path / "labels")
    assert cnn("predict", "segment/shapes", name, *arguments, "--json", "--runs", folder / "runs") == 0
    (said,) = json.loads(capsys.readouterr().out)
    mask = Image.open(tmp_path / "labels" / name.name)
    assert mask.mode == "P"
    assert (tmp_path / "labels" / "classes.txt").read_text().split() == ["ground", "square", "disc"]
    numbers = np.asarray(mask)
    assert said["size"] == list(numbers.shape)
    for number, one in enumerate(said["segments"]):
        assert one["share"] == pytest.approx((numbers == number).mean(), abs=1e-6)
        assert sum(one["rle"]["counts"][1::2]) == (numbers == number).sum()
    with (tmp_path / "said.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["ground", "square", "disc"]
    assert len(list((tmp_path / "drawn").iterdir())) == 1


def test_masks_are_asked_of_segmenters_only(exported, tmp_path):
    name = next((exported.photos / "0").iterdir())
    assert exported.cnn("predict", "classify/small", name, "--masks", tmp_path) == Fault.INPUT


def test_runs_without_one_class_for_each_example_are_compared_by_their_figures(folder, tmp_path, capsys):
    for name in ("shapes", "other"):
        shutil.copytree(folder / "runs" / "segment" / "shapes", tmp_path / "segment" / name)
    path = tmp_path / "segment" / "other" / "evaluate" / "report.json"
    report = json.loads(path.read_text())
    report["mean_iou"] += 0.25
    report["mean_iou_interval"] = [end + 0.25 for end in report["mean_iou_interval"]]
    path.write_text(json.dumps(report))
    assert cnn("compare", "segment/shapes", "segment/other", "--runs", tmp_path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["same_test"], found["differences"]) == (True, [])
    row = found["figures"][0]["figures"]["mean_iou"]
    assert row["difference"] == pytest.approx(0.25)
    assert row["interval"][0] < 0.25 < row["interval"][1]
    assert cnn("compare", "segment/shapes", "segment/other", "--runs", tmp_path) == 0
    assert "mean_iou +0.2500" in " ".join(capsys.readouterr().out.split())


def test_the_sheet_of_augmentations_has_masks(folder, tmp_path):
    assert cnn("augment", folder / "shapes.yaml", "--output", tmp_path / "sheet.png") == 0
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.loss={cross_entropy: 0.0}", "must have a term"),
        ("evaluate.require={ap: 0.5}", "require must name a metric"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, setting, told):
    with pytest.raises(Fault, match=told):
        recipes.load(str(folder / "shapes.yaml"), [setting])


def test_requirements_are_of_figures_and_of_the_dice_of_classes():
    found = {"mean_iou": 0.7, "classes": [{"name": "cat", "dice": 0.8}, {"name": "dog", "dice": None}]}
    settings = Evaluate(require={"mean_iou": 0.6}, require_dice={"cat": 0.9, "dog": 0.1})
    assert report.failed_requirements(settings, found) == [
        "evaluate.require_dice: cat must be at least 0.9, got 0.8000",
        "evaluate.require_dice: dog must be at least 0.1, got nothing",
    ]
    with pytest.raises(Fault, match="must name classes, cat, dog, got cow"):
        report.failed_requirements(Evaluate(require_dice={"cow": 0.1}), found)


def test_networks_are_trained_one_after_the_other_in_patches_and_resumed(folder, monkeypatch):
    """Interrupted in the second network, the training ends with the same weights as one that was not.

    The networks pad nothing: they answer for 16×16 pixels of the 32×32 that they see.
    """
    run = folder / "runs" / "segment"
    arguments = ("run", folder / "patches.yaml", "--runs", folder / "runs")
    assert cnn(*arguments) == 0
    assert (run / "patches" / "train" / "unet.unet" / "model.keras").is_file()
    report = json.loads((run / "patches" / "evaluate" / "report.json").read_text())
    assert report["before"].keys() == {"unet.unet"}

    from pipelines.engine import stages

    epochs = []
    real = stages.Run.on_epoch

    def stopped(self, number, row):
        real(self, number, row)
        epochs.append(number)
        if number == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(stages.Run, "on_epoch", stopped)
    assert cnn(*arguments, "--set", "name=again") == 130
    assert epochs == [1, 2, 3, 4]
    monkeypatch.setattr(stages.Run, "on_epoch", real)
    assert cnn(*arguments, "--set", "name=again") == 0
    facts = [json.loads((run / name / "train" / "manifest.json").read_text())["facts"] for name in ("patches", "again")]
    assert facts[0]["digest"] == facts[1]["digest"]
    with TestClient(application(run / "patches" / "export" / "patches")) as client:
        data = (folder / "source" / held_out(run / "patches")[0]).read_bytes()
        _, mask = asked(client, data, "patches")
    assert mask.shape == np.asarray(Image.open(io.BytesIO(data))).shape[:2]


@pytest.mark.slow
@pytest.mark.parametrize("spacing", ["", "spacing: [1.5, 1.5, 1.5], "])
def test_volumes_go_from_nifti_to_nifti(tmp_path, spacing):
    """A volume that lies another way is answered with a mask that lies on it, and has its affine."""
    nibabel = pytest.importorskip("nibabel", reason="`make samples` installs nibabel")
    drawn = np.random.default_rng(0)
    turned = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, 3], [0, 0, -1.5, 40], [0, 0, 0, 1]])
    for number in range(6):
        values = drawn.normal(size=(20, 18, 22)).astype(np.float32)
        values[5:15, 4:14, 6:16] += 20
        for name, data in (("images", values), ("labels", (values > 10).astype(np.uint8))):
            (tmp_path / "scans" / name).mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(data, turned).to_filename(tmp_path / "scans" / name / f"{number}.nii.gz")
    (tmp_path / "cubes.yaml").write_text(
        "task: segment\n"
        f"data: {{source: folder, path: scans, {spacing}size: [8, 8, 8], channels: 1, fit: patch, patches: 64, "
        "normalize: each}\n"
        "augment: [{move: {flip: [0]}}]\n"
        "model: {builder: unet.unet3d_small, filters: 4}\n"
        "train: {epochs: 6, batch_size: 8, learning_rate: 1e-2}\n"
        "evaluate: {require_dice: {'1': 0.9}, lesions: {overlap: 0.5}}\n"
    )
    assert cnn("run", tmp_path / "cubes.yaml", "--runs", tmp_path / "runs") == 0
    arguments = ("--masks", tmp_path / "said", "--pictures", tmp_path / "drawn", "--runs", tmp_path / "runs")
    assert cnn("predict", "segment/cubes", tmp_path / "scans" / "images" / "0.nii.gz", *arguments) == 0
    said, truth = (nibabel.load(tmp_path / place / "0.nii.gz") for place in ("said", "scans/labels"))
    np.testing.assert_allclose(said.affine, truth.affine)
    inside, expected = np.asarray(said.dataobj) == 1, np.asarray(truth.dataobj) == 1
    assert 2 * (inside & expected).sum() / (inside.sum() + expected.sum()) > 0.9
    assert len(list((tmp_path / "drawn").iterdir())) == 1
    scans = [tmp_path / "scans" / name for name in held_out(tmp_path / "runs" / "segment" / "cubes")]
    assert cnn("predict", "segment/cubes", *scans, *arguments) == 0
    counts, distances = np.zeros(3), []
    for scan in scans:
        inside, expected = (
            np.asarray(nibabel.load(folder / scan.name).dataobj) == 1
            for folder in (tmp_path / "said", tmp_path / "scans" / "labels")
        )
        counts += (inside & expected).sum(), inside.sum(), expected.sum()
        distances.append(segmentation.surface_distances(expected, inside, 2, spacing=(1, 2, 1.5))[1])
    report = json.loads((tmp_path / "runs/segment/cubes/evaluate/report.json").read_text())
    figures = next(one for one in report["classes"] if one["name"] == "1")
    assert report["pixels"] == len(scans) * 20 * 18 * 22  # of the scans' own voxels
    assert figures["pixels"] == counts[2]
    assert figures["dice"] == pytest.approx(2 * counts[0] / (counts[1] + counts[2]), abs=0.002)
    assert report["distance_unit"] == "mm"
    assert [figures["hausdorff_95"], figures["surface_distance"]] == pytest.approx(np.mean(distances, axis=0), abs=0.1)
    (lesions,) = report["lesions"]
    assert (lesions["lesions"], lesions["found"]) == (len(scans), len(scans))
