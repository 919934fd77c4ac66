"""MoveNet: maps of a quarter of the picture, and joints read off them. The network is "movenet.movenet"."""

import keras
import numpy as np
import pytest

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.models import movenet


def test_maps_have_a_quarter_of_the_pictures_size_and_compiled_they_are_the_same():
    keras.utils.set_random_seed(0)
    model = models.build("movenet.movenet", input_shape=(64, 96, 3), classes=5)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 64, 96, 3)).astype("float32")
    outputs = model(image)
    depths = {"center": 1, "heatmap": 5, "regression": 10, "offsets": 10}
    assert {name: values.shape for name, values in outputs.items()} == {
        name: (1, 16, 24, depth) for name, depth in depths.items()
    }
    for name, values in model.predict(image, verbose=0).items():
        np.testing.assert_allclose(values, outputs[name], atol=1e-4)


def test_joints_belong_to_the_person_in_the_middle():
    depths = {"center": 1, "heatmap": 2, "regression": 4, "offsets": 4}
    outputs = {name: np.zeros((1, 16, 24, depth), "float32") for name, depth in depths.items()}
    outputs["center"][:] = outputs["heatmap"][:] = -20
    outputs["center"][0, 8, 13], outputs["center"][0, 2, 2] = 2, 3  # the one at the border is surer
    outputs["regression"][0, 8, 13] = -4, 1, 5, -2  # y and x of each joint from there
    outputs["heatmap"][0, 4, 15, 0], outputs["heatmap"][0, 1, 2, 0] = 1, 2  # a cell away from (4, 14), and another's
    outputs["heatmap"][0, 13, 11, 1] = -1
    outputs["offsets"][0, 4, 15, :2] = 0.5, 0.25
    points, scores = movenet.decode(outputs)
    np.testing.assert_allclose(points[0], [[15.25 / 24, 4.5 / 16], [11 / 24, 13 / 16]], rtol=1e-6)
    np.testing.assert_allclose(scores[0], 1 / (1 + np.exp([-1, 1])), rtol=1e-5)


def test_sides_that_are_no_multiples_of_32_are_refused():
    with pytest.raises(Fault, match="multiples of 32, got 100×96"):
        models.build("movenet.movenet", input_shape=(100, 96, 3))
