"""Serving without TensorFlow: the contract and the answers of the SavedModel, from another engine."""

import base64
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.data import array_dataset
from cnn_keras.errors import Fault
from cnn_keras.losses import mixture_density
from cnn_keras.ops import boxes as ops
from cnn_keras.ops import sliding_window
from pipelines.inference import exported_model
from pipelines.serving import server
from pipelines.serving.converted import classification, segmentation, steering
from pipelines.serving.converted.model import ConvertedModel
from pipelines.serving.converted.suppression import suppress
from pipelines.serving.http.limits import Limits
from tests import odd_images
from tests.converted import need
from tests.docs.documents import ROOT

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

LIMITS = Limits(body=200_000, rows=20, pixels=10_000, request_pixels=15_000)


@pytest.fixture(scope="module")
def folder(exported):
    need("onnx")
    assert exported.cnn("export", exported.recipe, "--format", "onnx") == 0
    return exported_model.locate_converted("classify/small", exported.root / "runs", "onnx", None)


@pytest.fixture(scope="module")
def clients(exported, folder):
    """Of the server with TensorFlow, and of the one without."""
    places = {"tensorflow": exported.run / "export" / "small", "onnx": folder}
    apps = [server.application(place, limits=LIMITS, engine=engine) for engine, place in places.items()]
    with TestClient(apps[0]) as first, TestClient(apps[1]) as second:
        yield first, second


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def encoded(exported, count=3):
    return [path.read_bytes() for path in sorted(exported.photos.rglob("*.png"))[:: 120 // count]][:count]


def assert_alike(one, other):
    """The same answer, numbers to 1e-4."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = ([answer[key] for key in sorted(answer)] for answer in (one, other))
    if isinstance(one, list):
        for pair in zip(one, other, strict=True):
            assert_alike(*pair)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-4)
    else:
        assert one == other


def requests(exported):
    files = encoded(exported)
    camera = odd_images.oriented(odd_images.picture(20, 30), "JPEG", 6)
    colours = odd_images.encoded(odd_images.picture(40, 33), "PNG")
    tensors = np.zeros((2, 28, 28, 1), np.uint8).tolist()
    return {
        "rows": ("predict", {"instances": [b64(file) for file in files]}),
        "column": ("predict", {"inputs": {"image_bytes": [b64(file) for file in files]}}),
        "turned": ("predict", {"instances": [b64(camera)]}),
        "colours": ("predict", {"instances": [b64(colours)]}),
        "tensor": ("predict", {"signature_name": "serving_tensor", "instances": tensors}),
        "examples": (
            "classify",
            {"signature_name": "serving_classify", "examples": [{"image_bytes": b64(file)} for file in files]},
        ),
    }


@pytest.mark.parametrize("name", ["rows", "column", "turned", "colours", "tensor", "examples"])
def test_both_engines_answer_alike(name, exported, clients):
    verb, body = requests(exported)[name]
    one, other = (client.post(f"/v1/models/small:{verb}", json=body) for client in clients)
    assert one.status_code == other.status_code == 200, other.text
    assert_alike(one.json(), other.json())


def hostile():
    bodies = [
        b"",
        b"no image",
        b"\xff\xd8\xff",
        odd_images.forged_png(2**15, 2**15),
        odd_images.forged_jpeg(20_000, 900),
    ]
    bodies += [odd_images.encoded(odd_images.picture(), kind)[:-30] for kind in ("PNG", "JPEG")]
    bodies += [odd_images.encoded(odd_images.picture(200, 200), "PNG")]  # beyond the limit
    tensor = {"signature_name": "serving_tensor"}
    return [
        *({"instances": [b64(body)]} for body in bodies),
        {"instances": [b64(odd_images.encoded(odd_images.picture(), "PNG")), b64(b"no image")]},
        {**tensor, "instances": [[[0]]]},
        {**tensor, "instances": np.full((1, 28, 28, 1), 256).tolist()},
        {"signature_name": "serving_classify", "instances": [b64(b"no example")]},
        {"signature_name": "serving_classify", "instances": [b64(b"")]},
        {"signature_name": "none", "instances": [1]},
    ]


def test_both_engines_refuse_alike(clients):
    for body in hostile():
        one, other = (client.post("/v1/models/small:predict", json=body) for client in clients)
        assert one.status_code == other.status_code, (body, one.text, other.text)
        assert other.status_code == 400
        assert set(other.json()) == {"error"}


def test_status_and_metadata_are_those_of_the_savedmodel(clients):
    one, other = (client.get("/v1/models/small/metadata").json() for client in clients)
    assert one["model_spec"] == other["model_spec"]
    signatures = [answer["metadata"]["signature_def"]["signature_def"] for answer in (one, other)]
    for name in signatures[1]:
        for side in ("inputs", "outputs"):
            kinds = [{key: slot["dtype"] for key, slot in known[name][side].items()} for known in signatures]
            assert kinds[0] == kinds[1]
    assert all(client.get("/healthz").json()["version"] == 1 for client in clients)


def test_tensorflow_is_not_imported(exported, folder):
    picture = sorted(exported.photos.rglob("*.png"))[0]
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from pipelines.serving.server import application\n"
        "model = application(Path(sys.argv[1]), engine='onnx').state.endpoints.model\n"
        "model('serving_default', {'image_bytes': np.array([Path(sys.argv[2]).read_bytes()], object)})\n"
        "assert not {'tensorflow', 'keras', 'mlflow'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, folder, picture], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("engine", "precision"),
    [("triton", None), ("onnx", "bfloat16"), ("litert", None)],
    ids=["engine", "precision", "none"],
)
def test_an_engine_without_a_network_is_a_fault(engine, precision, exported, folder):
    with pytest.raises(Fault):
        exported_model.locate_converted("classify/small", exported.root / "runs", engine, precision)


def described(**facts):
    """A description as `network.json` has it."""
    framing = {"kind": "image", "channels": 3, "size": [8, 8], "fit": "pad", "align": None}
    return {"format": "onnx", "name": "small", "version": 1, "preprocessing": framing, "classes": ["a", "b"], **facts}


@pytest.mark.parametrize(
    "facts",
    [
        {"task": "stylize"},
        {"task": "verify", "head": True},
        {"task": "verify", "preprocessing": {"align": "landmarks"}},
    ],
    ids=["painting", "head", "aligned"],
)
def test_what_a_network_holds_a_part_of_alone_is_refused_before_it_is_loaded(facts, tmp_path):
    (tmp_path / "network.json").write_text(json.dumps(described(head=False) | facts))
    with pytest.raises(Fault, match="--engine must be tensorflow"):
        ConvertedModel(tmp_path)


def test_several_labels_are_those_that_reach_their_thresholds_the_likeliest_first():
    facts = described(classes=["a", "b", "c"], thresholds=[0.5, 0.2, 0.9])
    ask = {"probabilities": np.array([0.6, 0.7, 0.8], np.float32)}
    answer = classification.images(facts, lambda row: ask)["serving_tensor"].answer(image=np.zeros((8, 8, 3), np.uint8))
    assert answer["label"].tolist() == [b"b", b"a", b""]
    assert answer["chosen"].tolist() == [True, True, False]
    assert answer["classes"].tolist() == [b"a", b"b", b"c"]


@pytest.mark.parametrize("soft", [None, 0.5])
def test_suppression_is_that_of_the_graph(soft):
    generator = np.random.default_rng(3)
    corners = generator.uniform(0, 0.8, (300, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(0.05, 0.3, (300, 2))], axis=-1).astype(np.float32)
    scores = generator.uniform(0, 1, (300, 4)).astype(np.float32)
    settings = {"threshold": 0.3, "iou_threshold": 0.5, "limit": 40, "soft": soft}
    graph = ops.soft_non_max_suppression if soft else ops.non_max_suppression
    more = {"sigma": soft} if soft else {}
    expected = graph(boxes[None], scores[None], threshold=0.3, overlap=0.5, limit=40, **more)
    count = int(expected.count[0])
    actual = suppress(boxes, scores, settings)
    assert 0 < len(actual[1]) == count
    for one, other in zip(expected[:3], actual, strict=True):
        np.testing.assert_allclose(other, one[0, :count], rtol=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_patches_are_put_together_as_in_the_graph(axes):
    generator = np.random.default_rng(4)
    image = generator.normal(size=(*(45, 61, 19)[:axes], 3)).astype(np.float32)
    framing = {"size": [16] * axes, "answered": [12] * axes, "overlap": 0.3}
    middle = (slice(2, 14),) * axes

    def probabilities(patches):
        exact = np.exp(np.cumsum(patches, axis=1)[(slice(None), *middle)])
        return (exact / exact.sum(axis=-1, keepdims=True)).astype(np.float32)

    def graph(patches):
        answer = tf.numpy_function(probabilities, [patches], tf.float32)
        return tf.ensure_shape(answer, (None, *framing["answered"], 3))

    patches = sliding_window.Patches((16,) * axes, (12,) * axes, 0.3)
    expected = sliding_window.predict_patches(graph, tf.constant(image), patches)
    bands = segmentation.patches(lambda patch: probabilities(patch[None])[0], image, framing)
    labels, confidence = segmentation.likeliest(bands, image.shape[:-1])
    np.testing.assert_allclose(confidence, expected.confidence, atol=1e-5)
    assert (labels == expected.labels.numpy()).mean() > 0.999


@pytest.mark.parametrize(("fit", "length"), [("stretch", 20), ("stretch", 90), ("crop", 20), ("crop", 91)])
def test_signals_become_the_size_of_the_network_as_in_the_graph(fit, length):
    values = np.random.default_rng(5).normal(size=(length, 2)).astype(np.float32)
    expected = array_dataset.resize(values[None], (50,), fit=fit)[0]
    np.testing.assert_allclose(classification.resized(values, (50,), fit=fit), expected, atol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_quantiles_are_those_of_the_graph(share):
    parts = np.random.default_rng(6).uniform(0.1, 1, (3, 4)).astype(np.float32)
    parts[0] /= parts[0].sum()
    expected = mixture_density.quantile(mixture_density.Mixture(*parts[:, None]), share)
    assert steering.quantile(*parts, share) == pytest.approx(float(expected[0]), abs=1e-5)
