"""Alignment: eyes are found by a list, by OpenCV and by a model of landmarks, and put where all faces have theirs."""

import importlib.util
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources.classification import Item, orl
from cnn_keras.data.transforms import face_alignment
from cnn_keras.errors import Fault
from cnn_keras.ops import resize
from pipelines.data import run_files
from pipelines.inference.embedding import FACTS
from pipelines.tasks.verify import dataset
from pipelines.tasks.verify.config import Align
from tests.conftest import cnn

pytest_plugins = ["tests.small_people"]

EYES = face_alignment.Eyes((102.0, 100.5), (147.5, 103.5))  # of the astronaut, by hand, in the cut below


def astronaut():
    """A face, uint8 (300, 250, 3), that comes with scikit-image."""
    found = importlib.util.find_spec("skimage").submodule_search_locations[0]
    return np.asarray(Image.open(Path(found, "data", "astronaut.png")).convert("RGB"))[:300, 100:350]


class Colours(tf.Module):
    """Landmarks for tests: the left eye is where a picture is red, the right one where it is blue."""

    def __init__(self, names=("right_eye_1", "mouth", "left_eye_1"), least=1.0):
        super().__init__()
        names = tf.constant([names])

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="image")])
        def answer(image):
            pixels = tf.cast(image[0], tf.float32)
            height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
            x, y = tf.meshgrid(tf.range(float(width)) + 0.5, tf.range(float(height)) + 0.5)
            points, seen = [], tf.constant(True)
            for channel in (2, 1, 0):
                weight = tf.nn.relu(2 * pixels[..., channel] - tf.reduce_sum(pixels, axis=-1))
                total = tf.reduce_sum(weight)
                points.append([tf.math.divide_no_nan(tf.reduce_sum(weight * place), total) for place in (x, y)])
                seen = seen & (total >= least) if channel != 1 else seen
            return {
                "landmarks": tf.stack([tf.stack(point) for point in points])[None, None],
                "landmark_names": names,
                "count": tf.cast(seen, tf.int32)[None],
            }

        self.answer = answer


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colours") / "1"
    module = Colours()
    tf.saved_model.save(module, str(folder), signatures={"serving_tensor": module.answer})
    return folder


def painted(red, blue, size=(80, 60)):
    image = np.zeros((*size, 3), np.uint8)
    for channel, (x, y) in ((0, red), (2, blue)):
        image[y - 2 : y + 2, x - 2 : x + 2, channel] = 255
    return image


def test_a_model_of_landmarks_finds_eyes_wherever_they_are(colours):
    aligner = face_alignment.Landmarks(tf.saved_model.load(str(colours)))
    for red, blue in (((20, 30), (44, 38)), ((10, 50), (30, 20))):
        eyes = aligner("a", painted(red, blue))
        np.testing.assert_allclose(eyes, (red, blue), atol=0.3)
    np.testing.assert_allclose(aligner("a", painted((40, 30), (20, 30))), ((20, 30), (40, 30)), atol=0.3)
    assert aligner("a", np.zeros((20, 20, 3), np.uint8)) is None
    assert aligner("a", np.zeros((20, 20, 1), np.uint8)) is None


def test_a_model_without_eyes_is_refused(tmp_path):
    module = Colours(("nose", "mouth", "chin"))
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_tensor": module.answer})
    with pytest.raises(Fault, match="landmarks named left_eye and right_eye, got one with nose, mouth, chin"):
        face_alignment.Landmarks(tf.saved_model.load(str(tmp_path)))


def test_opencv_finds_the_eyes_of_a_face_of_any_size_and_colour():
    find, face = face_alignment.cascades(), astronaut()
    grey = np.asarray(Image.fromarray(face).convert("L"))[..., None]
    small = np.asarray(Image.fromarray(face).resize((125, 150), Image.Resampling.BOX))
    for image, scale in ((face, 1), (grey, 1), (small, 2)):
        np.testing.assert_allclose(np.array(find("a", image)) * scale, EYES, atol=4)
    assert find("a", np.full((90, 70, 3), 128, np.uint8)) is None


def test_opencv_finds_the_same_eyes_in_several_threads_at_once():
    faces = [np.asarray(Image.open(io.BytesIO(item.read())))[..., None] for item in orl()[:8]]
    aligner = face_alignment.cascades()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda face: aligner("", face), faces))
    assert found == [aligner("", face) for face in faces]
    assert None not in found


def test_a_large_picture_is_aligned_like_a_small_one_of_the_same_face():
    face = astronaut()
    large = np.asarray(Image.fromarray(face).resize((1000, 1200), Image.Resampling.BICUBIC))
    one = face_alignment.align_face(face, EYES, size=(96, 96)).numpy()
    other = face_alignment.align_face(large, np.array(EYES) * 4, size=(96, 96)).numpy()
    assert np.abs(one.astype(float) - other).mean() < 3
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1000, 3)).astype(np.uint8)
    assert (
        face_alignment.align_face(noise, np.array(EYES) * 4, size=(48, 48)).numpy().std() < 40
    )  # 74 where pixels are skipped


