"""A photograph that somebody named, in a command or a recipe: its pixels, upright, or what is wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data.files.image_file import normalize, reason
from cnn_keras.data.files.input_file import read_bytes
from cnn_keras.data.image_decoding import decode
from cnn_keras.errors import Fault, Unreadable


def read(path: Path, *, what: str = "IMAGE", channels: int = 3) -> np.ndarray[Any, Any]:
    """The pixels of an image file, upright: uint8 (height, width, channels).

    Args:
        what: the argument that named it.
        channels: 1 for grey, 3 for RGB.

    Raises:
        Fault: there is no such file, or it cannot be read (code DATA).
    """
    try:
        pixels: np.ndarray[Any, Any] = decode(tf.constant(normalize(read_bytes(path))[0]), channels=channels).numpy()
    except OSError as error:
        raise Fault(f"{what} {path}: {error.strerror}") from error
    except Unreadable as error:
        raise Fault(f"{what} must be a readable image, got {path}: {error}", code=Fault.DATA) from error
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        raise Fault(f"{what} must be a readable image, got {path}: {reason(error)}", code=Fault.DATA) from error
    return pixels
