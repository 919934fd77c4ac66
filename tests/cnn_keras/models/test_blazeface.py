"""BlazeFace: a row of outputs for each anchor, and where boxes stand. The network is "blazeface.blazeface"."""

import keras
import numpy as np

from cnn_keras import models
from cnn_keras.models import blazeface


def test_every_anchor_has_offsets_and_logits_and_compiled_it_answers_the_same():
    keras.utils.set_random_seed(0)
    model = models.build("blazeface.blazeface", input_shape=(64, 96, 3), classes=2)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 64, 96, 3)).astype("float32")
    outputs = model(image)
    count = len(blazeface.anchors((64, 96)))
    assert count == 2 * 4 * 6 + 6 * 2 * 3
    assert outputs["offsets"].shape == (1, count, 16)
    assert outputs["logits"].shape == (1, count, 2)
    compiled = model.predict(image, verbose=0)
    np.testing.assert_allclose(compiled["offsets"], outputs["offsets"], atol=1e-5)


def test_anchors_stand_in_the_middle_of_their_cells():
    anchors = blazeface.anchors()
    assert anchors.shape == (896, 2)
    np.testing.assert_array_equal(anchors[:4], [[8, 8], [8, 8], [24, 8], [24, 8]])
    np.testing.assert_array_equal(anchors[512:519], [[16, 16]] * 6 + [[48, 16]])
    np.testing.assert_array_equal(anchors[-1], [240, 240])


def test_boxes_and_points_are_told_from_the_middle_of_the_anchor():
    offsets = np.zeros((1, 28, 16), "float32")
    offsets[0, 1] = [4, -2, 16, 8, *range(12)]
    boxes, points = (np.asarray(part) for part in blazeface.decode(offsets, (32, 64)))
    np.testing.assert_allclose(boxes[0, 1], [4 / 64, 2 / 32, 20 / 64, 10 / 32])
    np.testing.assert_allclose(boxes[0, 2], [24 / 64, 8 / 32, 24 / 64, 8 / 32])
    np.testing.assert_allclose(points[0, 1], (8 + np.arange(12).reshape(6, 2)) / [64, 32])
