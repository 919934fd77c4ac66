"""What do libraries make of the same file: decoders, resizing, and where a pixel of the result is read?

    python tests/benchmarks/bench_pixels.py [--windows 200]

Four tables, in levels of 0–255 where nothing else is said:

- JPEG and PNG of many kinds, decoded by TensorFlow, Pillow, OpenCV, libjpeg-turbo (simplejpeg) and, if it is installed,
  torchvision, and by the four ways of this project: what a training reads, the exported graph, and the servers without
  TensorFlow. Largest and mean difference from TensorFlow's accurate method.
- A photograph made smaller and larger by each library, beside `cnn_keras.ops.resize.resize_image`.
- Decisions of EfficientNet-Lite0, with ImageNet's weights, that change with the decoder or the resizing. Windows of the
  photographs of scikit-learn and scikit-image; `make samples` installs the latter and the weights.
- The place that each pixel of a row of four is read at in one of eight: of resizing, warps, crops and strides.
"""

import argparse
import importlib.util
import io
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import simplejpeg
import tensorflow as tf
from PIL import Image

from cnn_keras.data import image_decoding
from cnn_keras.data.files import image_pixels
from cnn_keras.data.sources.synthetic import composites
from cnn_keras.ops.resize import resize_image

SMALLER, LARGER, NETWORK = (224, 224), (900, 1200), (224, 224)
LITE = "efficientnet.efficientnet_lite0"


def decoders():
    """Name: a function of bytes to uint8 (height, width, 3)."""
    found = {
        "TensorFlow, accurate": lambda data: tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE").numpy(),
        "TensorFlow, default": lambda data: tf.io.decode_jpeg(data, 3).numpy(),
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "OpenCV": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | 128),
        "simplejpeg": lambda data: simplejpeg.decode_jpeg(data, "RGB"),
    }
    if importlib.util.find_spec("torchvision"):
        found["torchvision"] = by_torchvision
    found["cnn-keras, training"] = lambda data: image_decoding.record_pixels(data, 3)
    found["cnn-keras, exported graph"] = lambda data: image_decoding.decode(tf.constant(data), channels=3).numpy()
    found["cnn-keras, other engines"] = lambda data: image_pixels.decode(data, channels=3)
    return found


def by_torchvision(data):
    import torch
    from torchvision.io import ImageReadMode, decode_image

    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return decode_image(encoded, ImageReadMode.RGB).permute(1, 2, 0).numpy()


def files(photo):
    """Kind of file: a window of a photograph in it."""
    picture = Image.fromarray(photo[:301, :403])
    levels = photo[:301, :403, 0].astype(np.uint16) * 256 + photo[:301, :403, 1]
    return {
        **{f"JPEG, quality {quality}": encoded(picture, "JPEG", quality=quality) for quality in (50, 75, 95, 100)},
        "JPEG, 4:4:4": encoded(picture, "JPEG", quality=90, subsampling=0),
        "JPEG, 4:2:2": encoded(picture, "JPEG", quality=90, subsampling=1),
        "JPEG, progressive": encoded(picture, "JPEG", quality=90, progressive=True),
        "JPEG, grey": encoded(picture.convert("L"), "JPEG", quality=90),
        "PNG": encoded(picture, "PNG"),
        "PNG, palette": encoded(picture.quantize(200), "PNG"),
        "PNG, transparent": encoded(Image.merge("RGBA", (*picture.split(), picture.convert("L"))), "PNG"),
        "PNG, 16 bits grey": encoded(Image.fromarray(levels), "PNG"),
    }


def encoded(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def resizers():
    """Name: a function of uint8 (height, width, 3) and a size to uint8 of that size."""

    def by_tensorflow(method, antialias):
        def resized(image, size):
            values = tf.image.resize(image, size, method=method, antialias=antialias)
            return tf.saturate_cast(tf.round(values), tf.uint8).numpy()

        return resized

    def by_opencv(interpolation):
        return lambda image, size: cv2.resize(image, size[::-1], interpolation=interpolation)

    def by_pillow(image, size):
        return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))

    return {
        "cnn-keras": lambda image, size: resize_image(image, size).numpy(),
        "cnn-keras, streamed training": image_pixels.resize_fast,
        "tf.image, bilinear, antialias": by_tensorflow("bilinear", True),
        "tf.image, bilinear": by_tensorflow("bilinear", False),
        "tf.image, area": by_tensorflow("area", False),
        "Pillow, bilinear": by_pillow,
        "OpenCV, linear": by_opencv(cv2.INTER_LINEAR),
        "OpenCV, area": by_opencv(cv2.INTER_AREA),
    }


