"""Faces are found in pictures of any number of them: by a detector that knows patches of grey, and by OpenCV's."""

import csv
import importlib.util
import json
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pyarrow import parquet
from scipy import ndimage

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.errors import Fault
from pipelines.data import video_io
from pipelines.faces import detector, service, store
from pipelines.faces.detector import Face
from pipelines.inference.prediction import pixels
from pipelines.serving.face_routes import FaceEndpoints
from pipelines.serving.http.limits import Limits
from tests.conftest import cnn
from tests.pipelines.faces.test_service import Oracle

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

pytest_plugins = ["tests.small_people"]


def patches(image):
    """A detector whose faces are what is not black; the largest is the least sure."""
    found = ndimage.find_objects(ndimage.label(image.max(axis=-1))[0])
    faces = [Face((columns.start, rows.start, columns.stop, rows.stop), 0.9) for rows, columns in found]
    return sorted((face._replace(score=1 / face.area) for face in faces), key=lambda face: -face.score)


def picture(*greys, height=40):
    """Squares of these greys on black, one beside the other, each a bit larger than the one before."""
    image = np.zeros((height, 30 * max(1, len(greys)), 3), np.uint8)
    for place, grey in enumerate(greys):
        image[5 : 15 + place, 30 * place + 5 : 30 * place + 15 + place] = grey
    return encode_png(image)


def box(place):
    return (30 * place + 5, 5, 30 * place + 15 + place, 15 + place)


def photo(name, data):
    return name, partial(bytes, data), f"{name}.png"


@pytest.fixture
def oracle():
    return Oracle(detector=patches)


@pytest.fixture
def known(tmp_path, oracle):
    """A gallery of ten people, by a picture of one face each."""
    opened = store.open_gallery(str(tmp_path / "faces.db"))
    people = [photo(f"p{person}", picture(10 * person + 1)) for person in range(10)]
    assert service.enrol(opened, oracle, people) == (10, 0, [])
    yield opened
    opened.close()


def test_each_face_of_a_picture_has_its_own_answer_and_box(known, oracle):
    (answers,) = service.identify(known, oracle, [picture(73, 153, 23)], None)
    told = {answer.face.box: answer for answer in answers}
    assert [told[box(place)].name for place in range(3)] == ["p7", None, "p2"]
    stranger = told[box(1)]
    assert stranger.distance > stranger.threshold.distance
    assert stranger.nearest in {f"p{person}" for person in range(10)}
    assert stranger.as_dict()["box"] == list(box(1))
    assert told[box(2)].as_dict()["score"] == pytest.approx(1 / 144)


def test_pictures_without_a_face_and_broken_ones_cost_the_others_no_answer(known, oracle):
    cut = picture(33)[:60]
    rows = service.identify(known, oracle, [picture(), picture(43, 53), b"text", cut, picture(63)], None)
    assert [len(row) for row in rows] == [1, 2, 1, 1, 1]
    assert rows[0][0].problem == service.NO_FACE
    assert rows[2][0].problem
    assert rows[3][0].problem != service.NO_FACE
    assert {answer.name for answer in rows[1]} == {"p4", "p5"}
    assert rows[4][0].name == "p6"


@pytest.mark.parametrize(("several", "enrolled"), [("error", []), ("largest", ["p20"]), ("all", ["p10", "p15", "p20"])])
def test_of_a_photograph_of_several_none_the_largest_or_all_are_enrolled(known, oracle, several, enrolled):
    photos = [photo("crowd", picture(101, 151, 201)), photo("nobody", picture()), photo("broken", b"text")]
    added, _, problems = service.enrol(known, oracle, photos, several=several)
    kinds = {problem.id: problem.kind for problem in problems}
    assert added == len(enrolled)
    assert kinds.pop("crowd.png", None) == ("several faces" if several == "error" else None)
    assert kinds == {"nobody.png": "no face found", "broken.png": "undecodable"}
    names = [person.name for person in known.people()]
    assert "nobody" not in names
    assert "broken" not in names
    rows = service.identify(known, oracle, [picture(grey) for grey in (101, 151, 201)], None)
    assert [answer.name == "crowd" for (answer,) in rows] == [f"p{ten}" in enrolled for ten in (10, 15, 20)]
    assert service.enrol(known, oracle, photos, several=several)[:2] == (0, len(enrolled))


