"""Darknet-19 and Darknet-53, the classifiers that YOLO stands on.

Redmon and Farhadi, "YOLO9000: better, faster, stronger", 2016 (Darknet-19, table 6); the same, "YOLOv3: an incremental
improvement", 2018 (Darknet-53, table 1). Convolutions are numbered `conv1`, `conv2` and so on in the order of Darknet's
own configuration files, which is that of its `.weights` (`cnn_keras.weights.darknet`).

Differs from the papers: He initialisation; the momentum of the normalisation is 0.9 rather than 0.99, for trainings of
hundreds of steps rather than hundreds of thousands.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import keras
from keras import layers

from cnn_keras.layers import BatchNormalization
from cnn_keras.models.resnet import convolution

# Filters of each stage; 3×3 and 1×1 convolutions take turns, and a max-pooling stands before all stages but the first.
STAGES_19 = (
    (32,),
    (64,),
    (128, 64, 128),
    (256, 128, 256),
    (512, 256, 512, 256, 512),
    (1024, 512, 1024, 512, 1024),
)
DEPTHS_53 = (1, 2, 8, 8, 4)  # residual blocks of each stage


def darknet19(*, input_shape: tuple[int | None, ...] = (224, 224, 3), classes: int = 1000) -> keras.Model:
    """Darknet-19: 20,842,376 trained parameters and 2.791 G multiply-adds.

    Args:
        input_shape: (height, width, channels); height and width may be None.
        classes: length of the logits.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32, with
        stages `stage1` to `stage6` of strides 1 to 32.
    """
    image, numbers = keras.Input(input_shape, name="image"), count(1)
    x = convolution(trunk19(image, numbers)[-1], classes, 1, bias=True, name=f"conv{next(numbers)}")
    return keras.Model(image, layers.GlobalAveragePooling2D(dtype="float32", name="logits")(x), name="darknet19")


def darknet53(*, input_shape: tuple[int | None, ...] = (256, 256, 3), classes: int = 1000) -> keras.Model:
    """Darknet-53: 41,609,928 trained parameters and 9.285 G multiply-adds.

    Args:
        input_shape: (height, width, channels); height and width may be None.
        classes: length of the logits.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32, with
        stages `stage1` to `stage5` of strides 2 to 32.
    """
    image = keras.Input(input_shape, name="image")
    x = layers.GlobalAveragePooling2D(name="pool")(trunk53(image, count(1))[-1])
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="darknet53")


def trunk19(x: keras.KerasTensor, numbers: Iterator[int]) -> list[keras.KerasTensor]:
    """Darknet-19 without its last convolution: from (batch, height, width, 3) to the six stages, strides 1 to 32."""
    stages = []
    for stage, filters in enumerate(STAGES_19, start=1):
        if stage > 1:
            x = layers.MaxPooling2D(2, padding="same", name=f"pool{stage - 1}")(x)
        for place, width in enumerate(filters):
            x = unit(x, numbers, width, 1 if place % 2 else 3)
        x = layers.Identity(name=f"stage{stage}")(x)
        stages.append(x)
    return stages


def trunk53(
    x: keras.KerasTensor, numbers: Iterator[int], *, filters: int = 32, depths: Sequence[int] = DEPTHS_53
) -> list[keras.KerasTensor]:
    """Darknet-53 without its head: from (batch, height, width, 3) to the stages, of strides 2, 4, 8 and so on.

    Args:
        filters: of the first convolution; every stage has twice as many as the one before.
        depths: residual blocks of each stage.
    """
    x, stages = unit(x, numbers, filters, 3), []
    for stage, depth in enumerate(depths, start=1):
        x = unit(x, numbers, filters * 2**stage, 3, 2)
        for place in range(1, depth + 1):
            inner = unit(x, numbers, x.shape[-1] // 2, 1)
            x = layers.Add(name=f"stage{stage}_sum{place}")([x, unit(inner, numbers, x.shape[-1], 3)])
        x = layers.Identity(name=f"stage{stage}")(x)
        stages.append(x)
    return stages


def unit(x: keras.KerasTensor, numbers: Iterator[int], filters: int, size: int, stride: int = 1) -> keras.KerasTensor:
    """A convolution, normalised, and a leaky ReLU of slope 0.1; `numbers` counts the convolutions of the network."""
    name = f"conv{next(numbers)}"
    x = convolution(x, filters, size, stride, name=name)
    # Darknet divides by √variance + 10⁻⁶.
    x = BatchNormalization(momentum=0.9, epsilon=1e-6, name=f"{name}_norm")(x)
    return layers.LeakyReLU(0.1, name=f"{name}_leaky")(x)
