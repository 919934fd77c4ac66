"""The REST contract over HTTP, on a SavedModel that tells dark pictures from grey and bright ones."""

import asyncio
import base64
import gzip
import io
import json
import time
import warnings

import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from cnn_keras.errors import Fault
from pipelines.inference.exported_model import newest
from pipelines.serving.http.errors import Refusal
from pipelines.serving.http.limits import Limits
from pipelines.serving.http.request_body import Intake
from pipelines.serving.model import Model
from pipelines.serving.rest import tensors
from pipelines.serving.server import application
from tests.toy_model import LABELS, export

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

MODEL = "/v1/models/toy"
LIMITS = Limits(body=200_000, rows=20, pixels=10_000, request_pixels=15_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export(tmp_path_factory.mktemp("models") / "toy" / "3")


@pytest.fixture(scope="module")
def client(folder):
    with TestClient(application(folder, limits=LIMITS)) as client:
        yield client


def picture(value, size=(9, 7), form="PNG", mode="L", **options):
    """An encoded image of one brightness."""
    file = io.BytesIO()
    Image.new(mode, size, value).save(file, form, **options)
    return file.getvalue()


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


DARK, GREY, BRIGHT = (b64(picture(value)) for value in (0, 128, 255))


def predict(client, **body):
    answer = client.post(f"{MODEL}:predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer, status=400):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    return answer.json()["error"]


def test_rows_of_encoded_images_come_back_as_objects_in_order(client):
    rows = predict(client, instances=[DARK, GREY, BRIGHT])["predictions"]
    assert [row["label"] for row in rows] == list(LABELS)
    assert [row["class_id"] for row in rows] == [0, 1, 2]
    assert all(sum(row["probabilities"]) == pytest.approx(1) for row in rows)


def test_named_rows_answer_like_plain_ones(client):
    named = predict(client, instances=[{"image_bytes": DARK}, {"image_bytes": GREY}])
    assert named == predict(client, instances=[DARK, GREY])


def test_columns_come_back_as_one_object_of_tensors(client):
    outputs = predict(client, inputs={"image_bytes": [DARK, BRIGHT]})["outputs"]
    assert outputs["label"] == ["dark", "bright"]
    assert np.shape(outputs["probabilities"]) == (2, 3)
    assert outputs == predict(client, inputs=[DARK, BRIGHT])["outputs"]


def test_pixels_answer_like_the_encoded_image(client):
    pixels = np.full((1, 8, 8, 1), 255).tolist()
    answer = predict(client, signature_name="serving_tensor", instances=pixels)
    assert answer["predictions"][0]["label"] == "bright"


def test_one_output_is_a_bare_value_and_one_input_may_be_a_scalar(client):
    assert predict(client, signature_name="root", instances=[4, 9.0]) == {"predictions": [2.0, 3.0]}
    assert predict(client, signature_name="scalar", inputs=4) == {"outputs": 8.0}


def test_several_inputs_need_objects(client):
    rows = [{"a": [1, 2], "b": 3}, {"b": 0, "a": [0.5, 0]}]
    assert predict(client, signature_name="two_inputs", instances=rows) == {"predictions": [6.0, 0.5]}
    columns = {"a": [[1, 2]], "b": [3]}
    assert predict(client, signature_name="two_inputs", inputs=columns) == {"outputs": [6.0]}


def test_strings_come_back_plain_and_as_base64_where_the_name_ends_in_bytes(client):
    copies = predict(client, signature_name="echo", instances=["Grüße", b64(b"trailing zero\0")])["predictions"]
    assert copies[0] == {"copy": "Grüße", "copy_bytes": b64("Grüße".encode())}
    assert copies[1]["copy_bytes"] == b64(b"trailing zero\0")


def test_more_rows_than_a_batch_come_back_in_order(client):
    rows = predict(client, instances=[DARK, GREY, BRIGHT] * 6)["predictions"]
    assert [row["label"] for row in rows] == list(LABELS) * 6


def test_classify_names_every_class(client):
    body = {"signature_name": "serving_classify", "examples": [{"image_bytes": BRIGHT}, {"image_bytes": DARK}]}
    results = client.post(f"{MODEL}:classify", json=body).json()["results"]
    assert [[label for label, _ in row] for row in results] == [list(LABELS)] * 2
    assert [max(row, key=lambda pair: pair[1])[0] for row in results] == ["bright", "dark"]


def test_regress_merges_the_context_into_every_example(client):
    body = {"signature_name": "regress", "context": {"x": 4.0, "y": [True]}, "examples": [{}, {"x": [1.5]}]}
    assert client.post(f"{MODEL}:regress", json=body).json() == {"results": [8.0, 3.0]}


@pytest.mark.parametrize("path", [f"{MODEL}:predict", "/predict"])
@pytest.mark.parametrize(
    ("form", "kind"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("BMP", "image/bmp")]
)
def test_an_image_file_is_a_request(client, path, form, kind):
    answer = client.post(path, content=picture(255, form=form), headers={"content-type": kind})
    assert answer.json()["predictions"][0]["label"] == "bright"


def test_uploaded_files_are_rows(client):
    files = [("a", ("a.png", picture(0))), ("b", ("b.jpg", picture(255, form="JPEG")))]
    answer = client.post("/predict", files=files, data={"comment": "not a file"})
    assert [row["label"] for row in answer.json()["predictions"]] == ["dark", "bright"]


def test_a_rotated_photograph_stands_upright_before_the_model_sees_it(client, folder):
    half = np.zeros((64, 64), np.uint8)
    half[:32] = 255
    turned = Image.fromarray(np.rot90(half))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned by 90 degrees
    file = io.BytesIO()
    turned.save(file, "JPEG", exif=exif, quality=100)
    seen = []
    model = Model(folder)
    app = application(folder)
    app.state.endpoints.versions.newest._batcher._model = lambda name, tensors: (
        seen.append(tensors) or model(name, tensors)
    )
    with TestClient(app) as client:
        assert client.post("/predict", content=file.getvalue(), headers={"content-type": "image/jpeg"}).is_success
    pixels = np.asarray(Image.open(io.BytesIO(seen[0]["image_bytes"][0])))
    assert pixels[16].mean() > 250
    assert pixels[48].mean() < 5


def test_a_gzip_body_is_inflated(client):
    body = gzip.compress(json.dumps({"instances": [GREY]}).encode())
    answer = client.post(f"{MODEL}:predict", content=body, headers={"content-encoding": "gzip"})
    assert answer.json()["predictions"][0]["label"] == "grey"


def test_status_and_metadata_read_like_tensorflow_serving(client):
    (status,) = client.get(MODEL).json()["model_version_status"]
    assert status == {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    answer = client.get(f"{MODEL}/versions/3/metadata").json()
    assert answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "3"}
    default = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert default["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert default["inputs"]["image_bytes"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}],
        "unknown_rank": False,
    }
    assert default["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize("path", [MODEL.upper().replace("TOY", "toy"), f"{MODEL}/versions/3", f"{MODEL}/versions/03"])
def test_paths_ignore_case_and_may_name_the_version(client, path):
    assert client.get(path).is_success
    assert client.post(f"{path}:predict", json={"instances": [DARK]}).is_success


@pytest.mark.parametrize("place", ["other", "toy/versions/4", "toy/labels/stable", "toy/versions/" + "9" * 5000])
def test_another_model_version_or_label_is_not_found(client, place):
    refused(client.get(f"/v1/models/{place}"), 404)
    refused(client.post(f"/v1/models/{place}:predict", json={"instances": [DARK]}), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("DELETE", "/predict", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("PUT", "/metrics", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("TRACE", "/predict", "POST"),
    ],
)
def test_another_method_is_answered_with_those_that_a_path_takes(client, method, path, allowed):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["error"]


def test_the_row_at_fault_is_named_and_no_trace_comes_back(client):
    broken = b64(picture(0)[:50])
    assert refused(client.post(f"{MODEL}:predict", json={"instances": [DARK, b64(b"text"), DARK]})) == (
        "row 1: the bytes are not an image"
    )
    text = refused(client.post(f"{MODEL}:predict", json={"instances": [DARK] * 9 + [broken]}))
    assert text == "row 9: Invalid PNG data, size 50"
    text = refused(client.post(f"{MODEL}:predict", json={"signature_name": "root", "instances": [1, 4, -1]}))
    assert text == "row 2: assertion failed: [x must not be negative]"


def test_an_error_that_quotes_raw_bytes_is_the_clients_all_the_same(client):
    example = b"\n\x13\n\x11\n\x0bimage_bytes\x12\x02\n\x00"  # no picture in it, and what follows is no text
    body = {"signature_name": "serving_classify", "instances": [b64(example), b64(b"\x89PNG\r\n\x1a\n")]}
    assert "row" in refused(client.post(f"{MODEL}:predict", json=body))


def test_pixels_of_one_image_and_of_a_request_are_limited(client):
    large, half = picture(0, (101, 100)), picture(0, (100, 80))
    kind = {"content-type": "image/png"}
    assert "101x100 pixels" in refused(client.post("/predict", content=large, headers=kind))
    assert client.post("/predict", content=half, headers=kind).is_success
    both = {"instances": [b64(half), b64(half)]}
    assert "15,000 pixels" in refused(client.post(f"{MODEL}:predict", json=both))


def test_metrics_count_requests_errors_and_batches(client):
    predict(client, instances=[DARK])
    client.post(f"{MODEL}:predict", content=b"{")
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    assert int(lines['cnn_requests_total{kind="predict",status="200"}']) > 0
    assert 0 < int(lines['cnn_errors_total{kind="predict"}']) < int(lines['cnn_request_seconds_count{kind="predict"}'])
    assert int(lines['cnn_batch_rows_bucket{le="8.0"}']) == int(lines["cnn_batch_rows_count"]) > 0
    assert lines["cnn_queue_rows"] == lines["cnn_body_bytes"] == "0"


def test_the_page_is_self_contained_and_knows_its_model(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert '"name": "toy"' in page.text
    assert "http://" not in page.text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page.text
    assert "{{" not in page.text


def test_health_names_the_model(client):
    assert client.get("/healthz").json() == {"status": "ok", "model": "toy", "version": 3}


def test_an_answer_that_takes_too_long_is_given_up(folder):
    app = application(folder, limits=Limits(answer_seconds=0.05))
    app.state.endpoints.versions.newest._batcher._model = lambda name, tensors: time.sleep(0.3) or {}
    with TestClient(app) as client:
        assert "0.05 seconds" in refused(client.post("/predict", json={"instances": [DARK]}), 504)


def test_a_draining_server_says_so_and_asks_clients_to_reconnect(folder):
    app = application(folder)
    with TestClient(app) as client:
        app.state.endpoints.draining = True
        assert client.get("/healthz").status_code == 503
        answer = client.post("/predict", json={"instances": [DARK]})
        assert answer.is_success
        assert answer.headers["connection"] == "close"


def test_bodies_held_at_one_moment_are_limited():
    async def receive():
        return {"type": "http.request", "body": b"six by", "more_body": False}

    async def main():
        intake = Intake(Limits(memory=10))
        first, second = (Request({"type": "http", "headers": []}, receive) for _ in range(2))
        async with intake.body(first) as body:
            assert (body, intake.held) == (b"six by", 6)
            with pytest.raises(Refusal, match="busy"):
                await intake.body(second).__aenter__()
        assert intake.held == 0

    asyncio.run(main())


def test_the_highest_version_is_served(folder):
    other = folder.parent / "12"
    (other).mkdir()
    (other / "saved_model.pb").touch()
    (folder.parent / "99").mkdir()  # a folder without a model is no version
    assert newest(folder.parent) == other
    assert newest(folder) == folder
    (other / "saved_model.pb").unlink()


def test_a_folder_without_a_saved_model_says_what_is_in_it(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(Fault, match=r"model folder must be a SavedModel .* which holds notes\.txt"):
        Model(tmp_path)
    with pytest.raises(Fault, match="no such folder"):
        Model(tmp_path / "absent")
    (tmp_path / "saved_model.pb").write_bytes(b"not a protocol buffer")
    with pytest.raises(Fault, match=r"saved_model\.pb must be a SavedModel"):
        Model(tmp_path)


def test_an_error_shows_a_number_as_a_number_and_a_truth_as_a_truth():
    assert [tensors._shown(value) for value in (1, True, None, "a")] == ["1", "true", "null", "'a'"]


@pytest.mark.parametrize("count", [7, 20_000])
def test_float32_is_answered_in_nine_digits_which_give_it_back(count):
    generator = np.random.default_rng(0)
    numbers = generator.integers(0, 2**32, count, np.uint32).view(np.float32)  # any bits: tiny, huge, infinite, none
    numbers[::3] = generator.random(len(numbers[::3]))
    numbers[:3] = (0, 0.9, -1000)
    answer = np.array(tensors.values(numbers.reshape(-1, 1), "x"))[:, 0]
    np.testing.assert_array_equal(answer, [float(f"{number:.9g}") for number in numbers.tolist()])
    np.testing.assert_array_equal(answer.astype(np.float32), numbers)