def test_somebody_is_verified_by_one_face_among_others_at_a_stricter_threshold(known, oracle):
    alone, among, missing = service.verify(known, oracle, "p4", [picture(43), picture(13, 43), picture(13, 153)], None)
    assert (alone.name, among.name, missing.name) == ("p4", "p4", None)
    assert among.face.box == box(1)
    assert among.threshold.distance < alone.threshold.distance
    (same,) = service.compare(oracle, picture(81), "one.png", [picture(151, 82)], None)
    assert same.name == "one.png"
    for reference, count in ((picture(), 0), (picture(81, 151), 2)):
        with pytest.raises(Fault, match=f"a photograph of one face, found {count}"):
            service.compare(oracle, reference, "one.png", [picture(82)], None)


def test_of_several_faces_each_is_asked_whether_it_lives(known):
    guarded = Oracle(detector=patches, guard=lambda file: 0.9 if np.asarray(pixels(file)).max() < 100 else 0.2)
    (answers,) = service.identify(known, guarded, [picture(73, 191, 23)], None)
    told = {answer.face.box: (answer.name, answer.alive) for answer in answers}
    assert [told[box(place)] for place in range(3)] == [("p7", 0.9), (None, 0.2), ("p2", 0.9)]
    lives, printed = service.verify(known, guarded, "p7", [picture(191, 73), picture(191)], None)
    assert (lives.name, lives.alive) == ("p7", 0.9)
    assert (printed.name, printed.alive) == (None, 0.2)


def test_what_becomes_of_several_faces_is_one_of_three(known, oracle):
    with pytest.raises(Fault, match="--several must be error, largest, all, got 'most'"):
        service.enrol(known, oracle, [], several="most")


def test_a_face_is_cut_out_with_a_margin_as_far_as_the_picture_goes():
    image = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)
    np.testing.assert_array_equal(detector.crop(image, (20, 8, 40, 28)), image[3:33, 15:45])
    np.testing.assert_array_equal(detector.crop(image, (50, 0, 60, 12)), image[:15, 48:60])
    np.testing.assert_array_equal(detector.crop(image, (20, 8, 40, 28), margin=0), image[8:28, 20:40])


def test_opencv_finds_the_astronaut_and_her_mirror_image_and_no_face_in_coffee():
    folder = Path(importlib.util.find_spec("skimage").submodule_search_locations[0], "data")
    astronaut = np.asarray(Image.open(folder / "astronaut.png").convert("RGB"))[:300, 100:350]
    find = detector.cascades()
    faces = sorted(find(np.concatenate([astronaut, astronaut[:, ::-1]], axis=1)), key=lambda face: face.box)
    assert len(faces) == 2
    eyes = [(101, 113), (136, 113)]  # by eye
    for face, places in zip(faces, (eyes, [(499 - x, y) for x, y in eyes]), strict=True):
        left, top, right, bottom = face.box
        assert all(left < x < right and top < y < (top + bottom) / 2 for x, y in places)
        assert 0.5 < face.score <= 1
    assert find(np.asarray(Image.open(folder / "coffee.png").convert("RGB"))) == []


def test_a_detector_is_named_by_a_word_or_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert detector.resolve("", tmp_path) == ""
    assert detector.resolve("opencv", tmp_path) == "opencv"
    with pytest.raises(Fault, match="`cnn import-weights face-api PACKAGE` writes it"):
        detector.resolve("ssd", tmp_path)
    with pytest.raises(Fault, match="found nothing in"):
        detector.resolve("nowhere", tmp_path)
    (tmp_path / "face-api" / "faces" / "1").mkdir(parents=True)
    (tmp_path / "face-api" / "faces" / "1" / "saved_model.pb").touch()
    assert detector.resolve("ssd", tmp_path) == detector.resolve("face-api/faces", tmp_path)
    assert Path(detector.resolve("ssd", tmp_path)).is_absolute()


def test_over_http_each_face_of_each_upload_has_its_answer(known, oracle):
    with TestClient(FaceEndpoints(known, oracle, Limits()).application()) as client:
        uploads = [("file", picture(73, 23)), ("file", picture()), ("file", picture(43))]
        answers = client.post("/faces/identify", files=uploads).json()["answers"]
        refused = client.post("/faces/people/ada", files={"file": picture(101, 151)})
        verified = client.post("/faces/people/p4/verify", files={"file": picture(153, 43)}).json()["answers"]
    told = [(answer["upload"], answer["name"], answer.get("box")) for answer in answers]
    assert sorted(told[:2]) == [(1, "p2", list(box(1))), (1, "p7", list(box(0)))]
    assert told[2:] == [(2, None, None), (3, "p4", list(box(0)))]
    assert refused.status_code == 400
    assert "several faces" in refused.json()["error"]
    assert [(answer["name"], answer["box"]) for answer in verified] == [("p4", list(box(1)))]


