"""What decoders, resizing and Keras's augmentation do against expectation: docs/explanation/surprises.md."""

import base64
import io

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.layers.preprocessing.image_preprocessing import aug_mix
from PIL import Image
from sklearn.datasets import load_sample_image

from cnn_keras.data import image_decoding
from cnn_keras.data.files import image_pixels

# Four rows of (200, 100, 50) over four of (10, 20, 30), written by libjxl without loss.
JPEG_XL = {
    "bare": "/wpBQCQIBAEAdABLGIsVwgnibR3lFwgBoJDd+9jRegAAAAAIAAAAAA==",
    "container": "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAAwanhsY/8KQUAkCAQBAHQASxiLFcIJ4m0d5RcIAaCQ3fvY0XoA"
    "AAAACAAAAAA=",
}


@pytest.fixture(scope="module")
def photo():
    return load_sample_image("china.jpg")


def encoded(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def apart(one, other):
    """The largest difference, in levels of 0 to 255."""
    return np.abs(np.asarray(one, float) - np.asarray(other, float)).max()


def test_area_of_opencv_is_that_of_tensorflow_and_not_pillows_box(photo):
    area = tf.image.resize(photo, (224, 224), "area")
    assert apart(area, cv2.resize(photo, (224, 224), interpolation=cv2.INTER_AREA)) < 0.51  # it rounds
    assert apart(area, Image.fromarray(photo).resize((224, 224), Image.Resampling.BOX)) > 30


def test_resizing_without_antialiasing_lies_a_hundred_levels_from_that_with(photo):
    plain, smooth = (tf.image.resize(photo, (224, 224), antialias=antialias) for antialias in (False, True))
    assert apart(plain, smooth) > 90
    assert 5 < np.abs(plain - smooth).mean() < 10


def test_enlarging_is_the_same_everywhere_except_by_area(photo):
    linear = tf.image.resize(photo, (900, 1200), antialias=True)
    assert apart(linear, tf.image.resize(photo, (900, 1200))) < 0.01
    assert apart(linear, cv2.resize(photo, (1200, 900))) < 1.1
    assert apart(linear, Image.fromarray(photo).resize((1200, 900), Image.Resampling.BILINEAR)) < 1.1
    assert apart(linear, tf.image.resize(photo, (900, 1200), "area")) > 50


def test_png_of_16_bits_is_cut_to_8_not_rounded():
    deep = np.array([[0, 255, 256, 383, 384, 511, 65535]], np.uint16)
    data = cv2.imencode(".png", deep)[1].tobytes()
    np.testing.assert_array_equal(tf.io.decode_png(data).numpy()[..., 0], deep >> 8)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), deep >> 8)
    assert (np.round(deep / 257) != deep >> 8).any()


@pytest.mark.parametrize("kind", JPEG_XL)
def test_jpeg_xl_is_decoded_by_tensorflow(kind):
    pixels = tf.io.decode_image(base64.b64decode(JPEG_XL[kind]), channels=3, expand_animations=False).numpy()
    np.testing.assert_array_equal(pixels[:4], np.broadcast_to((200, 100, 50), (4, 8, 3)))
    np.testing.assert_array_equal(pixels[4:], np.broadcast_to((10, 20, 30), (4, 8, 3)))


@pytest.mark.parametrize("kind", ["AVIF", "TIFF"])
def test_avif_and_tiff_are_not_decoded_by_tensorflow(kind, photo):
    with pytest.raises(tf.errors.InvalidArgumentError, match="JPEG XL, PNG, GIF, BMP, WebP required"):
        tf.io.decode_image(encoded(photo, kind))


def test_webp_of_one_picture_has_four_axes(photo):
    data = encoded(photo, "WEBP")
    assert tf.io.decode_image(data).shape == (1, 427, 640, 3)
    assert tf.io.decode_image(data, expand_animations=False).shape == (427, 640, 3)


def test_webp_with_transparency_is_refused_where_a_png_drops_it(photo):
    clear = np.dstack([photo[:32, :32], np.full((32, 32), 100, np.uint8)])
    png = tf.io.decode_image(encoded(clear, "PNG"), channels=3, expand_animations=False)
    np.testing.assert_array_equal(png, photo[:32, :32])
    with pytest.raises(tf.errors.InvalidArgumentError, match="channels"):
        tf.io.decode_image(encoded(clear, "WEBP"), channels=3, expand_animations=False)


