"""The weights of the first convolution as pictures."""

import keras
import numpy as np

from cnn_keras.errors import Fault
from cnn_keras.learn.visualization.layer_selection import kernel_of, layer_rows, operations


def first_layer_filters(model: keras.Model) -> np.ndarray:
    """The kernels of the first convolution as pictures: uint8 (filters, height, width, 1 or 3), 0–255.

    Mid-grey, 128, is a weight of zero; each filter is scaled by its own largest weight, so that black or white
    is reached. Of 3 input channels they are RGB. Of another number the channels of a filter stand side by side, in
    grey; those of a depthwise convolution are filters of their own.

    Raises:
        Fault: when the first convolution has not two spatial axes, or there is none.
    """
    known = operations(model)
    kernels = ((row, kernel_of(known[row.name])) for row in layer_rows(model).values())
    row, kernel = next(((row, kernel) for row, kernel in kernels if kernel is not None), (None, None))
    if row is None or len(row.receptive_field) != 2:
        raise Fault(f"model must begin with convolutions over two axes, got {row.type if row else 'none'}")
    weights = np.moveaxis(np.asarray(keras.ops.convert_to_numpy(kernel), np.float32), -1, 0)
    if weights.ndim == 3:  # of a table of connections: one kernel each
        weights = weights[..., np.newaxis]
    elif row.type == "DepthwiseConv2D" or row.type == "SeparableConv2D":
        weights = np.moveaxis(weights, -1, 0).reshape(-1, *weights.shape[1:3], 1)
    if weights.shape[-1] not in (1, 3):
        filters, height, width, channels = weights.shape
        weights = np.swapaxes(weights, 2, 3).reshape(filters, height, channels * width, 1)
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    return np.round(127.5 + 127.5 * weights / np.maximum(largest, 1e-12)).astype(np.uint8)
