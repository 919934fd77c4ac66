"""A named photograph is read upright, or it is said what is wrong with it."""

import os

import numpy as np
import pytest
from PIL import Image

from cnn_keras.errors import Fault
from pipelines.data import image_io

PIXELS = np.arange(4 * 6 * 3, dtype="uint8").reshape(4, 6, 3)


def test_it_is_turned_upright_and_made_grey_if_need_be(tmp_path):
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held on its side
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(image_io.read(tmp_path / "turned.png"), np.rot90(PIXELS, -1))
    assert image_io.read(tmp_path / "turned.png", channels=1).shape == (6, 4, 1)


@pytest.mark.parametrize(
    ("content", "code"), [(None, Fault.INPUT), (b"nothing", Fault.DATA), (b"\xff\xd8\xff", Fault.DATA)]
)
def test_what_cannot_be_read_is_told_by_the_argument_that_named_it(tmp_path, content, code):
    path = tmp_path / "a.jpg"
    if content:
        path.write_bytes(content)
    with pytest.raises(Fault, match=r"--style .*a\.jpg") as fault:
        image_io.read(path, what="--style")
    assert fault.value.code == code


def test_a_named_pipe_is_told_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(Fault, match="named pipe"):
        image_io.read(tmp_path / "a.jpg")
