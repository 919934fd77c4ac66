"""Pictures that are served, kept with the answers: within bounds, and never at the cost of an answer."""

import base64
import errno
import json
import re
import time
import warnings
from hashlib import sha256
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from cnn_keras.data.files import durable
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.errors import Fault
from pipelines.serving import archive
from pipelines.serving.archive import Settings
from pipelines.serving.server import application
from tests import toy_model
from tests.conftest import cnn
from tests.converted import need
from tests.toy_model import running

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

PATIENCE = 60  # seconds


def shade(level):
    return encode_png(np.full((8, 8, 1), level, np.uint8))


DARK, DOUBTFUL = shade(5), shade(64)  # of the second the toy model has 0.5 at most


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toy_model.export(tmp_path_factory.mktemp("models") / "toy" / "3")


def results(client):
    found = re.findall(r'^cnn_kept_pictures_total\{result="(\w+)"\} (\d+)', client.get("/metrics").text, re.MULTILINE)
    return {name: int(count) for name, count in found if int(count)}


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kept(folder):
    """Pictures and answers by the name of the picture; every file belongs to one."""
    answers = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    pictures = {path.stem: path for path in folder.glob("*.[pj][np]g")}
    assert pictures.keys() == answers.keys()
    names = {path.name for path in folder.iterdir()} - {path.name for path in pictures.values()}
    assert names - {f"{stem}.json" for stem in answers} <= {archive.USED, archive.LOCK}
    return {path.name: (path.read_bytes(), answers[stem]) for stem, path in pictures.items()}


def test_a_served_picture_is_kept_with_its_answer_whatever_way_it_came(model, tmp_path):
    b64 = base64.b64encode(shade(100)).decode()
    with TestClient(application(model, keep=Settings(tmp_path / "kept", share=1))) as client:
        answer = client.post("/predict", files={"../../evil.png": DARK}).json()["predictions"][0]
        client.post("/v1/models/toy:predict", json={"instances": [{"b64": b64}]})
        tensor = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": [200] * 64}
        client.post("/v2/models/toy/infer", json={"inputs": [tensor]})
        client.post("/predict", files={"file": DARK})
        until(lambda: results(client) == {"kept": 3, "known": 1})
        assert f"cnn_kept_bytes {sum(p.stat().st_size for p in (tmp_path / 'kept').glob('[!.]*'))}" in (
            client.get("/metrics").text
        )
    found = kept(tmp_path / "kept")
    assert {data for data, _ in found.values()} >= {DARK, shade(100)}
    _, row = found[f"{sha256(DARK).hexdigest()[:32]}.png"]
    assert row["answer"] == {**answer, "probabilities": pytest.approx(answer["probabilities"])}
    assert (row["model"], row["version"], row["signature"], row["kept"]) == ("toy", 3, "serving_default", "share")
    assert row["confidence"] == pytest.approx(max(answer["probabilities"]), abs=1e-6)
    assert row["time"].endswith("+00:00")
    assert {row["signature"] for _, row in found.values()} == {"serving_default", "serving_tensor"}
    assert list(tmp_path.iterdir()) == [tmp_path / "kept"]
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0


def test_of_a_batch_only_unsure_answers_are_kept(model, tmp_path):
    settings = Settings(tmp_path / "kept", share=0, unsure=True, below=0.6)
    with TestClient(application(model, keep=settings)) as client:
        files = [("files", file) for file in (DARK, DOUBTFUL, shade(255))]
        answers = client.post("/predict", files=files).json()["predictions"]
        assert [max(row["probabilities"]) < 0.6 for row in answers] == [False, True, False]
    ((data, row),) = kept(tmp_path / "kept").values()
    assert (data, row["kept"], row["answer"]["label"]) == (DOUBTFUL, "unsure", answers[1]["label"])