# The command line


class Halves(tf.Module):
    """A detector as it is exported: in each half of a picture is a face, without its margins, unless it is black."""

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, 3), tf.uint8, name="image")])
    def serving_tensor(self, image):
        height, width = (tf.cast(side, tf.float32) for side in tf.unstack(tf.shape(image)[1:3]))
        half = tf.shape(image)[2] // 2
        there = tf.stack([tf.reduce_max(image[:, :, :half]) > 0, tf.reduce_max(image[:, :, half:]) > 0])
        order = tf.argsort(tf.cast(there, tf.int32), direction="DESCENDING", stable=True)
        boxes = tf.stack([tf.stack([start * width, 0.0, (start + 0.25) * width, height]) for start in (0.125, 0.625)])
        scores = tf.where(there, 0.9, 0.0)
        return {
            "boxes": tf.gather(boxes, order)[None],
            "scores": tf.gather(scores, order)[None],
            "count": tf.reduce_sum(tf.cast(there, tf.int32))[None],
        }


@pytest.fixture
def halves(tmp_path):
    """The folder of an exported detector."""
    folder, module = tmp_path / "halves", Halves()
    tf.saved_model.save(module, str(folder / "1"), signatures={"serving_tensor": module.serving_tensor})
    return folder


def beside(*files):
    """Photographs side by side, RGB, each with black margins of 10 pixels; None is black."""
    plain = [np.zeros((24, 20), np.uint8) if file is None else np.asarray(Image.open(file)) for file in files]
    pictures = [np.pad(image, ((0, 0), (10, 10))) for image in plain]
    return np.repeat(np.concatenate(pictures, axis=1)[..., None], 3, axis=-1)


def test_a_gallery_keeps_its_detector_and_answers_about_folders_and_videos(faces, halves, tmp_path, capsys):
    people, photos, gallery = faces / "people", tmp_path / "photos", tmp_path / "faces.db"
    (tmp_path / "known" / "p1").mkdir(parents=True)
    (tmp_path / "known" / "p2").mkdir()
    photos.mkdir()
    one, two, other = (people / name for name in ("p1/0.png", "p2/0.png", "p8/0.png"))
    for name, file in (("p1", one), ("p2", two)):
        Image.fromarray(beside(None, file)).save(tmp_path / "known" / name / "0.png")
    Image.fromarray(beside(one, two)).save(tmp_path / "known" / "p2" / "both.png")
    Image.fromarray(beside(None, None)).save(tmp_path / "known" / "p2" / "none.png")
    Image.fromarray(beside(one, other)).save(photos / "a.png")
    Image.fromarray(beside(None, None)).save(photos / "b.png")
    (photos / "c.png").write_bytes(b"text")
    clip = [np.repeat(np.repeat(beside(*frame), 8, axis=0), 8, axis=1) for frame in ((two, None), (None, None))]
    assert video_io.write(photos / "d.mp4", clip, rate=5) == 2
    ask = ("--gallery", gallery, "--runs", faces / "runs")
    settings = ("--model", faces / "small.yaml", "--detector", halves, "--json")
    assert cnn("faces", "enrol", tmp_path / "known", *settings, *ask) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["enrolled"] == 2
    assert {Path(name).name: problem.split(":")[0] for name, problem in told["problems"].items()} == {
        "both.png": "several faces",
        "none.png": "no face found",
    }
    rest = ("--draw", tmp_path / "drawn", "--csv", tmp_path / "answers.csv", "--json", "--far", "0.9")
    assert cnn("faces", "identify", photos, *rest, *ask) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(Path(row["path"]).name, row.get("frame")) for row in rows] == [
        ("a.png", None), ("a.png", None), ("b.png", None), ("c.png", None), ("d.mp4", 0), ("d.mp4", 1)
    ]  # fmt: skip
    own, stranger, empty, broken, frame, black = rows
    assert (own["name"], own["box"]) == ("p1", [10, 0, 30, 24])
    assert own["distance"] < 1e-3
    assert stranger["nearest"] in ("p1", "p2")
    assert (stranger["name"] is None) == (stranger["distance"] > stranger["threshold"])
    assert empty["problem"] == black["problem"] == service.NO_FACE
    assert broken["problem"] not in (None, service.NO_FACE)
    assert frame["nearest"] == "p2"
    with (tmp_path / "answers.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["name"], row["problem"]) for row in table] == [
        (row["name"] or "", row["problem"] or "") for row in rows
    ]
    assert float(table[0]["right"]) == 30
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn == ["0000-a.png", "0001-b.png", "0003-d.mp4"]
    plain, marked = np.asarray(Image.open(photos / "b.png")), np.asarray(Image.open(tmp_path / "drawn" / "0001-b.png"))
    assert not plain.any()
    assert not marked.any()
    assert np.ptp(np.asarray(Image.open(tmp_path / "drawn" / "0000-a.png")).astype(int), axis=-1).max() > 100
    assert len(list(video_io.frames(tmp_path / "drawn" / "0003-d.mp4"))) == 2


