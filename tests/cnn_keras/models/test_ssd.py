"""SSD: a row of outputs for each anchor, and where anchors stand. The network is "ssd.ssd_mobilenet_v1"."""

import keras
import numpy as np

from cnn_keras import models
from cnn_keras.models import ssd


def test_every_anchor_has_offsets_and_logits_in_order():
    keras.utils.set_random_seed(0)
    model = models.build("ssd.ssd_mobilenet_v1", input_shape=(96, 160, 3), classes=2)
    outputs = model(np.zeros((1, 96, 160, 3), np.float32))
    count = len(ssd.anchors((96, 160)))
    assert count == 3 * 6 * 10 + 6 * (3 * 5 + 2 * 3 + 1 * 2 + 1 * 1 + 1 * 1)
    assert outputs["offsets"].shape == (1, count, 4)
    assert outputs["logits"].shape == (1, count, 2)


def test_anchors_stand_in_the_middle_of_their_cells_with_their_sizes():
    anchors = ssd.anchors()
    centres, sizes = (anchors[:, 2:] + anchors[:, :2]) / 2, anchors[:, 2:] - anchors[:, :2]
    assert anchors.shape == (5118, 4)
    np.testing.assert_allclose(centres[:6], [[0.5 / 32, 0.5 / 32]] * 3 + [[1.5 / 32, 0.5 / 32]] * 3, atol=1e-6)
    np.testing.assert_allclose(
        sizes[:3], [[0.1, 0.1], [0.2 * 2**0.5, 0.2 / 2**0.5], [0.2 / 2**0.5, 0.2 * 2**0.5]], rtol=1e-5
    )
    np.testing.assert_allclose(centres[-6:], 0.5, atol=1e-6)
    np.testing.assert_allclose(sizes[-6:-4], [[0.95, 0.95], [0.95**0.5, 0.95**0.5]], rtol=1e-5)
