"""Versions of a model: several at once, new ones picked up and old ones let go without a dropped request."""

import asyncio
import json
import shutil
import threading
import time
import warnings
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from pipelines.serving import versions
from pipelines.serving.batching import Job
from pipelines.serving.http.limits import Limits
from pipelines.serving.model import Model
from pipelines.serving.server import application
from tests import odd_images, tiny_tasks, toy_model
from tests.conftest import cnn
from tests.converted import need
from tests.toy_model import running

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

PATIENCE = 60  # seconds
PICTURE = odd_images.encoded(odd_images.picture(8, 8), "PNG")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Two versions whose names of the classes tell them apart."""
    folder = tmp_path_factory.mktemp("versions")
    for number, prefix in ((1, "old"), (2, "new")):
        labels = [f"{prefix} {name}" for name in toy_model.LABELS]
        toy_model.export(folder / str(number), labels=labels, odd=False)
    return folder


@pytest.fixture
def toy(exported, tmp_path, monkeypatch):
    """A folder with the first version."""
    monkeypatch.setattr(versions, "PERIOD", 0.02)
    shutil.copytree(exported / "1", tmp_path / "toy" / "1")
    return tmp_path / "toy"


def publish(exported, toy):
    """The second version, at once."""
    shutil.copytree(exported / "2", toy.parent / "partial")
    (toy.parent / "partial").rename(toy / "2")


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def served(client, name="toy"):
    answer = client.get(f"/v1/models/{name}").json()
    return [int(row["version"]) for row in answer["model_version_status"]]


def asked(client, place="", name="toy"):
    headers = {"content-type": "image/png"}
    return client.post(f"/v1/models/{name}{place}:predict", content=PICTURE, headers=headers)


def label(answer):
    return answer.json()["predictions"][0]["label"].split()[0]


@contextmanager
def hammering(ask):
    """Ask again and again on two threads meanwhile; every answer must be a good one."""
    ended, answers = threading.Event(), []

    def repeat():
        while not ended.is_set():
            answers.append(ask())

    threads = [threading.Thread(target=repeat) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert answers
    assert {answer.status_code for answer in answers} == {200}


def test_a_new_version_takes_over_without_a_dropped_request(exported, toy):
    with TestClient(application(toy)) as client:
        with hammering(lambda: asked(client)) as answers:
            publish(exported, toy)
            until(lambda: served(client) == [2])
            until(lambda: label(answers[-1]) == "new")
        assert label(answers[0]) == "old"
        assert asked(client, "/versions/1").status_code == 404
        assert client.get("/healthz").json()["version"] == 2


def test_several_versions_are_served_at_once(exported, toy):
    said = []
    with TestClient(application(toy, versions=2, say=said.append)) as client:
        with hammering(lambda: asked(client, "/versions/1")):
            publish(exported, toy)
            until(lambda: served(client) == [2, 1])
        assert [label(asked(client, place)) for place in ("/versions/1", "/versions/2", "")] == ["old", "new", "new"]
        assert client.get("/v2/models/toy").json()["versions"] == ["1", "2"]
        assert client.get("/v2/models/toy/versions/1/ready").is_success
        assert client.get("/v2/models/toy/versions/3/ready").status_code == 404
        assert client.get("/v1/models/toy/versions/1/metadata").json()["model_spec"]["version"] == "1"
        shutil.rmtree(toy / "1")  # what is loaded is not needed on the disk
        assert label(asked(client, "/versions/1")) == "old"
    assert len(said) == 1


def test_a_version_that_is_incomplete_is_not_served_until_it_is(exported, toy):
    said = []
    with TestClient(application(toy, say=said.append)) as client:
        (toy / "2").mkdir()
        whole = (exported / "2" / "saved_model.pb").read_bytes()
        (toy / "2" / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
        until(lambda: said)
        assert (served(client), label(asked(client))) == ([1], "old")
        shutil.copytree(exported / "2", toy / "2", dirs_exist_ok=True)
        until(lambda: served(client) == [2])
        assert label(asked(client)) == "new"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lenet")
    recipe = tiny_tasks.write("classify", folder)
    assert cnn("run", recipe, "--runs", folder / "runs") == 0
    return recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "workers"), [("onnx", 1), ("onnx", 2), ("openvino", 1), ("litert", 1), ("tensorflow", 2)]
)
def test_an_export_is_picked_up_by_a_running_server(engine, workers, recipe):
    other = engine != "tensorflow"
    if other:
        need(engine)
    run = recipe.parent / "runs" / "classify" / "small"

    def export():
        arguments = ("--format", engine) if other else ()
        assert cnn("export", recipe, "--force", *arguments, "--runs", run.parents[1]) == 0
        return max(int(path.name) for path in (run / "export" / "small").glob("[0-9]*"))

    before = export()
    network = f"{engine}-float32"
    folder = run / "formats" / network if other else run / "export" / "small"
    with running(folder, engine, workers, versions=2) as (_, url), httpx.Client(base_url=url) as client:
        with hammering(lambda: asked(client, name="small")):
            after = export()
            for _ in range(4 * workers):  # connections are dealt out among the workers
                with httpx.Client(base_url=url) as one:
                    until(lambda one=one: after in served(one, "small"))
        assert served(client, "small") == [after, before]
        assert asked(client, f"/versions/{before}", name="small").is_success
    if other:
        kept = run / "formats" / "versions" / str(before) / network / "network.json"
        assert json.loads(kept.read_text())["version"] == before


class Quick(Model):
    """A model that says on which thread it was called."""

    is_quick = True

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, signature, tensors):
        return {"y": np.array([threading.current_thread() is threading.main_thread()] * len(tensors["x"]))}


@pytest.mark.parametrize(
    ("rows", "pixels", "is_short", "is_quick", "served", "expected"),
    [
        (1, 784, True, True, None, True),
        (1, versions.FEW_PIXELS + 1, True, True, None, False),
        (2, 784, True, True, None, False),
        (1, 0, True, True, None, False),  # no picture: an array may have any size
        (1, 784, False, True, None, False),
        (1, 784, True, False, None, False),
        (1, 784, True, True, lambda *given: None, False),  # what keeps pictures may take its time
    ],
)
def test_a_small_picture_is_answered_at_once_by_a_quick_model(
    rows, pixels, is_short, is_quick, served, expected, tmp_path
):
    model = Quick(tmp_path)
    model.is_quick = is_quick
    job = Job("x", lambda: {"x": np.zeros(rows)}, rows=rows, shape=(), pixels=pixels)

    async def answer():
        version = versions.Version(model, Limits(), lambda rows: None, served)
        version.start()
        found = await version(job, is_short=is_short)
        await version.drain()
        return found["y"]

    assert asyncio.run(answer()).tolist() == [expected] * rows