def test_aligned_eyes_stand_at_their_places():
    """A bright and a darker eye, one above the other: the head lies on its side."""
    image = np.zeros((60, 60, 1), np.uint8)
    image[10:13, 30:33], image[44:47, 30:33] = 255, 120  # centres 11.5 and 45.5 from the top, 31.5 from the left
    found = face_alignment.align_face(image, face_alignment.Eyes((31.5, 11.5), (31.5, 45.5)), size=(100, 100)).numpy()[
        ..., 0
    ]
    assert found.shape == (100, 100)
    assert (found[37:39, 32:34] > 240).all()  # 38 down, 33 across
    assert (abs(found[37:39, 66:68].astype(int) - 120) < 10).all()  # 67 across
    assert (found > 10).sum() <= 2 * 4 * 4


def test_pictures_without_annotated_eyes_are_used_as_they_are_and_counted(tmp_path):
    (tmp_path / "eyes.csv").write_text("path,left_x,left_y,right_x,right_y\na/1.png,2,3,6,3\n")
    picture = encode_png(np.arange(64, dtype=np.uint8).reshape(8, 8, 1))
    items = [Item(name, "a", lambda: picture) for name in ("a/1.png", "a/2.png")]
    missed = []
    aligner = face_alignment.annotated_eyes(tmp_path / "eyes.csv")
    first, second = face_alignment.align_items(items, aligner, size=(12, 10), without_face=missed)
    assert tf.io.decode_image(first.read()).shape == (12, 10, 1)
    assert second.read() == picture
    assert missed == ["a/2.png"]


def test_a_list_of_eyes_without_its_columns_is_refused(tmp_path):
    (tmp_path / "eyes.csv").write_text("path,left_x\na/1.png,2\n")
    with pytest.raises(Fault, match=r"must have the columns path, left_x, left_y, .* got path, left_x"):
        face_alignment.annotated_eyes(tmp_path / "eyes.csv")


@pytest.mark.slow
def test_faces_are_aligned_in_the_exported_graph_as_they_were_in_training(faces, colours, tmp_path):
    """The small people, painted: digits on grey with a red and a blue dot that are not always there."""
    painted_people = tmp_path / "people"
    for number, file in enumerate(sorted((faces / "people").glob("*/*.png"))):
        image = np.zeros((60, 50, 3), np.uint8)
        image[18:42, 15:35] = np.asarray(Image.open(file))[..., None] // 2
        if number % 9:
            image[20 + number % 3, 17:19] = 255, 0, 0
            image[21, 30 + number % 4 : 32 + number % 4] = 0, 0, 255
        target = painted_people / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target)
    recipe = (faces / "small.yaml").read_text().replace("channels: 1", "channels: 3, align: {by: landmarks}")
    (tmp_path / "aligned.yaml").write_text(recipe)
    arguments = ["--set", f"data.align.path={colours}", "--runs", tmp_path / "runs"]
    assert cnn("run", tmp_path / "aligned.yaml", *arguments) == 0
    run = tmp_path / "runs" / "verify" / "aligned"
    missed = (run / "prepare" / "unaligned.csv").read_text().splitlines()
    assert len(missed) == 1 + 72 / 9
    agreement = run_files.read_json(run / "export" / "manifest.json")["facts"]["agreement"]
    assert agreement["difference"] < 1e-4
    exported = tf.saved_model.load(str(run / "export" / "aligned" / "1"))
    file = painted_people / "p3" / "2.png"
    image = np.asarray(Image.open(file))
    eyes = face_alignment.Landmarks(tf.saved_model.load(str(colours)))("a", image)
    given = exported.signatures["embed"](image_bytes=tf.constant([file.read_bytes()]))["embedding"]
    for picture, close in (
        (face_alignment.align_face(image, eyes, size=(24, 20)), True),
        (resize.resize_image(image, (24, 20)), False),
    ):
        expected = exported.signatures["serving_tensor"](image=picture[None])["embedding"]
        assert (np.abs(given - expected).max() < 1e-4) == close
    facts = run_files.read_json(run / "export" / "aligned" / "1" / FACTS)
    assert facts["align"] is None
    assert "aligned by their eyes inside the graph" in (run / "export" / "aligned" / "1" / "card.md").read_text()


def test_what_is_to_align_must_be_there():
    for by, what in (("annotated", "a CSV file of eyes"), ("landmarks", "a landmark model")):
        with pytest.raises(Fault, match=f"data.align.path is required with by: {by}: {what}"):
            dataset.aligner_of(Align(by=by))