def test_nothing_is_kept_unless_asked_for(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with TestClient(application(model)) as client:
        client.post("/predict", files={"file": DARK})
        assert "cnn_kept" not in client.get("/metrics").text
    assert not list(tmp_path.iterdir())


def test_the_share_that_is_kept_is_the_one_asked_for(tmp_path):
    drawn, toy = archive.Archive(Settings(tmp_path / "kept", share=0.1)), SimpleNamespace(name="toy", version=1)
    pictures = np.array([shade(0), shade(1)], object)
    for _ in range(1000):
        drawn.called(toy, "serving_default", {"image_bytes": pictures}, {})
    drawn.close()
    assert 100 < sum(drawn.counts.values()) < 300  # 200 of 2,000; the chance of anything else is below 1e-12
    assert drawn.counts["kept"] == 2


def test_a_full_folder_stays_as_it_is_until_somebody_makes_room(model, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "AGAIN", 0)
    folder = tmp_path / "kept"
    with TestClient(application(model, keep=Settings(folder, share=1, limit=2000))) as client:
        for level in range(20):
            assert client.post("/predict", files={"file": shade(level)}).is_success
        until(lambda: sum(results(client).values()) == 20)
        assert set(results(client)) == {"kept", "full"}
        assert sum(path.stat().st_size for path in folder.glob("[!.]*")) <= 2000
        before = kept(folder)
        for path in folder.glob("[!.]*"):
            path.unlink()
        client.post("/predict", files={"file": shade(100)})
        until(lambda: sum(results(client).values()) == 21)
    assert before
    assert [data for data, _ in kept(folder).values()] == [shade(100)]


def test_a_full_disk_costs_no_answer(model, tmp_path, monkeypatch, caplog):
    def full(path, suffix=""):
        if path.suffix == ".json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return whole(path, suffix=suffix)

    whole = durable.atomic_write
    monkeypatch.setattr(durable, "atomic_write", full)
    with TestClient(application(model, keep=Settings(tmp_path / "kept", share=1))) as client:
        for level in range(3):
            assert client.post("/predict", files={"file": shade(level)}).is_success
        until(lambda: results(client) == {"failed": 3})
    assert not kept(tmp_path / "kept")
    assert caplog.text.count("No space left on device") == 1


def test_requests_do_not_wait_for_a_disk_that_hangs(model, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "WAITING", 20_000)
    monkeypatch.setattr(archive, "PATIENCE", 0)
    with TestClient(application(model, keep=Settings(tmp_path / "kept", share=1))) as client:
        with archive.FileLock(tmp_path / "kept" / archive.LOCK):
            for level in range(20):
                assert client.post("/predict", files={"file": shade(level)}).is_success
            busy = results(client)["busy"]
            assert 10 < busy < 20
        until(lambda: results(client) == {"kept": 20 - busy, "busy": busy})


def test_whatever_is_wrong_with_keeping_a_request_is_answered(model, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "is_unsure", lambda outputs, below: 1 / 0)
    with TestClient(application(model, keep=Settings(tmp_path / "kept", unsure=True))) as client:
        assert client.post("/predict", files={"file": DARK}).is_success
        assert results(client) == {"failed": 1}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"probabilities": [[0.2, 0.8], [0.6, 0.4]]}, [0.8, 0.6]),
        ({"probabilities": [[0.9, 0.6], [0.9, 0.05]], "chosen": [[True, True], [True, False]]}, [0.6, 0.9]),
        ({"scores": [[0.9, 0.3, 0.0], [0.0, 0.0, 0.0]], "count": [2, 0]}, [0.7, 1.0]),
        ({"shares": [[0.5, 0.5]], "confidence": [[1.0, 0.5]]}, [0.75]),
        ({"presence": [0.1, 0.9, 0.9], "probabilities": [[0.5, 0.5], [0.5, 0.5], [1, 0]]}, [0.9, 0.5, 0.9]),
    ],
)
def test_the_confidence_of_an_answer_is_that_of_its_least_certain_part(outputs, expected):
    found = archive.confidence_of({name: np.array(values) for name, values in outputs.items()})
    np.testing.assert_allclose(found, expected)


def test_answers_without_a_confidence_are_never_unsure():
    assert archive.is_unsure({"angle": np.zeros(2)}, None) is None


def test_the_threshold_of_the_model_goes_before_that_of_all():
    outputs = {"probabilities": np.array([[0.9, 0.1], [0.8, 0.2]]), "accepted": np.array([True, False])}
    assert archive.is_unsure(outputs, None).tolist() == [False, True]
    assert archive.is_unsure(outputs, 0.95).tolist() == [True, True]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_served(model, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "kept"):
        with pytest.raises(Fault, match="--keep must be a folder"):
            archive.check(folder)


def test_options_that_mean_nothing_are_refused(tmp_path):
    assert cnn("serve", "classify/digits-lenet5", "--keep-unsure") == 2
    assert cnn("serve", "faces", "--keep", tmp_path / "kept") == 2
    assert cnn("serve", "classify/digits-lenet5", "--keep", tmp_path / "kept", "--keep-below", "0.9") == 2
    assert not (tmp_path / "kept").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "workers"), [("tensorflow", 2), ("onnx", 1), ("onnx", 2)])
def test_several_processes_keep_into_one_folder_within_its_bound(engine, workers, model, tmp_path):
    need("onnx")
    folder = model if engine == "tensorflow" else toy_model.convert(tmp_path / "toy", "onnx")
    settings = Settings(tmp_path / "kept", share=1, limit=8000)
    with running(folder, engine, workers, keep=settings) as (process, url):
        for level in range(60):
            with httpx.Client() as client:  # a connection each, so that every worker has some
                assert client.post(f"{url}/predict", files={"file": shade(level)}).is_success
        process.terminate()
        assert process.wait(PATIENCE) == 0
    found = kept(tmp_path / "kept")
    used = sum(path.stat().st_size for path in (tmp_path / "kept").glob("[!.]*"))
    assert 8000 - 1000 < used <= 8000  # no picture takes 1,000 bytes with its answer
    assert {data for data, _ in found.values()} <= {shade(level) for level in range(60)}
