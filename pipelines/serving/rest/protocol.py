"""TensorFlow Serving's REST contract: paths and request bodies (https://www.tensorflow.org/tfx/serving/api_rest).

Differs from TensorFlow Serving: JSON must be strict UTF-8 with nothing behind it and without NaN or Infinity,
numbers must fit their type, the rows of a request are limited, answers are not indented.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.serving.batching import Job
from pipelines.serving.http.errors import Refusal
from pipelines.serving.http.limits import Limits
from pipelines.serving.model import Model
from pipelines.serving.rest import responses, tf_examples
from pipelines.serving.rest.images import check_headers, looks_encoded, upright, work
from pipelines.serving.rest.tensors import is_base64, tensor
from pipelines.serving.signature import DEFAULT_SIGNATURE, PICTURE, Signature, Tensors
from pipelines.serving.versions import Version, Versions

if TYPE_CHECKING:
    from cnn_keras.data.files.image_file import Picture

PLACE = r"(?i)/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
PREDICTION = re.compile(PLACE + r":(?P<verb>classify|regress|predict)")
STATUS = re.compile(PLACE + r"(?P<metadata>/metadata)?")


def _no_constant(name: str) -> None:
    raise Refusal(400, f"JSON Parse error: {name} is not JSON; numbers must be finite")


BETWEEN = (b",", b"[", b"{")
LONGEST_NUMBER = 20  # digits of a version; zeros may stand before it
NAMED = 16  # a value with a name counts for so many

STRICT = json.JSONDecoder(parse_constant=_no_constant)


@dataclass(frozen=True)
class Call:
    """A checked request: what to run, and how to write down what comes out."""

    job: Job
    answer: Callable[[Tensors], responses.Answer | responses.Packed]
    picture: str | None = None  # the output that is a file to be sent as it is, for whoever does not ask for JSON


def version_at(versions: Versions, place: re.Match[str]) -> Version:
    """The version that a path names, or the newest; 404 for another model or version. There are no labels."""
    name, number, label = place["name"], place["version"], place.groupdict().get("label")
    if name != versions.newest.model.name:
        served = f"this server has {versions.newest.model.name}"
        raise Refusal(404, f"Servable not found for request: Latest({name}); {served}")
    if label is not None:
        raise Refusal(404, f"Servable not found for request: label {label}; this server has no labels")
    if number is None:
        return versions.newest
    version = versions.get(int(number)) if len(number) <= LONGEST_NUMBER else None
    if version is None:
        served = f"this server has version {', '.join(map(str, versions.numbers))}"
        raise Refusal(404, f"Servable not found for request: Specific({name}, {number}); {served}")
    return version


def predict(model: Model, body: bytes, limits: Limits) -> Call:
    """A predict request, in row format (`instances`) or column format (`inputs`).

    Raises:
        Refusal: 400 with what is wrong; so do the others here.
    """
    document = parsed(body, limits)
    signature = _signature(model, document)
    if "instances" in document and "inputs" in document:
        raise Refusal(400, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in document:
        return Call(job(signature, _rows(document["instances"], signature, limits), limits), responses.predictions)
    if "inputs" in document:
        return Call(job(signature, _columns(document["inputs"], signature), limits), responses.outputs)
    raise Refusal(400, "Missing 'inputs' or 'instances' key")


def images(model: Model, files: list[bytes], limits: Limits, name: str = DEFAULT_SIGNATURE) -> Call:
    """Image files, one row each, for the signature of this name."""
    signature = _signature(model, {"signature_name": name}) if name != DEFAULT_SIGNATURE else model.signatures.get(name)
    if signature is None or not signature.takes_image:
        raise Refusal(400, f"the model's {name} must take image files for this; send JSON instead")
    call = job(signature, {next(iter(signature.inputs)): strings(files)}, limits)
    return Call(call, responses.predictions, PICTURE if signature.paints and len(files) == 1 else None)


def classify(model: Model, body: bytes, limits: Limits) -> Call:
    """A classify request: `examples` for a signature with `inputs` and `classes`, `scores` or both."""
    return Call(_examples(model, body, limits, "classify", {"classes", "scores"}), responses.classifications)


def regress(model: Model, body: bytes, limits: Limits) -> Call:
    """A regress request: `examples` for a signature with `inputs` and `outputs`."""
    return Call(_examples(model, body, limits, "regress", {"outputs"}), responses.regressions)


VERBS = {"predict": predict, "classify": classify, "regress": regress}


def parsed(body: bytes, limits: Limits) -> dict[str, Any]:
    """The JSON object in `body`; 400 for anything else, 413 for very many values.

    Values are counted by what stands between them: Python takes seconds to make objects of 16 MB of brackets, and
    nothing else runs meanwhile.
    """
    if looks_encoded(body):
        raise Refusal(400, "JSON Parse error: the body is an image; send it with the header Content-Type: image/jpeg")
    if sum(map(body.count, BETWEEN)) > limits.values or body.count(b":") > limits.values // NAMED:
        raise Refusal(
            413, f"the body must hold {limits.values:,} values at most, {limits.values // NAMED:,} with names"
        )
    try:
        document = STRICT.decode(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise Refusal(400, f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise Refusal(400, f"JSON Parse error: Invalid UTF-8 at offset: {error.start}") from None
    except RecursionError:
        raise Refusal(400, "JSON Parse error: nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise Refusal(400, f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise Refusal(400, f"JSON Value must be an object, got {type(document).__name__}")
    return document


def strings(values: list[bytes]) -> NDArray[Any]:
    """A string tensor (len(values),). NumPy's own conversion would cut trailing zero bytes."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _signature(model: Model, document: dict[str, Any]) -> Signature:
    name = document.get("signature_name", "") or DEFAULT_SIGNATURE
    if not isinstance(name, str):
        raise Refusal(400, "'signature_name' key must be a string value")
    if name not in model.signatures:
        known = ", ".join(sorted(model.signatures))
        raise Refusal(400, f'Serving signature name: "{name}" not found in signature def; it has {known}')
    if not model.signatures[name].inputs:
        raise Refusal(400, f"Failed to get input map for signature: {name}")
    return model.signatures[name]


