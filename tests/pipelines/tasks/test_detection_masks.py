"""Masks of things from annotations to answers: recorded, read in pixels of the picture, measured as COCO does."""

import io
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras.data import input_pipeline, records, run_length
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.errors import Fault
from cnn_keras.ops import test_time_augmentation
from pipelines.engine import recipe as recipes
from pipelines.serving.server import application
from pipelines.tasks.detect import instance_report, model
from pipelines.tasks.detect import masks as detect_masks
from pipelines.tasks.detect.decode import Suppress
from pipelines.tasks.detect.error_types import Detected
from tests.conftest import cnn
from tests.pipelines.data.boxes.test_box_dataset import prepared

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

RECIPE = """\
# Digits and their outlines.
task: detect
data:
  source: composites
  masks: true
  size: [64, 64]
  anchors: 2
  composites: {count: 40, side: 56, things: [1, 2], scale: [0.4, 0.6]}
augment: [mirror]
model: {builder: mask_rcnn.mask_rcnn_small, filters: 4, depths: [1, 1, 1, 1], hidden: 16, proposals: 8, mask_filters: 4}
train: {epochs: 2, batch_size: 8, learning_rate: 2e-3}
evaluate: {shown: 0.02}
export: {suppress: {threshold: 0.02, limit: 10}}
"""


def coco(folder, *, without=()):
    """Twelve pictures with two squares each, the smaller over a corner of the larger; a polygon and run lengths."""
    folder.mkdir(parents=True)
    images, notes = [], []
    for row in range(12):
        (folder / f"{row}.png").write_bytes(encode_png(np.full((40, 60, 3), 9 * row, np.uint8)))
        images.append({"id": row, "file_name": f"{row}.png", "height": 40, "width": 60})
        small = np.zeros((40, 60), bool)
        small[20:30, 26:36] = True
        for number, (left, top, side) in enumerate(((6, 4, 24), (26, 20, 10))):
            corners = [left, top, left + side, top, left + side, top + side, left, top + side]
            segmentation = run_length.encode(small) if number else [corners]
            note = {"id": len(notes) + 1, "image_id": row, "category_id": 1 + number, "iscrowd": 0}
            note |= {"bbox": [left, top, side, side], "area": side * side}
            notes.append(note | ({} if (row, number) in without else {"segmentation": segmentation}))
    categories = [{"id": 1, "name": "large"}, {"id": 2, "name": "small"}]
    document = {"images": images, "annotations": notes, "categories": categories}
    (folder / "things.json").write_text(json.dumps(document))
    return folder / "things.json"


def test_the_map_numbers_the_rows_of_boxes_and_the_smaller_thing_is_in_front(tmp_path):
    facts, _ = prepared(tmp_path, source="coco", path=coco(tmp_path / "source"), anchors=1, masks=True, size=(40, 60))
    assert facts["masks"]
    kind = input_pipeline.box_example(facts["most_boxes"], masks=True)
    for one in input_pipeline.decoded_examples(
        tmp_path / "prepare", "train", input_pipeline.Shape((40, 60), 3, "pad"), example=kind
    ):
        numbers, boxes = one["mask"].numpy()[..., 0], np.round(one["boxes"].numpy() * (60, 40, 60, 40)).astype(int)
        assert numbers.shape == (40, 60)
        small = one["classes"].numpy().tolist().index(1)
        left, top, right, bottom = boxes[small]
        assert (numbers[top:bottom, left:right] == small + 1).all()
        left, top, right, bottom = boxes[1 - small]
        assert (numbers[top:bottom, left:right] == 2 - small).sum() == 24 * 24 - 4 * 8
        assert (numbers > 0).sum() == 24 * 24 + 10 * 10 - 4 * 8


