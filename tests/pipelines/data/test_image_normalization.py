"""The normalisation of images is that of the training split, and is in the model."""

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from cnn_keras.data import input_pipeline
from pipelines.data import image_config, image_dataset, image_normalization
from pipelines.data.run_files import file_digest
from pipelines.engine import recipe as recipes
from tests.conftest import cnn

KINDS = ["standardise", "mean", "mean_image", "rescale", "zca", "pca"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_fitted_on_the_training_split(exported, kind, tmp_path):
    recipe = recipes.load(str(exported.recipe), ["data.size=[12, 12]"])
    shape = image_dataset.shape_of(recipe.data)
    for file in (exported.run / "prepare").glob("*train*"):
        (tmp_path / file.name).symlink_to(file)  # no other split is there
    images = input_pipeline.arrays(tmp_path, "train", shape).images.astype(np.float64)
    found = image_normalization.fit(tmp_path, shape, kind, len(images))
    layer = image_normalization.layer(found, tmp_path)
    out = np.asarray(layer(images.astype(np.uint8)), np.float64)
    match kind:
        case "rescale":
            np.testing.assert_allclose(out, images / 255, atol=1e-5)
        case "standardise":
            assert out.mean() == pytest.approx(0, abs=1e-4)
            assert out.std() == pytest.approx(1, abs=1e-3)
        case "mean":
            np.testing.assert_allclose(out, images - images.mean(axis=(0, 1, 2)), atol=1e-3)
        case "mean_image":
            np.testing.assert_allclose(out, images - images.mean(axis=0), atol=1e-2)
        case _:
            assert found == {"whitening": "whitening.npz", "digest": file_digest(tmp_path / "whitening.npz")}
            rows = out.reshape(len(out), -1)
            assert np.abs(rows.mean(axis=0)).max() < 1e-3
            values = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
            assert 0.9 < values.max() <= 1.001  # that of the images' own is some 100 times the mean


def test_images_of_many_values_are_not_whitened():
    image_config.Data(source="digits", size=(64, 64), channels=1, normalize="zca")
    with pytest.raises(ValidationError, match=r"at most 4,096 values.*got 12,288; choose a smaller size"):
        image_config.Data(source="digits", size=(64, 64), normalize="zca")


@pytest.mark.slow
def test_a_whitened_model_carries_its_matrix_into_the_export(exported, tmp_path):
    settings = ["data.normalize=zca", "name=white", "train.epochs=1"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    assert cnn("run", exported.recipe, *overrides, "--runs", tmp_path) == 0  # which proves that the export agrees
    model = keras.saving.load_model(tmp_path / "classify" / "white" / "train" / "model.keras")
    with np.load(tmp_path / "classify" / "white" / "prepare" / "whitening.npz") as values:
        np.testing.assert_array_equal(model.get_layer("normalization").matrix, values["matrix"])
    assert cnn("export", exported.recipe, *overrides, "--runs", tmp_path, "--format", "litert") == 0
