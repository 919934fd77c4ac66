"""tf.Example from JSON, for classify and regress requests, under the rules of TensorFlow Serving."""

from typing import Any

import numpy as np

from cnn_keras.data.files.image_file import Picture
from pipelines.serving.example_message import Example
from pipelines.serving.http.errors import Refusal
from pipelines.serving.http.limits import Limits
from pipelines.serving.rest.images import check_headers, upright
from pipelines.serving.rest.tensors import encode_string
from pipelines.serving.signature import Tensors

Features = dict[str, list[Any]]  # one example: bytes, int or float under each name
INT64 = range(-(2**63), 2**63)


def features(example: Any) -> Features:
    """One JSON object `{name: value or list}` with values of one type under each name.

    Strings and `{"b64": ...}` are bytes, true and false are integers.

    Raises:
        Refusal: not an object; null, a list in a list, mixed types, or an integer beyond 64 bits.
    """
    if not isinstance(example, dict):
        raise Refusal(400, f"example must be a JSON object, got {type(example).__name__}")
    return {name: _values(value if isinstance(value, list) else [value], name) for name, value in example.items()}


def pictures(examples: list[Features], limits: Limits) -> "dict[str, list[Picture]]":
    """The image files in features named `image_bytes`, of all examples, by name.

    Raises:
        Refusal: no image, or too large.
    """
    pictures_ = {}
    for name in {name for example in examples for name in example if name.endswith("image_bytes")}:
        files = [file for example in examples for file in example.get(name, [])]
        if not all(isinstance(file, bytes) for file in files):
            raise Refusal(400, f'{name} must be an image file as {{"b64": "..."}}')
        pictures_[name] = check_headers(files, limits)
    return pictures_


def serialized(examples: list[Features], pictures: "dict[str, list[Picture]]") -> Tensors:
    """The `inputs` of a classify or regress signature: strings (batch,), each a serialized tf.Example.

    `pictures` are those of the examples, turned upright here like those of a predict request.
    """
    for name, images in pictures.items():
        upright_images = iter(upright(images))
        examples = [
            {**example, name: [next(upright_images) for _ in example[name]]} if name in example else example
            for example in examples
        ]
    strings = np.empty(len(examples), dtype=object)
    strings[:] = [_example(example) for example in examples]
    return {"inputs": strings}


def _values(values: list[Any], name: str) -> list[Any]:
    checked = [_value(value, name) for value in values]
    if len({type(value) for value in checked}) > 1:
        raise Refusal(400, f"feature {name} must hold values of one type: strings, integers or numbers")
    return checked


def _value(value: Any, name: str) -> bytes | int | float:
    if isinstance(value, str | dict):
        return encode_string(value, f"feature {name}")
    if isinstance(value, float) and abs(value) <= float(np.finfo(np.float32).max):
        return value
    if isinstance(value, int) and value in INT64:
        return int(value)
    raise Refusal(400, f"feature {name} must hold strings, 64-bit integers or numbers within float32")


def _example(features: Features) -> bytes:
    example = Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        if values:
            kinds = {bytes: feature.bytes_list, float: feature.float_list}
            kinds.get(type(values[0]), feature.int64_list).value.extend(values)
    serialized: bytes = example.SerializeToString()
    return serialized
