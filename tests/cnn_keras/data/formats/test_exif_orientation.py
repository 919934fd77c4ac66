"""Annotations of a picture as it was stored: turned as its pixels are."""

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data import run_length
from cnn_keras.data.annotation import Landmark, Object
from cnn_keras.data.formats import exif_orientation


@pytest.mark.parametrize("turn", list(Image.Transpose), ids=lambda turn: turn.name)
def test_box_mask_and_landmarks_lie_where_the_pixels_came_to_lie(turn):
    stored = np.zeros((20, 40), np.uint8)
    stored[3:9, 5:17] = 255
    box, corner = (5.0, 3.0, 17.0, 9.0), (16, 3)  # the pixel of the upper right corner
    stored[corner[::-1]] = 128
    turned = np.asarray(Image.fromarray(stored).transpose(turn))
    rows, columns = np.nonzero(turned)
    mark = Landmark("corner", corner[0] + 0.5, corner[1] + 0.5)
    for mask in (run_length.encode(stored > 0), run_length.rectangle(box)):
        found = exif_orientation.transpose(Object(box, "a", mask=mask, landmarks=(mark,)), turn, (20, 40))
        assert found.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_array_equal(run_length.rasterize(found.mask, turned.shape), turned > 0)
        (row,), (column,) = np.nonzero(turned == 128)
        assert (found.landmarks[0].x, found.landmarks[0].y) == (column + 0.5, row + 0.5)
