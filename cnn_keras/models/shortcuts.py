"""What becomes of a residual network whose shortcuts are not left alone: He, Zhang, Ren and Sun, "Identity mappings
in deep residual networks", 2016, section 3.1, figure 2 and table 1. All train worse than `resnet.resnet110`.

The networks are those of `resnet.small_residual_network` with one change in every block.
"""

from collections.abc import Callable
from functools import partial

import keras
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.models import resnet

Change = Callable[
    [keras.KerasTensor, keras.KerasTensor, keras.KerasTensor, int, str], tuple[keras.KerasTensor, keras.KerasTensor]
]


def study(
    change: Change, *, input_shape: tuple[int | None, ...] = (32, 32, 3), classes: int = 10, depth: int = 110, name: str
) -> keras.Model:
    """A CIFAR network whose blocks combine shortcut and residue by `change`.

    Args:
        change: function of the block's input, its shortcut of option A, its residue, stride and name, that returns
            the shortcut and the residue to be summed.
        input_shape: (height, width, channels); height and width may be None.
        classes: length of the logits.
        depth: layers with weights, 6n + 2.
        name: of the model.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32.

    Raises:
        Fault: when no n gives the depth.
    """
    if depth < 8 or depth % 6 != 2:
        raise Fault(f"depth must be 6n + 2, such as 20, 56 or 110, got {depth}")
    block = partial(_block, change=change)
    return resnet.small_network(block, depth // 6, input_shape=input_shape, classes=classes, name=name)


def _block(x: keras.KerasTensor, filters: int, stride: int, *, change: Change, name: str) -> keras.KerasTensor:
    residue = resnet.conv_norm_relu(x, filters, 3, stride, name=f"{name}_conv1")
    residue = resnet.conv_norm(residue, filters, 3, name=f"{name}_conv2")
    shortcut = resnet.option_a(x, filters, stride, name=f"{name}_shortcut")
    return resnet.merged(*change(x, shortcut, residue, stride, name), name=name)


def scale(
    _x: keras.KerasTensor, shortcut: keras.KerasTensor, residue: keras.KerasTensor, _stride: int, name: str
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Both halved, so that the signal shrinks with every block."""
    shortcut = layers.Rescaling(0.5, name=f"{name}_half_shortcut")(shortcut)
    return shortcut, layers.Rescaling(0.5, name=f"{name}_half_residue")(residue)


def gate_both(
    x: keras.KerasTensor, shortcut: keras.KerasTensor, residue: keras.KerasTensor, stride: int, name: str
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The residue times a gate of x, the shortcut times what the gate leaves, as in highway networks."""
    gate = _gate(x, residue.shape[-1], stride, name)
    return _closed(shortcut, gate, name), layers.Multiply(name=f"{name}_gated_residue")([residue, gate])


def gate_shortcut(
    x: keras.KerasTensor, shortcut: keras.KerasTensor, residue: keras.KerasTensor, stride: int, name: str
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The shortcut times what a gate of x leaves; the residue as it is."""
    return _closed(shortcut, _gate(x, residue.shape[-1], stride, name), name), residue


def _gate(x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    # The bias of table 1: gates start almost closed, at sigmoid(-6), and shortcuts almost untouched.
    closed = keras.initializers.Constant(-6.0)
    return layers.Conv2D(
        filters,
        1,
        stride,
        activation="sigmoid",
        kernel_initializer="he_normal",
        bias_initializer=closed,
        name=f"{name}_gate",
    )(x)


def _closed(shortcut: keras.KerasTensor, gate: keras.KerasTensor, name: str) -> keras.KerasTensor:
    rest = layers.Rescaling(-1.0, offset=1.0, name=f"{name}_gate_rest")(gate)
    return layers.Multiply(name=f"{name}_gated_shortcut")([shortcut, rest])


def convolve(
    x: keras.KerasTensor, _shortcut: keras.KerasTensor, residue: keras.KerasTensor, stride: int, name: str
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """A normalised 1×1 convolution for a shortcut in every block, where sizes change or not."""
    return resnet.conv_norm(x, residue.shape[-1], 1, stride, name=f"{name}_projection"), residue


def drop(
    _x: keras.KerasTensor, shortcut: keras.KerasTensor, residue: keras.KerasTensor, _stride: int, name: str
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Half of the shortcut dropped in training."""
    return layers.Dropout(0.5, name=f"{name}_dropped")(shortcut), residue


# Table 1 of the paper, ResNet-110 on CIFAR-10: test error in per cent, against 6.61 with identity shortcuts.
constant_scaling = partial(study, scale, name="constant_scaling")  # 12.35
exclusive_gating = partial(study, gate_both, name="exclusive_gating")  # 8.70
shortcut_only_gating = partial(study, gate_shortcut, name="shortcut_only_gating")  # 6.91
convolution_shortcut = partial(study, convolve, name="convolution_shortcut")  # 12.22
dropout_shortcut = partial(study, drop, name="dropout_shortcut")  # fails to converge to below 20
