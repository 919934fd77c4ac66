"""Files of records, decoded by OpenCV, against the guarded decoder."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras.data import input_pipeline
from cnn_keras.data.files import image_headers
from cnn_keras.data.image_decoding import decode, decode_record, image_size, jpeg_reduction, record_pixels
from cnn_keras.data.transforms import augment
from cnn_keras.ops.resize import resize_image

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)).resize((61, 43))


def file(mode="RGB", kind="JPEG", **settings):
    out = io.BytesIO()
    picture = PICTURE.convert("I").convert(mode) if mode == "I;16" else PICTURE.convert(mode)
    picture.save(out, kind, **settings)
    return out.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return file(exif=exif)


FILES = {
    "full colour": file(quality=100, subsampling=0),
    "half colour": file(quality=75, subsampling=1),
    "quarter colour": file(quality=30, subsampling=2),
    "progressive": file(progressive=True),
    "restarts": file(restart_marker_blocks=2),
    "grey": file("L"),
    "turned by EXIF": turned(),
    "PNG": file(kind="PNG"),
    "transparent": file("RGBA", "PNG"),
    "palette": file("P", "PNG"),
    "grey PNG": file("L", "PNG"),
    "16 bits": file("I;16", "PNG"),
}


@pytest.mark.parametrize("channels", [1, 3])
def test_known_files_have_the_pixels_of_the_guarded_decoder(channels):
    for name, data in FILES.items():
        right = decode(tf.constant(data), channels=channels)
        np.testing.assert_array_equal(decode_record(tf.constant(data), channels=channels), right, err_msg=name)


def test_a_batch_is_decoded_and_resized_as_its_files_alone():
    decoder = input_pipeline.ImageDecoder(input_pipeline.Shape((43, 61), 3))
    small = io.BytesIO()
    PICTURE.resize((20, 30)).save(small, "JPEG")
    files = [*FILES.values(), small.getvalue()]
    rows = tf.data.Dataset.from_tensor_slices((files, range(len(files))))
    batches = augment.augmented_batches(rows, lambda data, number: ({"image": data}, number), None, 5, decoder)
    images = np.concatenate([batch["image"] for batch in batches.as_numpy_iterator()])
    assert images.dtype == np.uint8
    for data, image in zip(files, images, strict=True):
        np.testing.assert_array_equal(image, resize_image(decode(tf.constant(data), channels=3), (43, 61)))
        np.testing.assert_array_equal(image, decoder(tf.constant(data)))


def enlarged(size, **settings):
    out = io.BytesIO()
    PICTURE.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", **settings)
    return out.getvalue()


@pytest.mark.parametrize(
    ("size", "divisor"),
    [
        ((255, 400), 1),
        ((256, 255), 1),
        ((256, 256), 2),
        ((511, 999), 2),
        ((512, 512), 4),
        ((1030, 1400), 8),
        ((2048, 1100), 8),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_of_four_times_the_size_or_more_is_decoded_at_the_smallest_twice_as_large(size, divisor, channels):
    data = enlarged(size, progressive=channels == 1)
    reduction, extent = jpeg_reduction(data, (64, 64), fit="stretch")
    assert (reduction, extent) == (divisor, (size[1] / divisor, size[0] / divisor) if divisor > 1 else None)
    least = record_pixels(data, channels, reduction)
    assert least.shape == (*(-(-side // divisor) for side in size[::-1]), channels)
    with Image.open(io.BytesIO(data)) as image:  # Pillow asks the same library for the same size
        image.draft("L" if channels == 1 else "RGB", (128, 128))
        np.testing.assert_array_equal(least, np.asarray(image).reshape(least.shape))


def test_decoding_for_training_reduces_in_a_graph_as_without_one_and_decoding_for_all_else_is_exact():
    shape, data = input_pipeline.Shape((64, 64), 3), enlarged((1000, 600))
    exact, reduced = input_pipeline.ImageDecoder(shape), input_pipeline.ImageDecoder(shape, reduced=True)
    right = resize_image(decode(tf.constant(data), channels=3), shape.size)
    np.testing.assert_array_equal(exact.decode(data), right)
    np.testing.assert_array_equal(exact(tf.constant(data)), right)
    pixels = reduced.decode(data)
    np.testing.assert_array_equal(pixels, reduced(tf.constant(data)))
    np.testing.assert_array_equal(pixels, tf.function(reduced)(tf.constant(data)))
    difference = np.abs(pixels.astype(int) - right.numpy())
    assert 0 < difference.mean() < 1


@pytest.mark.parametrize(
    ("fit", "reduction"),
    [("stretch", 2), ("crop", 2), ("pad", 4)],  # 64 × 64 pixels, 128 × 64, and 64 × 32 within a border
)
def test_a_jpeg_is_reduced_by_what_it_becomes_and_not_by_its_frame(fit, reduction):
    assert jpeg_reduction(enlarged((600, 300)), (64, 64), fit=fit)[0] == reduction


def test_files_that_are_not_large_jpegs_are_never_reduced():
    for data in FILES.values():
        assert jpeg_reduction(data, (43, 61), fit="stretch") == (1, None)
        assert image_size(tf.constant(data)).numpy().tolist() == [43, 61]
    assert jpeg_reduction(FILES["PNG"], (4, 6), fit="stretch") == (1, None)


def test_the_size_that_a_jpeg_states_is_found_behind_other_segments():
    for settings in ({}, {"progressive": True}, {"exif": b"Exif\0\0" + b"\xff\xc0" * 99}, {"comment": b"\xff\xc0" * 9}):
        data = enlarged((70, 40), **settings)
        assert image_headers.jpeg_size(data) == (40, 70)
        assert image_headers.jpeg_size(data[:2] + b"\xff\xff" + data[2:]) == (40, 70)  # padding
        assert image_headers.jpeg_size(data[:30]) is None
    assert image_headers.jpeg_size(b"\xff\xd8\xff\xd9") is image_headers.jpeg_size(b"\xff\xd8") is None