def test_embeddings_of_a_detectors_faces_have_a_row_each_with_the_box(faces, halves, tmp_path, capsys):
    one, two = (faces / "people" / name for name in ("p1/0.png", "p2/0.png"))
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(beside(one, two)).save(photos / "a.png")
    Image.fromarray(beside(None, None)).save(photos / "b.png")
    (photos / "c.png").write_bytes(b"text")
    Image.fromarray(beside(None, two)).save(photos / "d.png")
    ask = (faces / "small.yaml", photos, "--runs", faces / "runs")
    assert cnn("embed", *ask, "--detector", halves, "--to", tmp_path / "faces.csv") == 0
    assert "3 embeddings of 4 files" in capsys.readouterr().out
    with (tmp_path / "faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [Path(row["path"]).name for row in rows]
    assert names == ["a.png", "a.png", "b.png", "c.png", "d.png"]
    places = [tuple(row[side] for side in ("left", "top", "right", "bottom")) for row in rows]
    assert places[:2] == [("10", "0", "30", "24"), ("50", "0", "70", "24")]
    assert places[2] == places[3] == ("",) * 4
    assert rows[2]["problem"] == service.NO_FACE
    assert rows[3]["problem"] not in ("", service.NO_FACE)
    numbers = [[row[key] for key in row if key.startswith("embedding_")] for row in rows]
    np.testing.assert_allclose(np.array(numbers[1], float), np.array(numbers[4], float), atol=1e-6)
    assert cnn("embed", *ask, "--detector", halves, "--to", tmp_path / "faces.parquet") == 0
    table = parquet.read_table(tmp_path / "faces.parquet").to_pylist()
    assert [row["box"] for row in table] == [[10, 0, 30, 24], [50, 0, 70, 24], None, None, [50, 0, 70, 24]]
    np.testing.assert_allclose(table[0]["embedding"], np.array(numbers[0], float), atol=1e-6)
    assert cnn("embed", *ask, "--to", tmp_path / "plain.csv") == 0
    assert (tmp_path / "plain.csv").read_text().startswith("path,embedding_0,")


def test_what_is_asked_of_nothing_is_refused_with_the_reason(faces, halves, tmp_path, capsys):
    gallery, own = tmp_path / "faces.db", faces / "people" / "p1" / "0.png"
    ask = ("--gallery", gallery, "--runs", faces / "runs")
    refused = ("--name", "p1", "--model", faces / "small.yaml", *ask)
    export = faces / "runs" / "verify" / "small" / "export" / "small"
    assert cnn("faces", "enrol", own, "--detector", export, *refused) == Fault.INPUT
    assert "--detector must be a detector that takes pictures alone" in " ".join(capsys.readouterr().err.split())
    Image.fromarray(beside(None, None)).save(tmp_path / "black.png")
    assert cnn("faces", "enrol", tmp_path / "black.png", "--detector", halves, *refused) == Fault.DATA
    assert "1 no face found, not enrolled" in capsys.readouterr().out
    assert cnn("faces", "enrol", own, "--detector", halves, *refused, "--several", "largest") == 0
    (tmp_path / "empty").mkdir()
    assert cnn("faces", "identify", tmp_path / "empty", *ask) == Fault.DATA
    (tmp_path / "broken.png").write_bytes(b"text")
    assert cnn("faces", "identify", tmp_path / "broken.png", *ask) == Fault.DATA
    assert cnn("faces", "identify", tmp_path / "black.png", *ask) == 0
    halves.rename(tmp_path / "moved")
    capsys.readouterr()
    assert cnn("faces", "identify", own, *ask) == Fault.INPUT
    assert "--detector must name the folder" in " ".join(capsys.readouterr().err.split())
    assert cnn("faces", "identify", own, "--detector", tmp_path / "moved", *ask) == 0