def positions():
    """Name: where each of the four pixels of a result reads in a row of eight whose levels are their numbers."""
    row = np.tile(np.arange(8, dtype=np.float32)[None, :, None], (8, 1, 1))
    box, size = np.array([[0, 0, 1, 1]], np.float32), (4, 4)
    half = np.array([[2, 0, 0.5], [0, 2, 0.5]])
    corner = np.array([[2.0, 0, 0], [0, 2, 0]])
    inverse = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = {
        "tf.image.resize, bilinear; cv2.resize, linear": tf.image.resize(row, size)[..., 0],
        "cv2.warpAffine with the scale alone": cv2.warpAffine(row, corner, size, flags=inverse),
        "cv2.warpAffine, half pixels added": cv2.warpAffine(row, half, size, flags=inverse),
        "TensorFlow 1, half_pixel_centers=False": tf.raw_ops.ResizeBilinear(images=row[None], size=size)[0, ..., 0],
        "TensorFlow 1, align_corners=True": tf.raw_ops.ResizeBilinear(images=row[None], size=size, align_corners=True)[
            0, ..., 0
        ],
        "tf.image.crop_and_resize of the whole": tf.image.crop_and_resize(row[None], box, [0], size)[0, ..., 0],
        "cnn_keras.ops.roi.RoIAlign of the whole": by_roi_align(row, size),
    }
    middle = np.zeros((3, 3, 1, 1), np.float32)
    middle[1, 1] = 1
    found["3×3, stride 2, Keras's same"] = tf.nn.conv2d(row[None], middle, 2, "SAME")[0, ..., 0]
    padded = np.pad(row, ((1, 1), (1, 1), (0, 0)))
    found["3×3, stride 2, padding 1 of PyTorch and Darknet"] = tf.nn.conv2d(padded[None], middle, 2, "VALID")[0, ..., 0]
    return {name: np.asarray(values)[1] for name, values in found.items()}


def by_roi_align(row, size):
    from cnn_keras.ops.roi import RoIAlign

    return RoIAlign(size[0])(tf.constant(row[None]), tf.constant([[[0.0, 0.0, 1.0, 1.0]]]))[0, 0, ..., 0]


def lite():
    """Pixels uint8 (N, 224, 224, 3) to classes (N,)."""
    import keras

    from cnn_keras import models
    from cnn_keras.weights import pretrained

    network = models.build(LITE, weights="imagenet")
    normalize = keras.layers.Normalization(**pretrained.normalization(LITE))
    return lambda pixels: network.predict(normalize(pixels), batch_size=32, verbose=0).argmax(axis=-1)


def windows(photos, count):
    """JPEGs of quality 60 to 95: windows of at least 300 pixels."""
    rng, found = np.random.default_rng(0), []
    for number in range(count):
        photo = photos[number % len(photos)]
        height, width = (int(rng.integers(min(300, side), side + 1)) for side in photo.shape[:2])
        top, left = (
            int(rng.integers(0, side - own + 1)) for side, own in zip(photo.shape, (height, width), strict=False)
        )
        window = Image.fromarray(photo[top : top + height, left : left + width])
        found.append(encoded(window, "JPEG", quality=int(rng.integers(60, 96))))
    return found


def difference(values, right):
    if values.shape != right.shape:
        return "other shape"
    apart = np.abs(values.astype(int) - right)
    return f"{apart.max():4d} {apart.mean():8.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=200)
    options = parser.parse_args()
    photo = composites.photographs_of("sklearn")[0]
    print("Decoding: largest and mean difference from TensorFlow's accurate method")
    known, same = decoders(), 0
    for kind, data in files(photo).items():
        right = known["TensorFlow, accurate"](data)
        for name in known.keys() - ({"simplejpeg"} if kind.startswith("PNG") else set()):
            values = known[name](data)
            if np.array_equal(values, right):
                same += 1
            else:
                print(f"  {kind:20} {name:28} {difference(values, right)}")
    print(f"  the other {same} pairs of a file and a decoder: no difference")
    print(f"\nResizing {photo.shape[1]} x {photo.shape[0]}: largest and mean difference from cnn-keras")
    for name, resize in resizers().items():
        for size in (SMALLER, LARGER):
            right = resize_image(photo, size).numpy()
            print(f"  {name:32} to {size[1]:4} x {size[0]:3} {difference(resize(photo, size), right)}")
    print("\nThe column that each pixel reads, of eight columns made four")
    for name, row in positions().items():
        print(f"  {name:50}", *(f"{value:6.2f}" for value in row))
    photos = [*composites.photographs_of("sklearn"), *composites.photographs_of("skimage")]
    data, decide = windows(photos, options.windows), lite()
    ours = np.stack([resize_image(image_decoding.record_pixels(one, 3), NETWORK).numpy() for one in data])
    right = decide(ours)
    print(f"\n{LITE} on {len(data)} windows: {len(set(right.tolist()))} classes; decisions that change with")
    for name, decode in known.items():
        pixels = np.stack([resize_image(decode(one), NETWORK).numpy() for one in data])
        print(f"  decoding by {name:32} {(decide(pixels) != right).sum():4d}")
    for name, resize in resizers().items():
        pixels = np.stack([resize(image_decoding.record_pixels(one, 3), NETWORK) for one in data])
        print(f"  resizing by {name:32} {(decide(pixels) != right).sum():4d}")


if __name__ == "__main__":
    main()
