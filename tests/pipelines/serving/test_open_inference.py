"""The Open Inference Protocol over HTTP: the answers of /v1, and refusals of what is malformed."""

import base64
import io
import json
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from pipelines.serving.http.limits import Limits
from pipelines.serving.server import application
from tests.toy_model import LABELS, export

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

MODEL = "/v2/models/toy"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = export(tmp_path_factory.mktemp("models") / "toy" / "3")
    with TestClient(application(folder, limits=Limits(body=200_000, rows=20))) as client:
        yield client


def picture(value):
    file = io.BytesIO()
    Image.new("L", (9, 7), value).save(file, "PNG")
    return file.getvalue()


FILES = [picture(value) for value in (0, 128, 255)]
PIXELS = np.stack([np.full((8, 8, 1), value, np.uint8) for value in (0, 128, 255)])
TENSOR = {"name": "image", "shape": [3, 8, 8, 1], "datatype": "UINT8"}
BYTES = {"name": "image_bytes", "shape": [3], "datatype": "BYTES"}


def infer(client, *inputs, binary=b"", place=MODEL, **more):
    """The answer to a request; `binary` is what comes behind its JSON."""
    head = json.dumps({"inputs": inputs, **more}).encode()
    headers = {"inference-header-content-length": str(len(head))} if binary else {}
    return client.post(f"{place}/infer", content=head + binary, headers=headers)


def outputs(answer):
    assert answer.status_code == 200, answer.text
    return {output["name"]: output for output in answer.json()["outputs"]}


def test_the_server_and_the_model_say_that_they_are_ready(client):
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/3/ready"):
        assert client.get(path).status_code == 200
    client.app.state.endpoints.draining = True
    try:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == client.get(f"{MODEL}/ready").status_code == 503
    finally:
        client.app.state.endpoints.draining = False


def test_metadata_describe_the_default_signature(client):
    about = client.get(MODEL).json()
    assert (about["name"], about["versions"]) == ("toy", ["3"])
    assert about["inputs"] == [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}]
    kinds = {output["name"]: output["datatype"] for output in about["outputs"]}
    assert kinds == {"probabilities": "FP32", "class_id": "INT64", "label": "BYTES"}


@pytest.mark.parametrize("flat", [False, True])
def test_pixels_answer_as_in_the_other_protocol(client, flat):
    data = (PIXELS.ravel() if flat else PIXELS).tolist()
    answer = infer(client, {**TENSOR, "data": data}, id="7")
    found = outputs(answer)
    body = {"signature_name": "serving_tensor", "inputs": PIXELS.tolist()}
    expected = client.post("/v1/models/toy:predict", json=body).json()["outputs"]
    assert found["label"]["data"] == expected["label"] == list(LABELS)
    assert found["class_id"]["data"] == expected["class_id"]
    assert (
        np.reshape(found["probabilities"]["data"], found["probabilities"]["shape"]).tolist()
        == (expected["probabilities"])
    )
    assert (answer.json()["id"], answer.json()["model_name"], answer.json()["model_version"]) == ("7", "toy", "3")


def test_files_come_as_base64_or_binary(client):
    texts = [base64.b64encode(file).decode() for file in FILES]
    ways = (
        infer(client, {**BYTES, "data": [{"b64": text} for text in texts]}),
        infer(client, {**BYTES, "data": texts, "parameters": {"content_type": "base64"}}),
        infer(client, {**BYTES, "parameters": {"binary_data_size": len(packed(FILES))}}, binary=packed(FILES)),
    )
    for answer in ways:
        assert outputs(answer)["label"]["data"] == list(LABELS)


def packed(strings):
    return b"".join(struct.pack("<I", len(string)) + string for string in strings)


def test_several_binary_tensors_follow_each_other(client):
    a, b = np.array([[1, 2], [3, 4]], "<f4").tobytes(), np.array([5, 6], "<i4").tobytes()
    answer = infer(
        client,
        {"name": "b", "shape": [2], "datatype": "INT32", "parameters": {"binary_data_size": 8}},
        {"name": "a", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}},
        binary=b + a,
    )
    assert outputs(answer)["sum"]["data"] == [8, 13]


def unpacked(answer):
    """The outputs of an answer, and the bytes of those that stand behind its JSON."""
    end, data, found = int(answer.headers["inference-header-content-length"]), {}, {}
    rest = answer.content[end:]
    for output in json.loads(answer.content[:end])["outputs"]:
        found[output["name"]] = output
        if size := output.get("parameters", {}).get("binary_data_size"):
            assert "data" not in output
            data[output["name"]], rest = rest[:size], rest[size:]
    assert not rest
    return found, data


def test_outputs_are_binary_where_that_is_asked_for(client):
    request = {**TENSOR, "data": PIXELS.tolist()}
    expected = outputs(infer(client, request))
    found, data = unpacked(infer(client, request, parameters={"binary_data_output": True}))
    assert found.keys() == data.keys() == expected.keys()
    assert data["label"] == packed([name.encode() for name in LABELS])
    assert np.frombuffer(data["class_id"], "<i8").tolist() == expected["class_id"]["data"]
    probabilities = np.frombuffer(data["probabilities"], "<f4")
    np.testing.assert_allclose(probabilities, expected["probabilities"]["data"], rtol=1e-6)
    wanted = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "class_id"}]
    found, data = unpacked(infer(client, request, outputs=wanted))
    assert (list(found), list(data)) == (["label", "class_id"], ["label"])
    assert found["class_id"]["data"] == expected["class_id"]["data"]


