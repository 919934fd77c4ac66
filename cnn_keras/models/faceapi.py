"""The two networks of face-api.js, whose weights `cnn_keras.weights.face_api` reads: a face's descriptor and landmarks.

`descriptor` is dlib's face recognition network of 29 convolutions (King, "High quality face recognition with deep
metric learning", dlib's blog, 2017), after He et al., "Deep residual learning for image recognition", 2015, with half
the filters and shortcuts without weights. `landmarks` is face-api.js' own (Mühler, 2018): four blocks of separable
convolutions, each fed with the sum of all before it, in the manner of Huang et al., "Densely connected convolutional
networks", 2017.

Differs from face-api.js: the scale behind each convolution of `descriptor` is a batch normalisation, which with the
published weights computes the same and can be trained.
"""

import keras
from keras import layers

from cnn_keras.layers import PadChannels
from cnn_keras.models import require_size
from cnn_keras.models.resnet import conv_norm, merged, norm

# Filters and names of the blocks of `descriptor`; the first of each stage halves height and width.
STAGES = (
    (32, ("conv32_1", "conv32_2", "conv32_3")),
    (64, ("conv64_down", "conv64_1", "conv64_2", "conv64_3")),
    (128, ("conv128_down", "conv128_1", "conv128_2")),
    (256, ("conv256_down", "conv256_1", "conv256_2")),
    (256, ("conv256_down_out",)),
)
BLOCKS = (32, 64, 128, 256)  # filters of the blocks of `landmarks`
PARTS = {"jaw": 17, "left_brow": 5, "right_brow": 5, "nose": 9, "left_eye": 6, "right_eye": 6, "mouth": 20}
NAMES = tuple(f"{part}_{number + 1}" for part, count in PARTS.items() for number in range(count))  # left in the picture
MEAN = (122.782, 117.001, 104.298)  # of RGB, subtracted before the division by 255


def descriptor(*, input_shape: tuple[int, ...] = (150, 150, 3), classes: int = 128) -> keras.Model:
    """dlib's network: 5,611,040 parameters and 271 M multiply-adds.

    Args:
        input_shape: (height, width, channels).
        classes: length of the logits, which are what is compared.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32, with
        stages `stage1` to `stage5`, of strides 4, 8, 16, 32 and 64.
    """
    require_size(input_shape, 103)
    x = image = keras.Input(input_shape, name="image")
    x = layers.ReLU(name="conv32_down_relu")(_halved(x, 32, 7, name="conv32_down"))
    x = layers.MaxPooling2D(3, strides=2, name="pool0")(x)
    for number, (filters, blocks) in enumerate(STAGES):
        for block in blocks:
            x = (_down if "down" in block else _same)(x, filters, name=block)
        x = layers.Identity(name=f"stage{number + 1}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, use_bias=False, dtype="float32", name="logits")(x), name="dlib")


def landmarks(*, input_shape: tuple[int, ...] = (112, 112, 3), classes: int = 136) -> keras.Model:
    """face-api.js' network of landmarks: 356,840 parameters and 52 M multiply-adds.

    Args:
        input_shape: (height, width, channels).
        classes: x and y of each landmark, in [0, 1] of the picture; the published weights know those of NAMES.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32.
    """
    require_size(input_shape, 16)
    x = image = keras.Input(input_shape, name="image")
    for number, filters in enumerate(BLOCKS):
        x = _dense(x, filters, name=f"dense{number}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="landmarks")


def _halved(x: keras.KerasTensor, filters: int, size: int, *, name: str) -> keras.KerasTensor:
    """A convolution of stride 2 that pads nothing, normalised."""
    convolution = layers.Conv2D(filters, size, 2, use_bias=False, kernel_initializer="he_normal", name=name)
    return norm(convolution(x), name=f"{name}_norm")


def _same(x: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    residue = layers.ReLU(name=f"{name}_conv1_relu")(conv_norm(x, filters, 3, name=f"{name}_conv1"))
    return merged(x, conv_norm(residue, filters, 3, name=f"{name}_conv2"), name=name)


def _down(x: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    """Halve: the shortcut is averaged, new channels and, where the convolution gives a row less, that are zeros."""
    residue = layers.ReLU(name=f"{name}_conv1_relu")(_halved(x, filters, 3, name=f"{name}_conv1"))
    residue = conv_norm(residue, filters, 3, name=f"{name}_conv2")
    x = layers.AveragePooling2D(2, name=f"{name}_shortcut")(x)
    missing = [size - residue_size for size, residue_size in zip(x.shape[1:3], residue.shape[1:3], strict=True)]
    if any(missing):
        residue = layers.ZeroPadding2D([(0, count) for count in missing], name=f"{name}_rows")(residue)
    if x.shape[-1] != filters:
        x = PadChannels(filters, name=f"{name}_zeros")(x)
    return merged(x, residue, name=name)


def _dense(x: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    """Four convolutions, the first of stride 2; each takes the rectified sum of what those before it gave."""
    convolution = layers.Conv2D if name == "dense0" else layers.SeparableConv2D
    x = total = layers.ReLU(name=f"{name}_relu0")(convolution(filters, 3, 2, "same", name=f"{name}_conv0")(x))
    for number in range(1, 4):
        y = layers.SeparableConv2D(filters, 3, padding="same", name=f"{name}_conv{number}")(x)
        total = layers.Add(name=f"{name}_sum{number}")([total, y])
        x = layers.ReLU(name=f"{name}_relu{number}")(total)
    return x