def test_a_framed_map_stays_with_its_picture(tmp_path):
    prepared(tmp_path, source="coco", path=coco(tmp_path / "source"), anchors=1, masks=True, size=(40, 60))
    kind = input_pipeline.box_example(2, masks=True)
    one = next(
        iter(
            input_pipeline.decoded_examples(
                tmp_path / "prepare", "train", input_pipeline.Shape((60, 60), 3, "pad"), example=kind
            )
        )
    )
    numbers = one["mask"].numpy()[..., 0]
    assert not numbers[:10].any()
    left, top, _, _ = np.round(one["boxes"][0].numpy() * 60).astype(int)
    rows, columns = np.nonzero(numbers == 1)
    assert (rows.min(), columns.min()) == (top, left)


def test_a_box_without_a_mask_is_reported_and_left_out(tmp_path):
    path = coco(tmp_path / "source", without={(3, 1)})
    facts, said = prepared(tmp_path, source="coco", path=path, anchors=1, masks=True, size=(40, 60))
    assert facts["problems"]["box without a mask"] == 1
    assert "box without a mask" in said
    assert sum(facts["boxes"].values()) == 23


def test_masks_are_asked_for_where_they_are_learnt_and_nowhere_else(tmp_path):
    (tmp_path / "digits.yaml").write_text(RECIPE)
    load = recipes.load
    model.check_masks(load(str(tmp_path / "digits.yaml")))
    for settings, told in (
        (["data.masks=false"], "data.masks must be true"),
        (["model={builder: yolo.yolo_small}"], "data.masks must be false"),
        (["data.tile={size: 32}"], "data.tile and train.sides must be left out"),
        (["train.sides=[64, 96]"], "data.tile and train.sides must be left out"),
    ):
        with pytest.raises(Fault, match=told):
            model.check_masks(load(str(tmp_path / "digits.yaml"), settings))


def fixed_reader(shape=(40, 60)):
    """A reader whose network always finds the same: class 1 in the frame's left half, likelier than 0 around it."""
    found = tf.constant([[[0.0, 0.25, 0.5, 0.75], [0.0, 0.25, 1.0, 0.75]]])
    scores = tf.constant([[[0.0, 0.9], [0.6, 0.0]]])

    def masks_of(outputs, boxes, classes):
        """Of class 1 its whole box; of class 0 the upper half of it."""
        upper = tf.cast(tf.range(28) < 14, tf.float32)[:, None] * tf.ones([28, 28])
        return tf.where((classes == 1)[..., None, None], tf.ones([28, 28]), upper)

    def repeated(values):
        return lambda images: tf.tile(values, [tf.shape(images)[0], 1, 1])

    return detect_masks.MaskReader(
        lambda images: images,
        candidates=lambda images: (repeated(found)(images), repeated(scores)(images)),
        masks=masks_of,
        settings=Suppress(limit=5),
        shape=input_pipeline.Shape(shape, 3, "pad"),
    )


def test_masks_are_told_in_pixels_of_pictures_as_they_were():
    """The frame of 40 × 40 holds a picture of 20 × 40 in its middle, and one of 40 × 20."""
    reader = fixed_reader((40, 40))
    images, sizes = tf.zeros([2, 40, 40, 3], tf.uint8), tf.constant([[60, 120], [80, 40]])
    found, more = reader.answer(images, sizes)
    first, second = (tf.io.decode_png(data)[..., 0].numpy() for data in more["instances_bytes"])
    assert first.shape == (60, 120)
    assert (first[:, :60] == 1).all()  # the frame's left half, its middle half in height: the picture's whole height
    assert (first[:30, 60:] == 2).all()
    assert not first[30:, 60:].any()
    assert second.shape == (80, 40)
    assert (second[20:60, :20] == 1).all()  # of the second picture the frame shows all, at half the width
    assert found.boxes[1, 0].numpy().tolist() == pytest.approx([0, 20, 20, 60])
    np.testing.assert_array_equal(found.boxes, reader(images, sizes).boxes)


