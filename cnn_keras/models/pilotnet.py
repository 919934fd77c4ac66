"""PilotNet: Bojarski et al., "End to end learning for self-driving cars", 2016 (arXiv:1604.07316).

Five convolutions without pooling and three dense layers, from a view of the road to the angle of the steering wheel.
What else such a network needs stands outside: the view is cropped and normalised in front of it, and
`cnn_keras.losses.mixture_density` reads its logits as an angle, or as a distribution of angles.

Differs from the paper: RGB instead of YUV, of which the first convolution can make any mixture; dropout, which the
paper lacks. It names no activation; the authors' later "Explaining how a deep neural network trained with end-to-end
learning steers a car", 2017, averages maps behind ReLUs. Ports with a dense layer of 1,164 units (1,595,511 parameters)
take the flattened maps, 1 × 18 × 64 = 1,152 values, for a layer.
"""

import keras
from keras import layers

from cnn_keras.models import require_size

# Figure 4 of the paper: filters, kernel and stride of each convolution, none of them padded.
CONVOLUTIONS = ((24, 5, 2), (36, 5, 2), (48, 5, 2), (64, 3, 1), (64, 3, 1))
HIDDEN = (100, 50, 10)
SMALLEST = 61  # pixels of a side that leave one position behind the last convolution


def pilotnet(*, input_shape: tuple[int, ...] = (66, 200, 3), classes: int = 1, dropout: float = 0.0) -> keras.Model:
    """PilotNet: 252,219 parameters and 26,876,342 multiply-adds at 66×200×3.

    Args:
        input_shape: (height, width, channels), height and width at least 61; the paper's is the default.
        classes: length of the logits: 1 for an angle, three for each component of a mixture.
        dropout: share of the flattened maps and of the first two dense layers' units dropped in training, in [0, 1).

    Returns:
        A model from `image` (batch, height, width, channels), floats about -1 to 1, to `logits` (batch, classes),
        float32.

    Raises:
        Fault: when the image is smaller than 61 pixels on a side.
    """
    require_size(input_shape, SMALLEST)
    x = image = keras.Input(input_shape, name="image")
    for number, (filters, size, stride) in enumerate(CONVOLUTIONS, 1):
        x = layers.Conv2D(filters, size, stride, name=f"conv{number}", **_rectified())(x)
    x = layers.Flatten(name="flatten")(x)
    for number, units in enumerate(HIDDEN, 1):
        x = layers.Dropout(dropout, name=f"dropout{number}")(x)
        x = layers.Dense(units, name=f"dense{number}", **_rectified())(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="pilotnet")


def _rectified() -> dict[str, str]:
    return {"activation": "relu", "kernel_initializer": "he_normal"}
