"""PilotNet: Bojarski et al., "End to end learning for self-driving cars", 2016 (arXiv:1604.07316).

Five convolutions without pooling and three dense layers, from a view of the road to the angle of the steering wheel.
What else such a network needs stands outside: the view is cropped and normalised in front of it, and
`cnn_keras.losses.mixture_density` reads its logits as an angle, or as a distribution of angles.

Differs from the paper: RGB instead of YUV, of which the first convolution can make any mixture; dropout, which the
paper lacks. It names no activation; the authors' later "Explaining how a deep neural network trained with end-to-end
learning steers a car", 2017, averages maps behind ReLUs. Ports with a dense layer of 1,164 units (1,595,511 parameters)
take the flattened maps, 1 × 18 × 64 = 1,152 values, for a layer.

With `route_shape` the network has a second input, a patch of the map on which the route is marked, as in Amini, Rosman,
Karaman and Rus, "Variational end-to-end navigation and localization", 2019: where the road forks, the camera cannot say
where to go. Its convolutions stand beside those of the camera, and the dense layers see both. Differs from that paper:
PilotNet for each camera image, of which there are three there, and smaller convolutions of the map.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from cnn_keras.models import require_size

# Figure 4 of the paper: filters, kernel and stride of each convolution, none of them padded.
CONVOLUTIONS = ((24, 5, 2), (36, 5, 2), (48, 5, 2), (64, 3, 1), (64, 3, 1))
ROUTE_CONVOLUTIONS = ((16, 5, 2), (32, 3, 2))  # of a patch of the map
HIDDEN = (100, 50, 10)
SMALLEST_ROUTE = 9
SMALLEST = 61  # pixels of a side that leave one position behind the last convolution


def pilotnet(
    *,
    input_shape: tuple[int, ...] = (66, 200, 3),
    classes: int = 1,
    dropout: float = 0.0,
    route_shape: tuple[int, ...] | None = None,
) -> keras.Model:
    """PilotNet: 252,219 parameters and 26,876,342 multiply-adds at 66×200×3.

    Args:
        input_shape: (height, width, channels), height and width at least 61; the paper's is the default.
        classes: length of the logits: 1 for an angle, three for each component of a mixture.
        dropout: share of the flattened maps and of the first two dense layers' units dropped in training, in [0, 1).
        route_shape: (height, width, channels) of a patch of the map, at least 9 pixels on a side; None: there is none.

    Returns:
        A model from `image` (batch, height, width, channels), floats about -1 to 1, to `logits` (batch, classes),
        float32. With `route_shape` it also takes `route`, floats 0 to 1 (batch, *route_shape).

    Raises:
        Fault: when the image is smaller than 61 pixels on a side.
    """
    require_size(input_shape, SMALLEST)
    image = keras.Input(input_shape, name="image")
    x, inputs = _flattened(image, CONVOLUTIONS), image
    if route_shape:
        require_size(route_shape, SMALLEST_ROUTE)
        route = keras.Input(route_shape, name="route")
        x = layers.Concatenate(name="camera_and_route")([x, _flattened(route, ROUTE_CONVOLUTIONS, "route_")])
        inputs = [image, route]
    for number, units in enumerate(HIDDEN, 1):
        x = layers.Dropout(dropout, name=f"dropout{number}")(x)
        x = layers.Dense(units, name=f"dense{number}", **_rectified())(x)
    return keras.Model(inputs, layers.Dense(classes, dtype="float32", name="logits")(x), name="pilotnet")


def _flattened(x: keras.KerasTensor, convolutions: Sequence[tuple[int, int, int]], prefix: str = "") -> Any:
    for number, (filters, size, stride) in enumerate(convolutions, 1):
        x = layers.Conv2D(filters, size, stride, name=f"{prefix}conv{number}", **_rectified())(x)
    return layers.Flatten(name=f"{prefix}flatten")(x)


def _rectified() -> dict[str, str]:
    return {"activation": "relu", "kernel_initializer": "he_normal"}