def test_run_lengths_are_of_whole_masks_whatever_is_in_front():
    reader, told = fixed_reader(), []
    examples = [{"image": tf.zeros([2, 40, 60, 3], tf.uint8), "extent": tf.constant([[40, 60], [80, 120]])}]
    answers, covered = detect_masks.detect(reader, examples, told.append)
    assert told == [2]
    assert [one.classes.tolist() for one in answers] == [[1, 0], [1, 0]]
    small, large = run_length.decode(covered[0][0]), run_length.decode(covered[0][1])
    assert (small.sum(), large.sum()) == (20 * 30, 10 * 60)
    assert run_length.decode(covered[1][1]).shape == (80, 120)


def bright_reader(frame, views):
    """Finds what is bright, of two classes by its channel, and of each box what is brighter."""

    def candidates(images):
        bright = tf.cast(images[..., :2] > 127, tf.float32)
        edges = []
        for axis, length in ((2, frame[0]), (1, frame[1])):
            along = tf.reduce_max(bright, axis=axis)  # (batch, length, 2)
            places = tf.range(length, dtype=tf.float32)[:, None]
            edges.append(
                (
                    tf.reduce_min(tf.where(along > 0, places, 1e9), 1) / length,
                    tf.reduce_max(along * (places + 1), 1) / length,
                )
            )
        (top, bottom), (left, right) = edges
        return tf.stack([left, top, right, bottom], axis=-1), tf.tile(
            0.9 * tf.eye(2)[None], [tf.shape(images)[0], 1, 1]
        )

    def masks(images, boxes, classes):
        return tf.image.crop_and_resize(
            tf.reduce_max(tf.cast(images > 200, tf.float32), -1, keepdims=True),
            tf.gather(boxes[0], [1, 0, 3, 2], axis=1),
            tf.zeros(tf.shape(boxes)[1], tf.int32),
            [20, 20],
        )[None, ..., 0]

    shape = input_pipeline.Shape(frame, 3, "pad")
    settings = Suppress(limit=2)
    return detect_masks.MaskReader(
        lambda images: images, candidates=candidates, masks=masks, settings=settings, shape=shape, views=views
    )


