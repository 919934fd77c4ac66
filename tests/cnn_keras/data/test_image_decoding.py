"""Files of records, decoded by OpenCV, against the guarded decoder."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras.data import input_pipeline
from cnn_keras.data.image_decoding import decode, decode_record
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
