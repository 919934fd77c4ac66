"""U-Net, in two and in three dimensions.

Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image segmentation", 2015; Çiçek,
Abdulkadir, Lienkamp, Brox and Ronneberger, "3D U-Net: learning dense volumetric segmentation from sparse annotation",
2016. A path of poolings sees what is there, a path of transposed convolutions brings it back to where it is, and on
each level the maps of the first are handed across to the second.

Convolutions without padding, as published, answer for the middle of what they see: 388×388 pixels of 572×572. With
`padding="same"` they answer for all of it.

Differs from the papers: He initialisation in three dimensions too; the normalisation of the three-dimensional network
has no scale – the ReLU and the convolution behind it need none –, which gives the published number of parameters.
`on_backbone` is later practice: the path down is any network of the catalogue.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.layers import BatchNormalization
from cnn_keras.models.backbone import feature_extractor, strides

KINDS = {  # by spatial axes: convolution, transposed convolution, pooling, cropping
    2: (layers.Conv2D, layers.Conv2DTranspose, layers.MaxPooling2D, layers.Cropping2D),
    3: (layers.Conv3D, layers.Conv3DTranspose, layers.MaxPooling3D, layers.Cropping3D),
}


def u_network(
    first: float,
    *,
    input_shape: tuple[int | None, ...] = (572, 572, 1),
    classes: int = 2,
    filters: int = 64,
    depth: int = 4,
    padding: str = "valid",
    batch_norm: bool = False,
    dropout: float = 0.5,
    name: str,
) -> keras.Model:
    """The U of both papers.

    Args:
        first: the share of a level's filters that the first of its convolutions on the path down has. Where it is not
            1, the transposed convolutions keep the number of maps, and have no bias, as in three dimensions.
        input_shape: two or three sizes and channels; sizes may be None. Without padding they must leave whole numbers
            at every pooling, and with it be multiples of 2 to the power of `depth`.
        classes: of a pixel or voxel.
        filters: of the first level; every level below has twice as many.
        depth: poolings.
        padding: "valid" or "same".
        batch_norm: normalise after every convolution, which then has no bias.
        dropout: share of the values of the two lowest levels of the path down that is dropped in training, in [0, 1).
        name: of the model.

    Returns:
        A model from `image` (batch, *sizes, channels), floats, to `logits` (batch, *sizes that are left, classes),
        float32.

    Raises:
        Fault: for other sizes.
    """
    lost = 4 if padding == "valid" else 0  # by two convolutions
    _require_halves(input_shape[:-1], depth, lost)
    settings: dict[str, Any] = {"padding": padding, "batch_norm": batch_norm}
    x = image = keras.Input(input_shape, name="image")
    skips = []
    for level in range(depth + 1):
        wide = filters * 2**level
        x = _twice(x, (round(wide * first), wide), name=f"down{level + 1}", **settings)
        if dropout and level >= depth - 1:
            x = layers.Dropout(dropout, name=f"dropout{level + 1}")(x)
        if level < depth:
            skips.append(x)
            x = KINDS[len(input_shape) - 1][2](2, name=f"pool{level + 1}")(x)
    surplus = -lost  # pixels that a handed map is larger than the risen one
    for level in reversed(range(depth)):
        wide, surplus = filters * 2**level, 4 * lost + 2 * surplus
        x = _risen(x, wide if first == 1 else x.shape[-1], bias=first == 1, name=f"up{level + 1}")
        x = _concatenate_skip(skips[level], x, surplus // 2, name=f"up{level + 1}")
        x = _twice(x, (wide, wide), name=f"up{level + 1}", **settings)
    return keras.Model(image, _logits(x, classes), name=name)


def on_backbone(
    *,
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    classes: int = 21,
    backbone: str = "resnet.resnet18",
    filters: int = 16,
    batch_norm: bool = True,
) -> keras.Model:
    """A U whose path down is a network of the catalogue; its maps of strides 1, 2, 4 … 32, as far as it has them.

    Args:
        input_shape: (height, width, channels), height and width multiples of the largest stride.
        classes: of a pixel.
        backbone: name of a builder.
        filters: of the path up at the picture's own size; every level below has twice as many.
        batch_norm: normalise after every convolution of the path up.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, height, width, classes),
        float32.

    Raises:
        Fault: for other sizes, and when the backbone has no map of stride 2.
    """
    strides_ = strides(backbone, input_shape)
    _require_halves(input_shape[:-1], len(strides_) - 1, lost=0)
    trunk = feature_extractor(backbone, input_shape, strides_ if len(strides_) > 1 else [1, 2])
    *skips, x = trunk.outputs
    for level in reversed(range(len(skips))):
        wide = filters * 2**level
        x = _risen(x, wide, bias=True, name=f"up{level + 1}")
        x = _concatenate_skip(skips[level], x, 0, name=f"up{level + 1}")
        x = _twice(x, (wide, wide), padding="same", batch_norm=batch_norm, name=f"up{level + 1}")
    return keras.Model(trunk.input, _logits(x, classes), name=f"unet_{backbone.partition('.')[2]}")


def _require_halves(sizes: Sequence[int | None], depth: int, lost: int) -> None:
    """Refuse sizes of which the convolutions, that lose so many pixels a level, leave odd numbers at a pooling."""
    step, least = 2**depth, max(lost, 1)  # with less at the bottom, nothing would be left at the top
    for _ in range(depth):
        least = 2 * (least + lost)
    least += lost
    for size in (size for size in sizes if size is not None):
        if size < least or (size - least) % step:
            near = least + step * max(0, round((size - least) / step))
            raise Fault(
                f"input_shape must have sides that can be halved {depth} times"
                f"{f', with {lost} pixels lost before each time' if lost else ''}, {least} or a multiple of {step} "
                f"more, got {size}; take {near}"
            )


def _twice(
    x: keras.KerasTensor, widths: Sequence[int], *, padding: str, batch_norm: bool, name: str
) -> keras.KerasTensor:
    """Two 3×3 convolutions, or 3×3×3."""
    convolve = KINDS[len(x.shape) - 2][0]
    for place, filters in enumerate(widths, start=1):
        layer = f"{name}_conv{place}"
        x = convolve(filters, 3, padding=padding, use_bias=not batch_norm, kernel_initializer="he_normal", name=layer)(
            x
        )
        if batch_norm:
            x = BatchNormalization(scale=False, momentum=0.9, name=f"{layer}_norm")(x)
        x = layers.ReLU(name=f"{layer}_relu")(x)
    return x


def _risen(x: keras.KerasTensor, filters: int, *, bias: bool, name: str) -> keras.KerasTensor:
    """A map at twice its size."""
    rise = KINDS[len(x.shape) - 2][1]
    return rise(filters, 2, 2, use_bias=bias, kernel_initializer="he_normal", name=f"{name}_rise")(x)


def _concatenate_skip(skip: keras.KerasTensor, risen: keras.KerasTensor, edge: int, name: str) -> keras.KerasTensor:
    """The risen map behind the middle of the one that is handed across, which is `edge` pixels larger on each side."""
    crop = KINDS[len(risen.shape) - 2][3]
    middle = crop(edge, name=f"{name}_crop")(skip) if edge else skip
    return layers.Concatenate(name=f"{name}_join")([middle, risen])


def _logits(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    return KINDS[len(x.shape) - 2][0](classes, 1, kernel_initializer="he_normal", dtype="float32", name="logits")(x)


# Figure 1 of the first paper: 31.0 M parameters, 572×572 to 388×388; figure 2 of the second: 19.1 M, 132×132×116 to
# 44×44×28. The small ones are ours, for two cores.
unet = partial(u_network, 1, name="unet")
unet3d = partial(
    u_network, 0.5, input_shape=(132, 132, 116, 3), classes=3, depth=3, batch_norm=True, dropout=0.0, name="unet3d"
)
unet_small = partial(
    u_network,
    1,
    input_shape=(128, 128, 1),
    filters=16,
    depth=3,
    padding="same",
    batch_norm=True,
    dropout=0.0,
    name="unet_small",
)
unet3d_small = partial(
    u_network,
    0.5,
    input_shape=(48, 48, 48, 1),
    classes=3,
    filters=16,
    depth=2,
    padding="same",
    batch_norm=True,
    dropout=0.0,
    name="unet3d_small",
)
