"""`cnn faces` and `cnn serve faces`: enrol, verify, identify, forget, by a small embedder; strangers are refused."""

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.errors import Fault
from cnn_keras.metrics import verification
from pipelines.data import run_files
from pipelines.faces import service as faces
from pipelines.faces import store
from pipelines.faces.encoder import Guard, Recogniser, Threshold, version_of
from pipelines.faces.gallery import Settings
from pipelines.inference.embedding import FACTS
from pipelines.serving import server as app
from pipelines.serving.face_routes import FaceEndpoints, checked_key
from pipelines.serving.http.limits import Limits
from pipelines.serving.http.origin import Visitors
from tests.conftest import cnn

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

pytest_plugins = ["tests.small_people"]
KEY = "0123456789abcdef"


class Oracle(Recogniser):
    """A recogniser whose embedding of a picture is what its pixels say: a grey is a direction."""

    def __init__(self, *, model="sha256:one", far=0.01, guard=None, detector=None):
        curve = [[0.1, 1e-4], [0.2, 1e-3], [0.4, 1e-2], [4.0, 1.0]]
        self.facts = {"far": far, "head": False, "align": None, "size": [8, 8], "false_accept_bounds": curve}
        self.facts |= {"least_far": 1e-4, "calibration_people": 300}
        self.facts["false_rejects"] = [[0.0, 1.0], [0.2, 0.1], [0.4, 0.0]]
        self.settings = Settings(model, 16, "verify/oracle")
        self.folder = SimpleNamespace(parent=SimpleNamespace(name="oracle"))
        self._guard, self._aligner, self._detector = guard, None, detector

    def _vectors(self, files):
        pictures = [np.asarray(Image.open(io.BytesIO(file)).convert("L")) for file in files]
        return [direction(int(picture[tuple(side // 2 for side in picture.shape)])) for picture in pictures]


def direction(grey):
    """Greys of one ten are near each other, any two tens far apart: float32 (16,)."""
    base = np.random.default_rng(grey // 10).normal(size=16)
    vector = base + 0.05 * np.random.default_rng(1000 + grey).normal(size=16)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def face(grey):
    return encode_png(np.full((8, 8, 1), grey, np.uint8))


def photo(name, data, source):
    return name, partial(bytes, data), source


@pytest.fixture
def opened(tmp_path):
    found = store.open_gallery(str(tmp_path / "faces.db"))
    yield found
    found.close()


@pytest.fixture
def known(opened):
    """A gallery of ten people with one photograph each."""
    photos = [photo(f"p{person}", face(10 * person), f"{person}.png") for person in range(10)]
    assert faces.enrol(opened, Oracle(), photos) == (10, 0, [])
    return opened


def test_people_are_named_and_strangers_refused(known):
    answers = list(chain(*faces.identify(known, Oracle(), [face(10 * person + 3) for person in range(20)], None)))
    assert [answer.name for answer in answers] == [f"p{person}" for person in range(10)] + [None] * 10
    assert all(answer.distance > answer.threshold.distance for answer in answers[10:])
    assert len({answer.threshold for answer in answers}) == 1
    assert answers[0].threshold == Threshold(pytest.approx(0.2), 0.01, pytest.approx(0.1), 0.01, 300)


def test_photographs_are_read_a_batch_at_a_time_and_enrolled_together(opened):
    events = []

    class Watched(Oracle):
        def embed(self, files, **options):
            events.append(len(files))
            assert not opened.count()
            return super().embed(files, **options)

    def load(grey):
        events.append("read")
        return face(grey)

    photos = ((f"p{number}", partial(load, number), f"{number}.png") for number in range(70))
    assert faces.enrol(opened, Watched(), photos) == (70, 0, [])
    assert events == ["read"] * 32 + [32] + ["read"] * 32 + [32] + ["read"] * 6 + [6]


def test_the_threshold_shares_the_rate_among_all_that_are_compared():
    oracle = Oracle()
    assert oracle.threshold(None).distance == pytest.approx(0.4)
    assert oracle.threshold(None, 10).distance == pytest.approx(0.2)
    assert oracle.threshold(0.1, 100).distance == pytest.approx(0.2)
    assert oracle.threshold(0.1, 100).measured
    beyond = oracle.threshold(1e-4, 100)  # of a millionth nothing was measured, of a hundred times 1e-4 something
    assert not beyond.measured
    assert beyond.bound == pytest.approx(0.01)
    assert 0 <= beyond.distance < 0.1
    assert oracle.threshold(1e-4, 10**6).bound == 1
    with pytest.raises(Fault, match="--far must be between 0 and 1, got 1"):
        oracle.threshold(1)


def test_every_answer_tells_how_sure_it_is_and_by_whom(known):
    sure, drawn = faces.verify(known, Oracle(), "p4", [face(43)], 0.01)[0], Oracle().threshold(1e-6)
    told = sure.as_dict()
    assert (told["false_accept_rate"], told["false_accept_bound"], told["calibration_people"]) == (0.01, 0.01, 300)
    assert told["measured"] is True
    assert "a rate of at most 0.01, sure to 95% by 300 people" in str(sure.threshold)
    assert "extrapolated: 300 people can show no rate below 0.0001" in str(drawn)


def test_a_model_that_knows_no_bounds_still_answers_and_says_that_its_rate_is_an_estimate(known):
    """As exported before there were bounds: `false_accepts` of pairs, and none of `false_accept_bounds`."""
    old = Oracle()
    old.facts["false_accepts"] = old.facts.pop("false_accept_bounds")
    del old.facts["least_far"]
    ((answer,),) = faces.identify(known, old, [face(33)], None)
    assert answer.name == "p3"
    assert answer.threshold.distance == pytest.approx(0.2)
    assert (answer.as_dict()["false_accept_bound"], answer.as_dict()["measured"]) == (None, False)
    assert "a point estimate by 300 people" in str(answer.threshold)


def test_a_table_of_bounds_is_kept_between_its_rows_and_below_them():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    distances = np.maximum(2 - 2 * rows @ rows.T, 0)
    few = distances[:80, :80]
    labels = np.repeat(range(40), 2)
    table = verification.false_accept_bounds(verification.all_pairs(few, labels), labels)
    assert len(table) <= 100
    many = distances[80:][np.triu_indices(2920, 81, 3000)]
    for far in (0.1, 0.01, 0.001, 1e-4):
        accepted = (many <= verification.threshold_for(table, far)).mean()
        assert accepted <= far
        assert accepted > far / 4 or far < 0.01


def test_the_share_of_rejects_is_that_of_the_pairs_beyond_the_threshold():
    distances = np.random.default_rng(0).gamma(3, 0.05, 5000)
    curve = verification.false_reject_curve(distances)
    for threshold in (0.05, 0.1, 0.2, 0.4):
        assert verification.false_reject_rate(curve, threshold) == pytest.approx(
            (distances > threshold).mean(), abs=0.02
        )
    assert verification.false_reject_rate(curve, -1) == 1
    assert verification.false_reject_rate(curve, 9) == 0


def test_somebody_is_verified_under_the_own_name_only(known):
    own, other = faces.verify(known, Oracle(), "p4", [face(43), face(53)], None)
    assert (own.name, other.name) == ("p4", None)
    assert own.distance < own.threshold.distance == pytest.approx(0.4)
    with pytest.raises(Fault, match="got 'ghost'"):
        faces.verify(known, Oracle(), "ghost", [face(1)], None)
    with pytest.raises(Fault, match="must be of the model sha256:two"):
        faces.verify(known, Oracle(model="sha256:two"), "p4", [face(43)], None)


def test_a_file_that_is_no_picture_gets_its_reason_and_costs_nobody_else_an_answer(known):
    (broken,), (fine,) = faces.identify(known, Oracle(), [b"text", face(33)], None)
    assert broken.name is None
    assert broken.problem
    assert fine.name == "p3"
    photos = [photo("new", b"text", "a.txt"), photo("new", face(120), "b.png")]
    added, _, problems = faces.enrol(known, Oracle(), photos)
    assert added == 1
    assert [(problem.kind, problem.id) for problem in problems] == [("undecodable", "a.txt")]


def as_bmp(data):
    """The same picture in another format."""
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).save(out, "BMP")
    return out.getvalue()


def test_a_photograph_that_two_names_are_given_to_is_nobodys(known):
    photos = [
        photo("ada", face(150), "ada/1.png"),
        photo("bob", as_bmp(face(150)), "bob/1.bmp"),
        photo("ada", face(160), "ada/2.png"),
        photo("ada", face(30), "ada/3.png"),  # p3 is enrolled with it
        photo("p4", face(40), "p4/again.png"),
    ]
    added, again, problems = faces.enrol(known, Oracle(), photos)
    assert (added, again) == (1, 1)
    assert {problem.id: problem.detail for problem in problems} == {
        "ada/1.png": "the same photograph is bob's, bob/1.bmp: who is in it?",
        "bob/1.bmp": "the same photograph is ada's, ada/1.png: who is in it?",
        "ada/3.png": "the same photograph is p3's, who is enrolled: who is in it?",
    }
    assert {problem.kind for problem in problems} == {"of two names"}
    assert [(person.name, person.photos) for person in known.people() if person.name in ("ada", "bob")] == [("ada", 1)]


def test_a_photograph_without_a_face_is_not_enrolled_where_faces_are_looked_for(opened):
    aligned = Oracle()
    aligned.facts |= {"align": "opencv", "size": [96, 80]}
    added, _, problems = faces.enrol(opened, aligned, [photo("ada", face(7), "ada.png")])
    assert added == 0
    assert [(problem.kind, problem.id) for problem in problems] == [("no face found", "ada.png")]
    assert opened.settings() is None


def test_an_empty_gallery_knows_nobody(opened, known):
    for person in range(10):
        known.forget(f"p{person}")
    ((answer,),) = faces.identify(known, Oracle(), [face(3)], None)
    assert (answer.name, answer.distance) == (None, None)


def test_who_is_not_alive_is_not_let_in(known):
    guarded = Oracle(guard=lambda file: 0.9 if file == face(43) else 0.2)
    alive, printed = faces.verify(known, guarded, "p4", [face(43), face(44)], None)
    assert (alive.name, alive.alive) == ("p4", 0.9)
    assert (printed.name, printed.alive) == (None, 0.2)
    assert printed.distance < printed.threshold.distance
    assert [answer.name for (answer,) in faces.identify(known, guarded, [face(43), face(44)], None)] == ["p4", None]


def test_a_photograph_is_aligned_before_it_is_sent_where_the_graph_does_not_do_that():
    found = importlib.util.find_spec("skimage").submodule_search_locations[0]
    photo = Path(found, "data", "astronaut.png").read_bytes()
    oracle = Oracle()
    assert oracle._plain(photo) == photo
    oracle.facts |= {"align": "opencv", "size": [96, 80]}
    aligned = np.asarray(Image.open(io.BytesIO(oracle._plain(photo))))
    assert aligned.shape == (96, 80, 3)
    assert aligned[34:40, 24:30].mean() < aligned[34:40, 36:44].mean() - 20  # an eye is darker than the bridge between
    assert oracle._plain(face(7)) == face(7)
    assert isinstance(oracle._plain(b"text"), str)


@pytest.mark.slow
def test_a_classifier_of_live_and_spoof_guards_a_gallery(exported, tmp_path):
    """scikit-learn's digits again: zeros are alive."""
    photos = tmp_path / "photos"
    shutil.copytree(exported.photos / "0", photos / "live")
    shutil.copytree(exported.photos / "1", photos / "spoof")
    recipe = exported.recipe.read_text().replace("path: photos", f"path: {photos}").replace("epochs: 4", "epochs: 6")
    (tmp_path / "liveness.yaml").write_text(recipe)
    assert cnn("run", tmp_path / "liveness.yaml", "--runs", tmp_path / "runs") == 0
    exports = tmp_path / "runs/classify/liveness/export/liveness"
    guard = Guard(str(exports), tmp_path)
    assert Guard(str(exports), tmp_path, model=guard.model).model == guard.model
    with pytest.raises(Fault, match=r"--liveness must be the classifier .*sha256:gone"):
        Guard(str(exports), tmp_path, model="sha256:gone")
    live, spoof = (
        np.mean([guard(file.read_bytes()) > faces.SURE for file in sorted((photos / kind).iterdir())])
        for kind in ("live", "spoof")
    )
    assert live > 0.8
    assert spoof < 0.2
    assert guard(b"text") == 0
    other = Guard(str(exported.run / "export" / "small"), tmp_path)
    with pytest.raises(Fault, match="must have a class live"):
        other(next((photos / "live").iterdir()).read_bytes())


# The command line


@pytest.fixture
def typed(faces, tmp_path, capsys):
    """A function that types `cnn faces …`, and gives the exit code and what was said as JSON or text."""

    def say(*arguments):
        asks = arguments[0] in ("enrol", "verify", "identify")
        runs = ["--runs", faces / "runs"] if asks else []
        code = cnn("faces", *arguments, "--gallery", tmp_path / "faces.db", *runs)
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, json=json.loads(out) if "--json" in arguments else None)

    return say


def test_a_gallery_from_the_first_enrolment_to_the_last_that_is_forgotten(faces, tmp_path, typed):
    people = faces / "people"
    first = tmp_path / "first"
    for person in range(12):
        (first / f"p{person}").mkdir(parents=True)
        shutil.copy(people / f"p{person}" / "0.png", first / f"p{person}")
    assert typed("list").code == Fault.INPUT
    assert "--model is required" not in typed("list").err
    assert typed("enrol", first, "--model", faces / "small.yaml").code == 0
    again = typed("enrol", first, "--json")
    assert again.json == {"enrolled": 0, "known": 12, "problems": {}}
    assert [(row["name"], row["photos"]) for row in typed("list", "--json").json][:2] == [("p0", 1), ("p1", 1)]
    own = people / "p3" / "0.png"
    (answer,) = typed("identify", own, "--json").json
    assert answer["name"] == "p3"
    assert answer["distance"] == pytest.approx(0, abs=1e-5)
    assert answer["false_accept_rate"] == 0.1
    assert answer["calibration_people"] == 3
    assert answer["false_accept_bound"] > 0.1
    assert "3 people can show no rate below" in " ".join(typed("identify", own).out.split())
    refused = typed("verify", "p4", own, "--far", "0.001", "--json")
    assert refused.code == Fault.GATE
    assert refused.json[0]["name"] is None
    assert typed("export", tmp_path / "p3.jsonl", "--name", "p3").code == 0
    (line,) = (tmp_path / "p3.jsonl").read_text().splitlines()
    vector = np.array(json.loads(line)["embedding"], "<f4")
    assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-5)
    stored = (tmp_path / "faces.db").read_bytes() + (tmp_path / "faces.db-wal").read_bytes()
    assert vector.tobytes()[:8] in stored
    assert typed("forget", "p3").code == 0
    left = b"".join(file.read_bytes() for file in tmp_path.glob("faces.db*"))
    assert not any(vector.tobytes()[start : start + 8] in left for start in range(0, vector.nbytes, 8))
    assert typed("forget", "p3").code == Fault.INPUT


def test_two_photographs_are_compared_without_a_gallery(faces, tmp_path, typed):
    people, model = faces / "people", ["--model", faces / "small.yaml"]
    one, same, other = (people / name for name in ("p3/0.png", "p3/1.png", "p7/0.png"))
    found = typed("verify", one, one, same, other, *model, "--json").json
    embedded = vectors(faces, [one, same, other], tmp_path / "own.csv")
    for answer, vector in zip(found, embedded, strict=True):
        assert answer["distance"] == pytest.approx(np.square(vector - embedded[0]).sum(), abs=1e-5)
        assert answer["name"] == (str(one) if answer["distance"] <= answer["threshold"] else None)
    assert found[0]["name"] == str(one)
    assert not (tmp_path / "faces.db").exists()
    assert typed("verify", one, one, *model).code == 0
    (tmp_path / "broken.png").write_bytes(b"nothing")
    assert typed("verify", tmp_path / "broken.png", one, *model).code == Fault.DATA


def vectors(faces, files, path):
    """What `cnn embed` writes of files."""
    assert cnn("embed", faces / "small.yaml", *files, "--to", path, "--runs", faces / "runs") == 0
    with path.open() as file:
        return [
            np.array([row[key] for key in row if key.startswith("embedding")], float) for row in csv.DictReader(file)
        ]


def test_embeddings_are_written_as_csv_and_parquet_alike(faces, tmp_path, capsys):
    folder = tmp_path / "photos"
    shutil.copytree(faces / "people" / "p1", folder)
    (folder / "broken.png").write_bytes(b"nothing")
    count = len(list(folder.iterdir()))
    ask = ("embed", faces / "small.yaml", folder, "--runs", faces / "runs")
    assert cnn(*ask, "--to", tmp_path / "own.parquet", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["embeddings"] == count - 1
    assert list(told["problems"]) == [str(folder / "broken.png")]
    rows = parquet.read_table(tmp_path / "own.parquet").to_pylist()
    assert [row["path"] for row in rows] == sorted(str(file) for file in folder.iterdir())
    assert [bool(row["problem"]) for row in rows] == [row["path"].endswith("broken.png") for row in rows]
    assert cnn(*ask, "--to", tmp_path / "own.csv") == 0
    with (tmp_path / "own.csv").open() as file:
        for row, line in zip(rows, csv.DictReader(file), strict=True):
            assert (row["path"], row["problem"] or "") == (line["path"], line["problem"])
            if row["embedding"] is not None:
                numbers = [float(value) for key, value in line.items() if key.startswith("embedding")]
                np.testing.assert_allclose(row["embedding"], numbers, atol=1e-7)
                assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5)
    assert cnn(*ask, "--to", tmp_path / "own.txt") == Fault.INPUT
    none = ("embed", faces / "small.yaml", folder / "broken.png", "--runs", faces / "runs")
    assert cnn(*none, "--to", tmp_path / "none.csv") == Fault.DATA


def test_what_cannot_be_enrolled_says_what_to_do(faces, tmp_path, typed):
    picture = faces / "people" / "p0" / "0.png"
    assert "--name is required" in typed("enrol", picture, "--model", faces / "small.yaml").err
    assert "found nothing at" in typed("enrol", tmp_path / "nowhere", "--model", faces / "small.yaml").err
    assert "must not be given" in typed("enrol", faces / "people", "--name", "ada").err
    assert "--gallery must" in typed("enrol", picture, "--name", "ada").err
    (tmp_path / "empty" / "ada").mkdir(parents=True)
    assert typed("enrol", tmp_path / "empty").code == Fault.DATA
    (tmp_path / "broken.png").write_bytes(b"text")
    nothing = typed("enrol", tmp_path / "broken.png", "--name", "ada", "--model", faces / "small.yaml")
    assert nothing.code == Fault.DATA
    assert "1 undecodable, not enrolled" in nothing.out


def test_every_file_that_is_not_enrolled_is_told_with_its_kind(faces, tmp_path, typed):
    people, own = faces / "people", tmp_path / "photos"
    for name in ("ada/1.png", "ada/deeper/2.png", "ada/notes.txt", "ada/.1.png", "bob/1.png", "lost.png", "bob/0.png"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes((people / "p1" / f"{name[-5] if name[-5].isdigit() else 3}.png").read_bytes())
    (own / "bob" / "1.png").write_bytes(b"text")
    (own / "eve").mkdir()
    found = typed("enrol", own, "--model", faces / "small.yaml", "--json")
    assert found.code == 0
    assert found.json["enrolled"] == 3
    kinds = {
        Path(file).relative_to(own).as_posix(): told.split(":")[0] for file, told in found.json["problems"].items()
    }
    assert kinds == {
        "ada/notes.txt": "not an image",
        "ada/.1.png": "hidden",
        "bob/1.png": "undecodable",
        "lost.png": "without a class",
        "eve": "empty class",
    }
    flat = typed("enrol", own / "bob", "--name", "bob", "--json")
    assert (flat.json["known"], [*flat.json["problems"]]) == (1, [str(own / "bob" / "1.png")])
    assert "1 undecodable, not enrolled" in typed("enrol", own / "bob", "--name", "bob").out


def test_a_gallery_and_its_model_are_moved_together_and_work_from_anywhere(faces, tmp_path, capsys, monkeypatch):
    (tmp_path / "old").mkdir()
    shutil.copytree(faces / "runs" / "verify" / "small" / "export" / "small", tmp_path / "old" / "models" / "small")
    own = faces / "people" / "p1" / "0.png"
    monkeypatch.chdir(tmp_path / "old")
    assert cnn("faces", "enrol", own, "--name", "p1", "--model", "models/small") == 0
    (tmp_path / "old").rename(tmp_path / "new")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    ask = ("faces", "identify", own, "--gallery", tmp_path / "new" / "faces.db", "--json")
    capsys.readouterr()
    assert cnn(*ask) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "p1"
    (tmp_path / "new" / "models" / "small").rename(tmp_path / "elsewhere")
    assert cnn(*ask) == Fault.INPUT
    assert "--model must name the folder of the gallery's model" in " ".join(capsys.readouterr().err.split())
    assert cnn(*ask, "--model", tmp_path / "elsewhere") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "p1"
    facts = tmp_path / "elsewhere" / "1" / FACTS
    run_files.write_json(facts, {**run_files.read_json(facts), "model": "sha256:another"})
    assert cnn(*ask, "--model", tmp_path / "elsewhere") == Fault.INPUT
    assert "--model must be" in " ".join(capsys.readouterr().err.split())


def test_a_model_without_bounds_is_told_to_be_an_estimate_and_works(faces, tmp_path, typed):
    """An export of before: `false_accepts` instead of bounds."""
    shutil.copytree(faces / "runs" / "verify" / "small" / "export" / "small", tmp_path / "small")
    facts = run_files.read_json(tmp_path / "small" / "1" / FACTS)
    facts["false_accepts"] = facts.pop("false_accept_bounds")
    del facts["least_far"], facts["confidence"], facts["false_accept_bound"]
    run_files.write_json(tmp_path / "small" / "1" / FACTS, facts)
    own = faces / "people" / "p1" / "0.png"
    assert typed("enrol", own, "--name", "p1", "--model", tmp_path / "small").code == 0
    found = typed("identify", own, "--json")
    assert "point estimates" in " ".join(found.err.split())
    assert (found.json[0]["name"], found.json[0]["false_accept_bound"]) == ("p1", None)


def test_the_version_with_the_gallerys_digest_is_taken_however_many_came_after(faces, tmp_path):
    export = faces / "runs" / "verify" / "small" / "export" / "small"
    shutil.copytree(export / "1", tmp_path / "small" / "1")
    shutil.copytree(export / "1", tmp_path / "small" / "2")
    facts = run_files.read_json(export / "1" / FACTS)
    run_files.write_json(tmp_path / "small" / "2" / FACTS, {**facts, "model": "sha256:other"})
    assert faces_version(tmp_path / "small", facts["model"]) == "1"
    assert faces_version(tmp_path / "small", None) == "2"
    with pytest.raises(Fault, match="it has been trained again since, or is another"):
        faces_version(tmp_path / "small", "sha256:gone")
    with pytest.raises(Fault, match="must be an embedder that the task verify exported"):
        faces_version(tmp_path, None)


def faces_version(folder, model):
    return version_of(folder, model).name


# HTTP


@pytest.fixture
def client(known):
    app = FaceEndpoints(known, Oracle(), Limits(), key=KEY).application()
    with TestClient(app, headers={"Authorization": f"Bearer {KEY}"}) as found:
        yield found


IMAGE = {"Content-Type": "image/png"}


def test_the_verbs_over_http(client):
    assert len(client.get("/faces/people").json()["people"]) == 10
    (answer,) = client.post("/faces/identify", content=face(73), headers=IMAGE).json()["answers"]
    assert answer["name"] == "p7"
    assert answer["threshold"] == pytest.approx(0.2)
    strict = client.post("/faces/identify?far=1e-9", content=face(73), headers=IMAGE).json()["answers"][0]
    assert strict["name"] is None
    assert client.post("/faces/people/Ada Lovelace", content=face(150), headers=IMAGE).json()["enrolled"] == 1
    verified = client.post("/faces/people/Ada Lovelace/verify", files={"file": face(151)}).json()["answers"][0]
    assert verified["name"] == "Ada Lovelace"
    exported = client.get("/faces/people/Ada Lovelace").json()
    np.testing.assert_allclose(exported["photos"][0]["embedding"], direction(150), rtol=1e-6)
    assert client.delete("/faces/people/Ada Lovelace").json() == {"name": "Ada Lovelace", "forgotten": 1}
    assert client.get("/faces/people/Ada Lovelace").status_code == 404
    assert client.get("/healthz").json()["status"] == "ok"
    assert 'kind="identify"' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("POST", "/faces/identify", b"text", IMAGE, 400),
        ("POST", "/faces/identify", face(1), {}, 415),
        ("POST", "/faces/identify?far=2", face(1), IMAGE, 400),
        ("POST", "/faces/identify?far=x", face(1), IMAGE, 400),
        ("POST", "/faces/people/ghost/verify", face(1), IMAGE, 404),
        ("POST", "/faces/people/%20", face(1), IMAGE, 400),
        ("POST", "/faces/people/ada", b"", IMAGE, 400),
        ("POST", "/faces/people/ada", b"0" * (17 * 2**20), IMAGE, 413),
        ("DELETE", "/faces/people/ghost", b"", {}, 404),
        ("PUT", "/faces/people/p1", b"", {}, 405),
        ("GET", "/nothing", b"", {}, 404),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(client, method, path, content, headers, status):
    answer = client.request(method, path, content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_another_method_is_answered_with_those_that_a_path_takes(client):
    for method, path, allowed in (
        ("PUT", "/faces/people/p1", "DELETE, GET, HEAD, POST"),
        ("GET", "/faces/identify", "POST"),
        ("POST", "/faces/people", "GET, HEAD"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_without_the_key_nothing_is_answered_but_health(client, known):
    for header in ({"Authorization": "Bearer nobody"}, {"Authorization": ""}, {"Authorization": f"Basic {KEY}"}):
        for method, path in (("GET", "/faces/people"), ("DELETE", "/faces/people/p1"), ("GET", "/metrics")):
            assert client.request(method, path, headers=header).status_code == 401
        assert client.post("/faces/people/eve", content=face(1), headers={**IMAGE, **header}).status_code == 401
    assert client.get("/healthz", headers={"Authorization": ""}).status_code == 200
    assert known.count() == 10


def test_beyond_loopback_there_must_be_a_key_that_cannot_be_guessed(tmp_path, monkeypatch, capsys):
    made_up = {checked_key("", loopback=True) for _ in range(3)}
    assert len(made_up) == 3
    assert all(checked_key(key, loopback=False) == key for key in made_up)
    assert checked_key(KEY, loopback=False) == KEY
    for key in ("short", "with a space in between", "ünïcode-ünïcode-ü"):
        with pytest.raises(Fault, match="CNN_API_KEY must be 16"):
            checked_key(key, loopback=True)
    monkeypatch.delenv("CNN_API_KEY", raising=False)
    assert cnn("serve", "faces", "--host", "0.0.0.0", "--gallery", tmp_path / "faces.db") == Fault.INPUT
    assert "CNN_API_KEY is required unless --host is loopback" in capsys.readouterr().err


def test_another_sites_page_enrols_exports_and_deletes_nobody(known):
    guarded = FaceEndpoints(known, Oracle(), Limits(), key=KEY, visitors=Visitors()).application()
    with TestClient(guarded, base_url="http://localhost:8501", headers={"Authorization": f"Bearer {KEY}"}) as client:
        for wrong, status in (({"origin": "http://evil.example"}, 403), ({"host": "evil.example"}, 421)):
            assert client.post("/faces/people/eve", content=face(1), headers={**IMAGE, **wrong}).status_code == status
            assert client.get("/faces/people/p1", headers=wrong).status_code == status
            assert client.delete("/faces/people/p1", headers=wrong).status_code == status
            assert client.get("/healthz", headers=wrong).status_code == status
        assert known.count() == 10
        assert client.delete("/faces/people/p1").is_success


def test_where_no_key_is_set_one_is_made_up_and_told(known, monkeypatch):
    said = []
    monkeypatch.setattr(app, "_run", lambda served, *_, **__: said.append(served))
    monkeypatch.setattr("pipelines.serving.face_routes.warm", lambda *_: None)
    app.serve_faces(lambda: (known, Oracle()), port=0, say=said.append)
    told = re.search(r"Authorization: Bearer (\S{16,})", said[0])[1]
    client = TestClient(said[-1], base_url="http://localhost")
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {told}"}).is_success


def test_a_gallery_of_another_model_is_a_503_with_its_reason(known):
    with TestClient(FaceEndpoints(known, Oracle(model="sha256:two"), Limits()).application()) as client:
        answer = client.post("/faces/identify", content=face(3), headers=IMAGE)
    assert answer.status_code == 503
    assert "two models' embeddings cannot be compared" in answer.json()["error"]


def test_cnn_serve_faces_answers_and_stops_when_told(faces, tmp_path, typed):
    picture = faces / "people" / "p1" / "0.png"
    assert typed("enrol", picture, "--name", "p1", "--model", faces / "small.yaml").code == 0
    start = "from pipelines.cli.main import main; main()"
    command = [sys.executable, "-c", start, "serve", "faces", "--port", "0", "--runs", str(faces / "runs")]
    environment = os.environ | {"CNN_GALLERY": str(tmp_path / "faces.db"), "CNN_API_KEY": KEY}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        line = next(line for line in process.stdout if "is ready at" in line)
        url = f"{line.split()[-1]}/faces/identify"
        request = urllib.request.Request(url, picture.read_bytes(), {**IMAGE, "Authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["answers"][0]["name"] == "p1"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(url, picture.read_bytes(), IMAGE), timeout=30)
        process.terminate()
        assert process.wait(30) == 0