def test_masks_of_a_mirrored_view_are_carried_back_into_their_boxes():
    picture = np.zeros((1, 64, 96, 3), np.uint8)
    picture[0, 8:28, 4:24, 0], picture[0, 8:28, 24:44, 0] = 255, 150  # half of it is its mask
    picture[0, 30:60, 60:90, 1] = 255
    sizes = tf.constant([[64, 96]])
    one, two = (
        bright_reader((64, 96), views).masked(tf.constant(picture), sizes)
        for views in (test_time_augmentation.whole_views("flip")[:1], test_time_augmentation.whole_views("flip"))
    )
    np.testing.assert_allclose(one[0].boxes[0], [[4, 8, 44, 28], [60, 30, 90, 60]], atol=1e-4)
    for wanted, got in zip([*one[0], one[1]], [*two[0], two[1]], strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert one[1][0, 0, 1:-1, 1:9].numpy().min() > 0.8
    assert one[1][0, 0, :, 11:].numpy().max() == 0


def test_pycocotools_reads_our_run_lengths_and_we_read_its():
    from pycocotools import mask as tools

    covered = np.random.default_rng(0).random((13, 17)) < 0.4
    ours = run_length.encode(covered)
    theirs = tools.frPyObjects(ours, *ours["size"])
    np.testing.assert_array_equal(tools.decode(theirs), covered)
    np.testing.assert_array_equal(run_length.decode(theirs), covered)


def truth(count=4):
    """One square of 10 × 10 in each picture of 20 × 20."""
    covered = np.zeros((20, 20), bool)
    covered[5:15, 5:15] = True
    images = [{"id": row, "file_name": f"{row}.png", "height": 20, "width": 20} for row in range(count)]
    note = {"category_id": 0, "bbox": [5, 5, 10, 10], "area": 100, "segmentation": run_length.encode(covered)}
    notes = [{**note, "id": row + 1, "image_id": row} for row in range(count)]
    return {"images": images, "annotations": notes, "categories": [{"id": 0, "name": "square"}]}


def answered(rows):
    """In each picture the right box with the true square cut down to so many rows."""
    box, found, runs = np.array([[5.0, 5, 15, 15]]), [], []
    for row, kept in enumerate(rows):
        covered = np.zeros((20, 20), bool)
        covered[5 : 5 + kept, 5:15] = True
        found.append(Detected(box, np.array([0.9 - 0.01 * row]), np.array([0])))
        runs.append([run_length.encode(covered)])
    return found, runs


def test_a_mask_is_right_by_its_pixels_not_by_its_box():
    report = instance_report.mask_metrics(truth(), *answered([10, 10, 10, 10]))
    assert (report["ap"], report["ap50"], report["objects"]) == (1.0, 1.0, 4)
    assert report["ap50_interval"] == [1.0, 1.0]
    report = instance_report.mask_metrics(truth(), *answered([6, 6, 6, 6]))  # IoU 0.6
    assert report["ap50"] == 1.0
    assert report["ap"] == pytest.approx(0.3)  # at 0.5, 0.55 and 0.6 of ten
    assert report["ap75"] == 0.0
    report = instance_report.mask_metrics(truth(), *answered([10, 10, 4, 4]))
    assert report["ap50"] == pytest.approx(51 / 101)  # every recall up to a half
    low, high = report["ap50_interval"]
    assert low < report["ap50"] < high
    assert report["classes"] == [{"name": "square", "ap": report["ap"], "ap50": report["ap50"]}]


def test_the_report_draws_what_was_said_beside_what_is_true(tmp_path):
    found, runs = answered([10, 4])
    report = instance_report.instance_report(
        tmp_path,
        truth(2),
        found,
        runs,
        threshold=0.895,
        pictures_of=lambda rows: [np.full((20, 20, 3), 90, np.uint8) for _ in rows],
        shown=5,
    )
    assert report["mask_ap50"] == report["masks"]["ap50"]
    assert (tmp_path / "masks.png").is_file()
    console = SimpleNamespace(print=(said := io.StringIO()).write)
    instance_report.say(console, report["masks"])
    assert "95 % interval" in said.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outlines")
    (folder / "digits.yaml").write_text(RECIPE)
    assert cnn("run", folder / "digits.yaml", "--runs", folder / "runs") == 0
    return folder


@pytest.mark.slow
def test_from_annotations_to_served_masks_in_pixels(folder, capsys):
    run = folder / "runs" / "detect" / "digits"
    report = json.loads((run / "evaluate" / "report.json").read_text())
    assert report["masks"]["objects"] == report["objects"]
    assert (run / "evaluate" / "masks.png").is_file()
    assert json.loads((run / "train" / "manifest.json").read_text())["facts"]["parameters"] > 0
    features = records.box_features(json.loads((run / "prepare" / "data.json").read_text())["most_boxes"], masks=True)
    one = next(iter(records.read(run / "prepare", "test", features=features)))
    encoded = one["image"].numpy()
    (folder / "one.png").write_bytes(encoded)
    large = Image.open(io.BytesIO(encoded)).resize((100, 70))
    large.save(folder / "large.png")
    capsys.readouterr()
    asked = (folder / "one.png", folder / "large.png", "--pictures", folder / "drawn", "--json")
    assert cnn("predict", folder / "digits.yaml", *asked, "--runs", folder / "runs") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["detections"]
    for answer, size in ((first, [56, 56]), (second, [70, 100])):
        assert all(found["mask"]["size"] == size for found in answer["detections"])
    assert len(list((folder / "drawn").glob("*.png"))) == 2
    with TestClient(application(run / "export" / "digits")) as client:
        body = {"Content-Type": "image/png"}
        answer = client.post("/v1/models/digits:predict", content=(folder / "large.png").read_bytes(), headers=body)
        assert answer.status_code == 200
        told = answer.json()["predictions"][0]
    import base64

    served = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["instances_bytes"]["b64"]))))
    assert served.shape == (70, 100)
    for number, found in enumerate(second["detections"], 1):
        np.testing.assert_array_equal(served == number, run_length.decode(found["mask"]))