def test_fast_jpeg_decoding_gets_worse_with_the_quality(photo):
    files = [encoded(photo, "JPEG", quality=quality) for quality in (75, 95, 100)]
    right = [tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE") for data in files]
    fast = [apart(tf.io.decode_jpeg(data), pixels) for data, pixels in zip(files, right, strict=True)]
    assert fast[0] < fast[1] < fast[2] > 25
    for data, pixels in zip(files, right, strict=True):
        np.testing.assert_array_equal(image_decoding.decode(data, channels=3), pixels)
        np.testing.assert_array_equal(image_pixels.decode(data, channels=3), pixels)


# Keras's augmentation moves boxes: a white rectangle shows where the box really is.

CORNERS = {"xyxy": (30, 20, 70, 40), "xywh": (30, 20, 40, 20), "center_xywh": (50, 30, 40, 20)}


def scene(form="xyxy"):
    images = np.zeros((1, 100, 100, 3), np.float32)
    images[0, 20:40, 30:70] = 255
    boxes = np.array([[CORNERS[form]]], np.float32)
    return {"images": images, "bounding_boxes": {"boxes": boxes, "labels": np.zeros((1, 1), np.float32)}}


def after(layer, form="xyxy"):
    """Where the rectangle is after the layer, and where its box: two arrays (left, top, right, bottom)."""
    moved = layer(scene(form), training=True)
    rows, columns = np.nonzero(np.asarray(moved["images"])[0, ..., 0] > 127)
    seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return np.array(seen), np.asarray(moved["bounding_boxes"]["boxes"])[0, 0]


def test_random_rotation_reads_every_box_as_corners():
    quarter = {form: keras.layers.RandomRotation((0.25, 0.25), bounding_box_format=form) for form in CORNERS}
    seen, box = after(quarter["xyxy"], "xyxy")
    np.testing.assert_array_equal(seen, (20, 30, 40, 70))
    np.testing.assert_allclose(box, seen, atol=1.01)  # one pixel off even then
    seen, (left, top, width, height) = after(quarter["xywh"], "xywh")
    np.testing.assert_array_equal(seen, (20, 30, 40, 70))
    assert apart((left, top, left + width, top + height), seen) > 20


def test_random_perspective_answers_in_corners_whatever_came_in():
    for form in CORNERS:  # so small a movement that nothing moves
        layer = keras.layers.RandomPerspective(factor=1.0, scale=1e-4, bounding_box_format=form, seed=1)
        _, box = after(layer, form)
        np.testing.assert_allclose(box, CORNERS["xyxy"], atol=0.1)


def test_random_crop_swaps_the_shifts_of_boxes():
    swapped = 0
    for seed in range(3):
        seen, box = after(keras.layers.RandomCrop(80, 80, seed=seed, bounding_box_format="xyxy"))
        right, down = CORNERS["xyxy"][0] - seen[0], CORNERS["xyxy"][1] - seen[1]
        np.testing.assert_allclose(box, np.array(CORNERS["xyxy"]) - (down, right, down, right))
        swapped += right != down
    assert swapped


def test_random_elastic_transform_bends_mask_and_picture_differently():
    images = np.zeros((1, 100, 100, 3), np.float32)
    images[0, 20:60, 30:70] = 255
    masks = (images[..., :1] > 0).astype(np.float32)
    layer = keras.layers.RandomElasticTransform(factor=1.0, scale=1.0, seed=1)
    moved = layer({"images": images, "segmentation_masks": masks}, training=True)
    picture, mask = np.asarray(moved["images"])[..., 0] > 127, np.asarray(moved["segmentation_masks"])[..., 0] > 0.5
    assert (picture != mask).sum() > 100
    with pytest.raises(NotImplementedError):
        after(keras.layers.RandomElasticTransform(factor=1.0, scale=1.0, bounding_box_format="xyxy"))


@pytest.mark.parametrize("layer", [keras.layers.MixUp, keras.layers.AugMix])
def test_mix_up_and_aug_mix_blend_mask_labels_into_numbers_that_are_none(layer):
    masks = np.zeros((2, 32, 32, 1), np.float32)
    masks[0, 8:], masks[1, :, 8:] = 3, 7
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    mixed = layer(seed=1)({"images": images, "segmentation_masks": masks}, training=True)
    assert not set(np.unique(mixed["segmentation_masks"])) <= {0, 3, 7}


def test_aug_mix_draws_its_operations_once_for_a_traced_training(monkeypatch):
    drawn = []
    choose = aug_mix.py_random.choice
    monkeypatch.setattr(aug_mix.py_random, "choice", lambda kinds: drawn.append(choose(kinds)) or drawn[-1])
    layer = keras.layers.AugMix(seed=1)
    images = tf.zeros((2, 16, 16, 3))
    traced = tf.function(lambda images: layer(images, training=True))
    traced(images)
    once = len(drawn)
    for _ in range(5):
        traced(images)
    assert once == len(drawn) > 0
    layer(images, training=True)  # without a graph it draws each time
    assert len(drawn) > once
