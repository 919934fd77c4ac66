"""What a run of any task must hold after `cnn export --format`."""

import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data.files import image_pixels
from pipelines.export.runtimes import FORMATS, Network
from pipelines.serving.converted.model import ConvertedModel
from pipelines.serving.http.errors import Refusal
from pipelines.serving.model import Model
from tests import odd_images
from tests.conftest import cnn
from tests.docs.documents import ROOT


def need(*names, precision="float32"):
    """Skip the test where a package is missing that writes one of these formats in a precision, or runs it."""
    for name in names or FORMATS:
        for package in missing(name, precision):
            pytest.skip(f"{package} is not installed")


def missing(name, precision="float32"):
    """The packages that are not installed of those that write a format in a precision and run it."""
    kind = FORMATS[name]
    packages = (*kind.writes, *(kind.quantizes if precision == "int8" else ()), *kind.runs)
    return [package for package in packages if not importlib.util.find_spec(package)]


def assert_converted(recipe: Path, run: Path, *, metric: str, difference: float = 1e-4) -> None:
    """Export a trained run in every format, and look at what was proved."""
    need()
    assert cnn("export", recipe, "--format", ",".join(FORMATS), "--runs", run.parents[1]) == 0
    figure = json.loads((run / "evaluate" / "report.json").read_text())[metric]
    for name in FORMATS:
        proof = json.loads((run / "formats" / f"{name}-float32" / "network.json").read_text())["proof"]
        assert proof["metric"] == metric
        assert (proof["original"], proof["value"]) == pytest.approx((figure, figure), abs=1e-4)
        low, high = proof["interval"]
        assert low - 1e-6 <= proof["value"] <= high + 1e-6  # of one block of frames the interval has no width
        assert proof["changed"] == 0 < proof["decisions"]
        assert 0 <= proof["difference"] < difference
    assert_read_elsewhere(run / "formats" / "onnx-float32")
    assert_served(
        run, [path.read_bytes() for path in sorted(recipe.parent.rglob("*.[jp]*g")) if run not in path.parents][:4]
    )


def read_elsewhere(network: Path, picture: Path) -> dict[str, np.ndarray]:
    """What the program in docs/how-to/formats.md prints of a network's answer to a picture, by output."""
    page = (ROOT / "docs" / "how-to" / "formats.md").read_text()
    script = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    command = [sys.executable, "-c", script, network, picture]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: np.array(json.loads(values)) for name, _, values in (line.partition(" ") for line in lines)}


def assert_read_elsewhere(network: Path) -> None:
    """The documented program answers as this package, where it frames pictures by the same words."""
    asked = Network(network)
    to = asked.description["preprocessing"]
    if to["kind"] != "image" or to["fit"] not in ("stretch", "crop", "pad"):
        return
    picture = network.parent / "picture.png"
    odd_images.picture(70, 45).save(picture)
    image = image_pixels.decode(picture.read_bytes(), channels=to["channels"])
    framed = image_pixels.resize_image(image, tuple(to["size"]), fit=to["fit"])
    answer = read_elsewhere(network, picture)
    assert answer.keys() == asked.description["outputs"].keys()
    for name, expected in asked(framed[None]).items():
        scale = max(np.abs(expected).max(), 1)
        np.testing.assert_allclose(answer[name] / scale, expected[0] / scale, atol=0.02)  # of pixels a level off


def assert_served(run: Path, files: list[bytes]) -> None:
    """Ask the SavedModel of a run and its network for ONNX about image files, tensors and files that are none."""
    (saved,) = run.glob("export/*/1")
    model, converted = Model(saved), ConvertedModel(run / "formats" / "onnx-float32")
    assert converted.signatures == model.signatures
    for name, signature in model.signatures.items():
        for tensors in _requests(signature, files):
            expected, actual = model(name, tensors), converted(name, tensors)
            assert expected.keys() == actual.keys()
            for key, value in expected.items():
                assert (value.dtype, value.shape) == (actual[key].dtype, actual[key].shape), key
                _assert_near(key, value, actual[key])
        if signature.takes_image:
            column = np.array([files[0], b"none"], object)
            with pytest.raises(Refusal, match="row 1"):
                converted(name, dict.fromkeys(signature.inputs, column))


def _requests(signature, files):
    if any(slot.is_image for slot in signature.inputs.values()):
        drawn = [odd_images.encoded(odd_images.picture(*size), "JPEG") for size in ((40, 33), (300, 70))]
        column = np.array([*files, *drawn], object)
        yield {name: np.roll(column, place) for place, name in enumerate(signature.inputs)}
    elif "inputs" not in signature.inputs:  # those are serialized tf.Examples
        generator = np.random.default_rng(0)
        for length in (24, 50):
            yield {
                name: generator.integers(0, 255, [2, *(size or length for size in slot.shape[1:])]).astype(slot.dtype)
                for name, slot in signature.inputs.items()
            }


def _assert_near(name, expected, actual):
    """Masks are alike in 99.9 % of their pixels, boxes and landmarks to half a pixel, other numbers to 1e-3."""
    if name == "mask_bytes":
        alike = [(_pixels(one) == _pixels(other)).ravel() for one, other in zip(expected, actual, strict=True)]
        assert np.concatenate(alike).mean() >= 0.999
    elif expected.dtype.kind == "f":
        tolerance = {"boxes": 0.5, "landmarks": 0.5, "shares": 5e-3}.get(name, 1e-3)  # a share may be a pixel off
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=tolerance)
    else:
        np.testing.assert_array_equal(actual, expected)


def _pixels(file):
    return np.asarray(Image.open(io.BytesIO(file)))