def test_outputs_are_json_where_binary_ones_are_declined(client):
    declined = [{"name": "label", "parameters": {"binary_data": False}}]
    answer = infer(
        client, {**TENSOR, "data": PIXELS.tolist()}, outputs=declined, parameters={"binary_data_output": True}
    )
    assert outputs(answer)["label"]["data"] == list(LABELS)


@pytest.mark.parametrize(
    "more",
    [{"parameters": {"binary_data_output": 1}}, {"outputs": [{"name": "label", "parameters": {"binary_data": "yes"}}]}],
)
def test_a_wish_for_binary_outputs_that_is_neither_true_nor_false_is_refused(client, more):
    assert infer(client, {**TENSOR, "data": PIXELS.tolist()}, **more).status_code == 400


def test_outputs_are_those_asked_for(client):
    found = outputs(infer(client, {**TENSOR, "data": PIXELS.tolist()}, outputs=[{"name": "label"}]))
    assert list(found) == ["label"]


def test_a_signature_is_named_by_a_parameter(client):
    text = {"name": "x", "shape": [1], "datatype": "FP32", "data": [9]}
    assert outputs(infer(client, text, parameters={"signature_name": "root"}))["root"]["data"] == [3]


GOOD = {**TENSOR, "data": PIXELS.ravel().tolist()}
MALFORMED = {
    "no inputs": [],
    "an input of another name": [{**GOOD, "name": "absent"}],
    "a name that is a number": [{**GOOD, "name": 7}],
    "one name twice": [GOOD, GOOD],
    "another datatype": [{**GOOD, "datatype": "FP32"}],
    "no datatype": [{key: value for key, value in GOOD.items() if key != "datatype"}],
    "another shape": [{**GOOD, "shape": [3, 8, 8]}],
    "a negative size": [{**GOOD, "shape": [-1, 8, 8, 1]}],
    "a shape that is text": [{**GOOD, "shape": "3"}],
    "a shape of fractions": [{**GOOD, "shape": [3.0, 8, 8, 1]}],
    "a shape of truths": [{**GOOD, "shape": [True, 8, 8, 1]}],
    "more than the shape": [{**GOOD, "data": [0] * 193}],
    "no rows": [{**GOOD, "shape": [0, 8, 8, 1], "data": []}],
    "too many rows": [{**GOOD, "shape": [21, 8, 8, 1], "data": [0] * 64 * 21}],
    "2,000,000,000 rows": [{**GOOD, "shape": [2_000_000_000, 8, 8, 1]}],
    "a pixel of 256": [{**GOOD, "data": [256] * 192}],
    "no data": [TENSOR],
    "data that are a number": [{**GOOD, "data": 3}],
    "parameters that are a list": [{**GOOD, "parameters": []}],
    "base64 that is none": [{**BYTES, "data": ["@"] * 3, "parameters": {"content_type": "base64"}}],
    "base64 of lists": [{**BYTES, "data": [[]] * 3, "parameters": {"content_type": "base64"}}],
    "files that are none": [{**BYTES, "data": ["no image"] * 3}],
    "a binary tensor that is not there": [{**TENSOR, "parameters": {"binary_data_size": 192}}],
    "a size that is a truth": [{**TENSOR, "parameters": {"binary_data_size": True}}],
    "a negative size of bytes": [{**TENSOR, "parameters": {"binary_data_size": -1}}],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_refused(client, what):
    answer = infer(client, *MALFORMED[what])
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    ("tensor", "binary"),
    [
        ({**TENSOR, "parameters": {"binary_data_size": 191}}, bytes(191)),
        ({**TENSOR, "parameters": {"binary_data_size": 192}}, bytes(193)),
        ({**BYTES, "parameters": {"binary_data_size": 2}}, b"\0\0"),
        ({**BYTES, "parameters": {"binary_data_size": 6}}, b"\xff\xff\xff\xff\0\0"),
        ({**BYTES, "parameters": {"binary_data_size": 8}}, bytes(8)),
        ({"name": "flag", "shape": [1], "datatype": "BOOL", "parameters": {"binary_data_size": 1}}, b"\2"),
        ({"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}, b"\0\0\xc0\x7f"),
    ],
    ids=["short", "long", "no length", "a length beyond the end", "too few strings", "no truth", "NaN"],
)
def test_malformed_binary_tensors_are_refused(client, tensor, binary):
    more = {"parameters": {"signature_name": "root"}} if tensor["name"] == "x" else {}
    assert infer(client, tensor, binary=binary, **more).status_code == 400


@pytest.mark.parametrize("length", ["-1", "1e3", "99999", "9" * 5000, "x", ""])
def test_a_wrong_length_of_the_json_is_refused(client, length):
    answer = client.post(f"{MODEL}/infer", content=b"{}", headers={"inference-header-content-length": length})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/absent", 404),
        ("GET", f"{MODEL}/versions/4", 404),
        ("GET", f"{MODEL}/versions/x", 404),
        ("GET", "/v2x", 404),
        ("GET", "/v2/health", 404),
        ("GET", f"{MODEL}/infer", 400),
        ("POST", MODEL, 400),
        ("POST", "/v2/models/absent/infer", 404),
    ],
)
def test_another_place_or_method_is_refused(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
