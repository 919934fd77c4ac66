"""A model that answers with pictures: PNG for a picture, JSON for whoever wants JSON or sends several."""

import base64
import io
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.image_decoding import decode
from cnn_keras.errors import Fault
from pipelines.inference import predict
from pipelines.serving.server import application

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

AS_PNG = {"content-type": "image/png"}
PICTURE = np.arange(5 * 7 * 3, dtype="uint8").reshape(5, 7, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A SavedModel that paints negatives, and by another signature mirrors."""
    folder = tmp_path_factory.mktemp("models") / "negative" / "1"

    def painting(change):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def paint(image_bytes):
            return {
                "painting_bytes": tf.map_fn(
                    lambda data: tf.io.encode_png(change(decode(data, channels=3))), image_bytes
                )
            }

        return paint

    signatures = {"serving_default": painting(lambda image: 255 - image), "mirror": painting(tf.image.flip_left_right)}
    tf.saved_model.save(tf.Module(), str(folder), signatures=signatures)
    return folder


@pytest.fixture(scope="module")
def client(folder):
    with TestClient(application(folder)) as client:
        yield client


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("path", ["/predict", "/v1/models/negative:predict"])
def test_a_picture_comes_back_as_one(client, path):
    answer = client.post(path, content=encode_png(PICTURE), headers=AS_PNG)
    assert answer.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(pixels(answer.content), 255 - PICTURE)


def test_a_form_with_one_file_does_too_and_with_two_is_json(client):
    one = client.post("/predict", files={"file": encode_png(PICTURE)})
    np.testing.assert_array_equal(pixels(one.content), 255 - PICTURE)
    two = client.post("/predict", files=[("file", encode_png(PICTURE)), ("file", encode_png(PICTURE[:3]))])
    found = [pixels(base64.b64decode(row["b64"])) for row in two.json()["predictions"]]
    assert [picture.shape for picture in found] == [(5, 7, 3), (3, 7, 3)]


def test_whoever_asks_for_json_gets_it(client):
    answer = client.post("/predict", content=encode_png(PICTURE), headers={**AS_PNG, "accept": "application/json"})
    np.testing.assert_array_equal(pixels(base64.b64decode(answer.json()["predictions"][0]["b64"])), 255 - PICTURE)
    instances = {"instances": [{"b64": base64.b64encode(encode_png(PICTURE)).decode()}]}
    assert "b64" in client.post("/v1/models/negative:predict", json=instances).json()["predictions"][0]


def test_another_signature_is_named_in_the_address(client):
    answer = client.post("/predict?signature_name=mirror", content=encode_png(PICTURE), headers=AS_PNG)
    np.testing.assert_array_equal(pixels(answer.content), PICTURE[:, ::-1])
    unknown = client.post("/predict?signature_name=none", content=encode_png(PICTURE), headers=AS_PNG)
    assert unknown.status_code == 400
    assert "it has mirror, serving_default" in unknown.json()["error"]


def test_a_broken_picture_is_refused_in_words(client):
    answer = client.post("/predict", content=encode_png(PICTURE)[:60], headers=AS_PNG)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"


def test_the_page_shows_every_named_style(client):
    assert '"paints": ["mirror"]' in client.get("/").text


def test_predict_reads_paintings_and_the_name_of_a_style(folder, tmp_path, monkeypatch):
    from rich.console import Console

    (tmp_path / "one.png").write_bytes(encode_png(PICTURE))
    (tmp_path / "two.png").write_bytes(b"nothing")
    console = Console(quiet=True)
    files = [tmp_path / "one.png", tmp_path / "two.png"]
    good, bad = predict.predict(folder, files, top=1, console=console, signature="mirror")
    np.testing.assert_array_equal(pixels(good.painting), PICTURE[:, ::-1])
    assert good.as_dict() == {"path": str(files[0]), "painting": {"width": 7, "height": 5}, "problem": None}
    assert bad.problem
    assert predict.draw([good, bad], tmp_path / "drawn") == 1
    np.testing.assert_array_equal(pixels((tmp_path / "drawn" / "0000-one.png").read_bytes()), PICTURE[:, ::-1])
    with pytest.raises(Fault, match="--signature must be one of mirror, serving_default, got 'none'"):
        predict.predict(folder, files, top=1, console=console, signature="none")
