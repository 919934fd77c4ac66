"""Tiles: they cover the photograph, show its pixels, and hold the boxes that are inside them."""

import io

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data.annotation import Item, Object
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources import tiles

HEIGHT, WIDTH = 90, 130


@pytest.fixture(scope="module")
def photograph():
    """Every pixel is its own coordinates: red its row, green its column."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
    objects = (Object((10, 10, 20, 20), "in"), Object((45, 30, 65, 50), "across", mask=((45, 30, 65, 30, 65, 50),)))
    return Item("p.png", lambda: encode_png(pixels), objects, group=None, size=(HEIGHT, WIDTH))


@pytest.mark.parametrize(("size", "overlap", "rows", "columns"), [(50, 0.0, 2, 3), (50, 0.5, 3, 5), (100, 0.2, 1, 2)])
def test_tiles_cover_the_photograph_with_its_own_pixels(photograph, size, overlap, rows, columns):
    found = tiles.tile(photograph, (HEIGHT, WIDTH), size=size, overlap=overlap)
    assert len(found) == rows * columns
    seen = np.zeros((HEIGHT, WIDTH), int)
    for tile in found:
        pixels = np.asarray(Image.open(io.BytesIO(tile.read())))
        left, top = (int(number) for number in tile.id.removeprefix("p.png@").split(","))
        assert tile.size == pixels.shape[:2] == (min(size, HEIGHT), min(size, WIDTH))
        assert pixels[0, 0].tolist() == [top, left, 0]
        assert pixels[-1, -1].tolist() == [top + pixels.shape[0] - 1, left + pixels.shape[1] - 1, 0]
        seen[top : top + pixels.shape[0], left : left + pixels.shape[1]] += 1
        assert tile.group == "p.png"
    assert seen.min() == 1


def test_a_box_is_cut_to_a_tile_that_shows_enough_of_it(photograph):
    left, right = (tiles.crop(photograph, window, keep=0.4) for window in ((0, 0, 57, 90), (57, 0, 130, 90)))
    assert [one.name for one in left.objects] == ["in", "across"]
    assert left.objects[1].box == (45, 30, 57, 50)  # 12 of its 20 pixels
    assert [one.box for one in right.objects] == [(0, 30, 8, 50)]  # exactly 0.4
    assert right.objects[0].mask == ((-12, 30, 8, 30, 8, 50),)
    assert not tiles.crop(photograph, (57, 0, 130, 90), keep=0.41).objects
    assert not tiles.crop(photograph, (65, 0, 130, 90), keep=0.01).objects


def test_a_photograph_no_larger_than_a_tile_stays_whole(photograph):
    assert tiles.tile(photograph, (HEIGHT, WIDTH), size=130) == [photograph]
