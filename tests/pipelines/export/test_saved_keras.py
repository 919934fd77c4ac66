"""Saved Keras models, opened where this package is not installed."""

import subprocess
import sys

import pytest

from cnn_keras import models
from pipelines.export import savedmodel

ELSEWHERE = """
import sys

sys.modules["cnn_keras"] = sys.modules["pipelines"] = None  # as if they were not installed
import keras

for path in sys.argv[1:]:
    try:
        print(keras.models.load_model(path, compile=False).count_params())
    except TypeError as error:
        print(repr(error))
"""


@pytest.mark.slow
def test_a_model_without_a_layer_of_ours_opens_without_us_and_another_says_what_to_import(tmp_path):
    shape = {"input_shape": (32, 32, 1), "classes": 10}
    built = {name: models.build(name, **shape) for name in ("lenet.lenet5_modern", "resnet.plain20", "lenet.lenet5")}
    for name, model in built.items():
        savedmodel.save_keras(model, tmp_path / f"{name}.keras")
    files = [tmp_path / f"{name}.keras" for name in built]
    opened = subprocess.run([sys.executable, "-c", ELSEWHERE, *files], capture_output=True, text=True, check=True)
    plain, residual, refused = opened.stdout.splitlines()
    assert [int(plain), int(residual)] == [model.count_params() for model in list(built.values())[:2]]
    assert "make sure they are all imported" in refused
    assert "cnn_keras" in refused
    assert savedmodel.load_keras(files[2]).count_params() == built["lenet.lenet5"].count_params()