def _rows(instances: Any, signature: Signature, limits: Limits) -> Tensors:
    if not isinstance(instances, list) or not instances:
        raise Refusal(400, "'instances' must be a list with at least one value")
    _check_rows(len(instances), limits)
    names = sorted(signature.inputs)
    if not isinstance(instances[0], dict) or is_base64(instances[0]):
        if len(names) > 1:
            raise Refusal(400, f"'instances' must be objects with the keys {names}, one for each input")
        return {names[0]: tensor(instances, signature.inputs[names[0]])}
    for row, instance in enumerate(instances):
        if not isinstance(instance, dict) or sorted(instance) != names:
            raise Refusal(400, f"'instances' must be objects with the keys {names}, row {row} is not")
    return {name: tensor([each[name] for each in instances], slot) for name, slot in signature.inputs.items()}


def _columns(inputs: Any, signature: Signature) -> Tensors:
    names = sorted(signature.inputs)
    if not isinstance(inputs, dict) or is_base64(inputs):
        if len(names) > 1:
            raise Refusal(400, f"'inputs' must be an object with the keys {names}")
        return {names[0]: tensor(inputs, signature.inputs[names[0]])}
    if sorted(inputs) != names:
        raise Refusal(400, f"'inputs' must have the keys {names}, got {sorted(inputs)[:8]}")
    return {name: tensor(inputs[name], slot) for name, slot in signature.inputs.items()}


def job(signature: Signature, inputs: Tensors, limits: Limits) -> Job:
    """The call of a signature with checked tensors.

    Raises:
        Refusal: 400: no or too many rows, inputs of different lengths, or a file that is no image within the limits.
    """
    rows, shape = 1, None
    if signature.has_rows:
        sizes = {len(column) for column in inputs.values()}
        if len(sizes) != 1:
            raise Refusal(400, f"inputs must all have the same number of rows, got {sorted(sizes)}")
        rows = sizes.pop()
        _check_rows(rows, limits)
        shape = tuple(inputs[name].shape[1:] for name in sorted(inputs))
    slots = signature.inputs.values()
    pictures = {slot.name: check_headers(inputs[slot.name].ravel().tolist(), limits) for slot in slots if slot.is_image}
    pixels = sum(map(work, pictures.values()))
    return Job(signature.name, partial(_upright, inputs, pictures), rows, shape=shape, pixels=pixels)


def _check_rows(rows: int, limits: Limits) -> None:
    if not 1 <= rows <= limits.rows:
        raise Refusal(400, f"a request must have 1 to {limits.rows} rows, got {rows}")


def _upright(inputs: Tensors, pictures: "dict[str, list[Picture]]") -> Tensors:
    upright_inputs = {name: strings(upright(images)).reshape(inputs[name].shape) for name, images in pictures.items()}
    return {**inputs, **upright_inputs}


def _examples(model: Model, body: bytes, limits: Limits, verb: str, outputs: set[str]) -> Job:
    document = parsed(body, limits)
    signature = _signature(model, document)
    fitting = [name for name, each in model.signatures.items() if each.fits({"inputs"}, outputs)]
    if signature.name not in fitting:
        advice = f"set 'signature_name' to {' or '.join(fitting)}" if fitting else "this model has none that does"
        raise Refusal(400, f"signature {signature.name} must fit {verb}; {advice}")
    examples = document.get("examples")
    if not isinstance(examples, list) or not examples:
        raise Refusal(400, f"When method is {verb}, key 'examples' must be a list with at least one example")
    _check_rows(len(examples), limits)
    context = tf_examples.features(document.get("context", {}))
    rows = [context | tf_examples.features(example) for example in examples]
    pictures = tf_examples.pictures(rows, limits)
    ready, pixels = partial(tf_examples.serialized, rows, pictures), sum(map(work, pictures.values()))
    return Job(signature.name, ready, len(rows), shape=(), pixels=pixels)
