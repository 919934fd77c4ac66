"""Preparing images with boxes: what is wrong is told and counted, splits keep groups whole, and the facts are true."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from rich.console import Console

from cnn_keras.data import input_pipeline, records
from cnn_keras.data.annotation import Item, Object
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.errors import Fault
from pipelines.data.boxes import box_config, box_dataset, box_files, box_validation

CLASSES = ("cat", "dog")


def picture(number, height=40, width=60):
    return encode_png(np.full((height, width, 3), number % 256, np.uint8))


def run_of(**data):
    data = box_config.Data(**{"size": (32, 32), **data})
    return SimpleNamespace(
        recipe=SimpleNamespace(data=data, seed=0, fold=None),
        console=Console(file=io.StringIO(), width=200),
        parallel_map=None,
        training_facts=None,
    )


def prepared(tmp_path, **data):
    run = run_of(**data)
    (tmp_path / "prepare").mkdir(parents=True)
    return box_dataset.prepare(run, tmp_path / "prepare"), run.console.file.getvalue()


def listed(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(folder, rows, pictures):
    """A CSV source: rows of (picture, left, top, right, bottom, label, more…)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    with (folder / "boxes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "left", "top", "right", "bottom", "label", "split", "group", "difficult", "crowd"])
        writer.writerows([*row, *[""] * (10 - len(row))] for row in rows)
    return folder / "boxes.csv"


def plain(tmp_path, count=20):
    rows = [(f"{number}.png", 6, 4, 30, 24, CLASSES[number % 2]) for number in range(count)]
    return table(tmp_path / "source", rows, {f"{number}.png": picture(number) for number in range(count)})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("whole")
    return tmp_path / "prepare", *prepared(tmp_path, source="csv", path=plain(tmp_path), anchors=2)


def test_what_is_prepared_is_counted_recorded_and_drawn(whole):
    folder, facts, said = whole
    assert facts["classes"] == ["cat", "dog"]
    assert facts["splits"] == facts["boxes"] == {"train": 14, "validation": 2, "test": 4}
    assert facts["most_boxes"] == 1
    assert facts["problems"] == {}
    assert json.loads((folder / "data.json").read_text()) == facts
    for name in ("contact_sheet.png", "class_balance.png", "box_sizes.png", "truth-test.json", "truth-validation.json"):
        assert (folder / name).stat().st_size > 0
    assert "1 anchors: mean IoU 1.000, recall at 0.5 1.000  ← data.anchors" in said
    assert "1 anchors instead of 2 (data.anchors): the boxes that train are of no more sizes" in said
    rows = listed(folder / "split.csv")
    assert len(rows) == 20
    assert {(row["height"], row["width"], row["boxes"]) for row in rows} == {("40", "60", "1")}


def test_boxes_are_recorded_as_shares_of_their_image(whole):
    folder, facts, _ = whole
    for example in records.read(folder, "train", features=records.box_features(facts["most_boxes"])):
        np.testing.assert_allclose(example["boxes"], [[0.1, 0.1, 0.5, 0.6]])
        number = int(example["id"].numpy().decode().removesuffix(".png"))
        assert facts["classes"][int(example["classes"][0])] == CLASSES[number % 2]


def test_anchors_are_sizes_in_the_frame_that_the_network_sees(whole):
    _, facts, _ = whole
    assert facts["anchors"] == [[pytest.approx(0.4), pytest.approx(20 / 40 * 21 / 32, abs=1e-4)]]  # 40×60 in 21×32
    assert facts["anchor_fit"] == {"mean_iou": 1.0, "recall": 1.0}


def test_the_truth_is_cocos_in_pixels_of_the_image_and_in_the_order_of_the_split(whole):
    coco = pytest.importorskip("pycocotools.coco")
    folder, facts, _ = whole
    with io.StringIO() as quiet, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", quiet)
        truth = coco.COCO(folder / "truth-test.json")
    assert len(truth.getAnnIds()) == facts["boxes"]["test"]
    shape = input_pipeline.Shape((32, 32), 3, "pad")
    examples = input_pipeline.decoded_examples(
        folder, "test", shape, example=input_pipeline.box_example(facts["most_boxes"])
    ).as_numpy_iterator()
    for row, example in enumerate(examples):
        image = truth.loadImgs(row)[0]
        assert image["file_name"] == example["id"].decode()
        assert (image["height"], image["width"]) == tuple(example["extent"])
        (found,) = truth.loadAnns(truth.getAnnIds(row))
        assert found["bbox"] == [6, 4, 24, 20]
        assert truth.loadCats(found["category_id"])[0]["name"] == facts["classes"][example["classes"][0]]


def test_everything_wrong_with_boxes_is_told_by_kind(tmp_path):
    rows = [(f"{number}.png", 6, 4, 30, 24, CLASSES[number % 2]) for number in range(20)]
    rows += [
        ("0.png", -5, 4, 20, 20, "cat"),  # out of bounds by 5
        ("1.png", -0.9, 0, 60.5, 40, "cat"),  # as annotators' tools round
        ("2.png", 20, 4, 10, 20, "cat"),
        ("3.png", 20, 4, 20, 20, "cat"),
        ("4.png", 6, 4, 30, 24, "cat"),  # twice
        ("5.png", 70, 4, 90, 20, "cat"),
        ("6.png", 1, 1, 1.5, 9, "cat"),
        ("7.png", 1, 1, 9, 9, "cow"),
        ("8.png", "?", 1, 9, 9, "cat"),
        ("20.png",),
        ("gone.png", 1, 1, 9, 9, "cat"),
        ("text.png", 1, 1, 9, 9, "cat"),
    ]
    pictures = {f"{number}.png": picture(number) for number in range(21)} | {"text.png": b"no picture"}
    path = table(tmp_path / "source", rows, pictures)
    facts, said = prepared(tmp_path, source="csv", path=path, max_bad=0.5, classes=CLASSES, anchors=1)
    kinds = ["box out of bounds", "inverted box", "empty box", "duplicate box", "box outside the image",
             "box smaller than a pixel", "unknown class", "malformed annotation", "missing image",
             "undecodable"]  # fmt: skip
    assert facts["problems"] == dict.fromkeys(kinds, 1)
    assert all(f"1 {kind}" in said for kind in kinds)
    assert "box clipped" in said
    assert sum(facts["splits"].values()) == 21
    assert sum(facts["background"].values()) == 1
    assert sum(facts["boxes"].values()) == 22
    problems = {row["kind"]: row for row in listed(tmp_path / "prepare/problems.csv")}
    assert problems["inverted box"] == {
        "kind": "inverted box", "action": "box dropped", "id": "2.png", "detail": "cat [20, 4, 10, 20]",
    }  # fmt: skip


def test_a_box_that_sticks_out_is_clipped_or_dropped_as_the_recipe_says():
    one = Object((-10.0, 4.0, 20.0, 50.0), "cat")
    for policy, expected in (("clip", (0.0, 4.0, 20.0, 40.0)), ("drop", None)):
        found, trouble = box_validation.inside(one, (40, 60), box_config.Data(source="coco", out_of_bounds=policy))
        assert (found and found.box) == expected
        assert trouble == ("box out of bounds", "box clipped" if expected else "box dropped")


def test_too_many_bad_boxes_are_refused_and_listed(tmp_path):
    rows = [(f"{number}.png", 6, 4, 3 if number < 5 else 30, 24, "cat") for number in range(20)]
    path = table(tmp_path / "source", rows, {f"{number}.png": picture(number) for number in range(20)})
    with pytest.raises(Fault, match=r"10% and 5 of 20 \(25%\): 5 inverted box") as caught:
        prepared(tmp_path, source="csv", path=path)
    assert caught.value.code == Fault.DATA


def test_groups_and_copies_stay_in_one_split(tmp_path):
    rows = [(f"g{number % 8}-{number}.png", 6, 4, 30, 24, CLASSES[number % 2]) for number in range(24)]
    pictures = {row[0]: picture(number) for number, row in enumerate(rows)}
    pictures["g0-0.png"] = pictures["g1-1.png"]  # a copy across groups, with another class
    facts, _ = prepared(tmp_path, source="csv", path=table(tmp_path / "source", rows, pictures), group=r"^(g\d)")
    splits = {}
    for row in listed(tmp_path / "prepare/split.csv"):
        splits.setdefault(row["id"][:2], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert splits["g0"] == splits["g1"]
    assert set(facts["splits"]) == {"train", "validation", "test"}
    assert facts["problems"] == {"duplicate with another label": 1}


def test_prescribed_splits_hold_and_crowds_are_known_to_the_evaluation_only(tmp_path):
    rows = []
    for number in range(12):
        split = ("train", "val", "test")[min(number // 4, 2)]
        rows.append((f"{number}.png", 6, 4, 30, 24, "cat", split, "", "1" if number == 8 else "", ""))
        rows.append((f"{number}.png", 0, 0, 60, 40, "cat", split, "", "", "1"))
    path = table(tmp_path / "source", rows, {f"{number}.png": picture(number) for number in range(12)})
    facts, _ = prepared(tmp_path, source="csv", path=path)
    assert facts["splits"] == facts["boxes"] == {"train": 4, "validation": 4, "test": 4}
    truth = json.loads((tmp_path / "prepare/truth-test.json").read_text())["annotations"]
    assert [(one["iscrowd"], one["difficult"]) for one in truth] == [(0, 1), (1, 0), *[(0, 0), (1, 0)] * 3]
    read = records.read(tmp_path / "prepare", "test", features=records.box_features(facts["most_boxes"]))
    assert [example["difficult"].numpy().tolist() for example in read] == [[1], [0], [0], [0]]


def test_large_photographs_are_cut_into_tiles_after_they_were_split(tmp_path):
    rows = [(f"{number}.png", 10, 10, 30, 30, "cat") for number in range(6)]
    path = table(tmp_path / "source", rows, {f"{number}.png": picture(number, 60, 90) for number in range(6)})
    facts, _ = prepared(
        tmp_path,
        source="csv",
        path=path,
        tile=box_config.Tile(size=50, overlap=0.5),
        validation=0.0,
        test=0.3,
        anchors=1,
    )
    rows = listed(tmp_path / "prepare/split.csv")
    assert len({row["split"] for row in rows if row["id"].startswith("0.png@")}) == 1
    photographs = {
        split: len({row["id"].partition("@")[0] for row in rows if row["split"] == split})
        for split in ("train", "test")
    }
    assert sum(photographs.values()) == 6
    assert facts["splits"] == {"train": photographs["train"] * 2 * 3, "test": photographs["test"]}
    sizes = {split: {(row["height"], row["width"]) for row in rows if row["split"] == split} for split in photographs}
    assert sizes == {"train": {("50", "50")}, "test": {("60", "90")}}


def test_the_same_data_has_the_same_digest_and_another_box_another_one(tmp_path):
    first, _ = prepared(tmp_path / "a", source="csv", path=plain(tmp_path / "a"), anchors=1)
    second, _ = prepared(tmp_path / "b", source="csv", path=plain(tmp_path / "b"), anchors=1)
    assert first["digest"] == second["digest"]
    moved = plain(tmp_path / "c")
    moved.write_text(moved.read_text().replace("3.png,6,", "3.png,7,"))
    third, _ = prepared(tmp_path / "c", source="csv", path=moved, anchors=1)
    assert third["digest"] != first["digest"]


def test_files_that_change_are_noticed_and_a_missing_path_is_a_fault(tmp_path):
    data = box_config.Data(source="csv", path=plain(tmp_path))
    before = box_files.files_digest(data)
    assert box_files.files_digest(data) == before
    (tmp_path / "source/3.png").write_bytes(picture(99, 10, 10))
    assert box_files.files_digest(data) != before
    assert box_files.files_digest(box_config.Data(source="composites")) is None
    with pytest.raises(Fault, match=r"data\.path is required"):
        box_files.files_digest(box_config.Data(source="voc"))


def test_settings_are_checked():
    for wrong in ({"source": "pascal"}, {"source": "coco", "fit": "crop"}, {"source": "coco", "tile": {"sise": 3}}):
        with pytest.raises(ValidationError):
            box_config.Data.model_validate(wrong)
    with pytest.raises(Fault, match="composites requires source: composites"):
        box_dataset.load_source(box_config.Data(source="coco", composites=box_config.Composites()), 0)


def test_a_rare_class_does_not_forbid_a_split():
    kept = [
        box_validation.UsablePicture(
            Item(f"{row}", bytes, (Object((0, 0, 1, 1), "rare" if row == 0 else "cat"),)), f"d{row}", (9, 9)
        )
        for row in range(12)
    ]
    splits = box_dataset.splits_of(kept, box_config.Data(source="coco"), 0)
    assert sorted(set(splits)) == ["test", "train", "validation"]
    with pytest.raises(Fault, match="at least 3 images or groups"):
        box_dataset.splits_of(kept[:2], box_config.Data(source="coco"), 0)


def test_composites_go_through_whole(tmp_path):
    facts, _ = prepared(
        tmp_path, source="composites", composites=box_config.Composites(count=20, side=64), size=(64, 64)
    )
    assert facts["splits"] == {"train": 14, "validation": 2, "test": 4}
    assert len(facts["anchors"]) == 9
    sheet = box_dataset.samples(
        box_config.Data(source="composites", composites=box_config.Composites(count=10), size=(48, 64)), 2
    )
    assert [one["image"].shape for one in sheet] == [(48, 64, 3)] * 2
    for one in sheet:  # a square picture in a frame of 48×64 has black bars left and right
        assert one["boxes"][one["boxes"][:, 2] > 0, 0].min() >= 8 / 64


def sideways(orientation, height=40, width=60):
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.random.default_rng(orientation).integers(0, 255, (height, width, 3), np.uint8)).save(
        out, "JPEG", exif=exif
    )
    return out.getvalue()


def stated(folder, sizes, orientations=None):
    """COCO's JSON of a box (6, 4, 30, 24) in each picture, stored as 40 × 60, with the size that is stated of it."""
    folder.mkdir()
    images, rows = [], []
    for number, (height, width) in enumerate(sizes, 1):
        orientation = (orientations or {}).get(number)
        data = sideways(orientation) if orientation else picture(number)
        (folder / f"{number}.png").write_bytes(data)
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        rows.append({"id": number, "image_id": number, "category_id": 1, "bbox": [6, 4, 24, 20]})
    document = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "a.json").write_text(json.dumps(document))
    return folder / "a.json"


def test_boxes_of_the_image_as_it_is_stored_are_turned_with_it(tmp_path):
    # Stored as 40 × 60 and stated so; number 3 stands on its head, which its size does not show.
    path = stated(tmp_path / "source", [(40, 60)] * 20, {1: 6, 2: 8, 3: 3})
    facts, said = prepared(tmp_path, source="coco", path=path, anchors=1, validation=0, test=0)
    assert facts["problems"] == {"exif-rotated": 3, "boxes of the unrotated image": 3}
    assert "boxes turned" in said
    boxes = {
        example["id"].numpy().decode(): example["boxes"][0].numpy()
        for example in records.read(tmp_path / "prepare", "train", features=records.box_features(facts["most_boxes"]))
    }
    np.testing.assert_allclose(boxes["1.png"] * (40, 60, 40, 60), (16, 6, 36, 30), atol=1e-4)
    np.testing.assert_allclose(boxes["2.png"] * (40, 60, 40, 60), (4, 30, 24, 54), atol=1e-4)
    np.testing.assert_allclose(boxes["3.png"] * (60, 40, 60, 40), (30, 16, 54, 36), atol=1e-4)
    np.testing.assert_allclose(boxes["4.png"] * (60, 40, 60, 40), (6, 4, 30, 24), atol=1e-4)


def test_boxes_of_the_upright_image_stay(tmp_path):
    path = stated(tmp_path / "source", [(60, 40), *[(40, 60)] * 19], {1: 6, 2: 3})
    facts, _ = prepared(tmp_path, source="coco", path=path, anchors=1, validation=0, test=0)
    assert facts["problems"] == {"exif-rotated": 2}


@pytest.mark.parametrize("orientation", [None, 6])
def test_images_of_another_size_than_stated_count_as_unusable(tmp_path, orientation):
    sizes = [(30, 30)] * 3 + [(40, 60)] * 17
    path = stated(tmp_path / "source", sizes, {1: orientation} if orientation else None)
    with pytest.raises(Fault, match=r"10% and 3 of 20 unusable \(15%\)") as caught:
        prepared(tmp_path / "a", source="coco", path=path, anchors=1)
    assert caught.value.code == Fault.DATA
    facts, _ = prepared(tmp_path / "b", source="coco", path=path, anchors=1, max_bad=0.2)
    assert facts["problems"]["size differs"] == 3


def test_images_without_annotation_count_as_unusable(tmp_path):
    folder = tmp_path / "source"
    for number in range(20):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "images" / f"{number}.png").write_bytes(picture(number))
        if number > 2:
            (folder / "labels" / f"{number}.txt").write_text("0 .5 .5 .5 .5\n")
    (folder / "data.yaml").write_text("train: images\nnames: [cat]\n")
    with pytest.raises(Fault, match=r"3 of 20 unusable \(15%\)"):
        prepared(tmp_path / "a", source="yolo", path=folder, anchors=1)
    facts, _ = prepared(tmp_path / "b", source="yolo", path=folder, anchors=1, max_bad=0.15)
    assert sum(facts["background"].values()) == facts["problems"]["without annotation"] == 3


def crowded(folder, count, marked):
    rows = [(f"{number}.png", 6, 4, 30, 24, "cat", "", "", "", number < marked or "") for number in range(count)]
    return table(folder, rows, {f"{number}.png": picture(number) for number in range(count)})


def test_crowds_are_reported_and_objects_where_the_recipe_says_so(tmp_path):
    path = crowded(tmp_path / "source", 20, 4)
    facts, said = prepared(tmp_path / "a", source="csv", path=path, anchors=1)
    assert facts["problems"] == {"crowd": 4}
    assert sum(facts["boxes"].values()) == 16
    assert "data.crowd" not in said
    facts, _ = prepared(tmp_path / "b", source="csv", path=path, anchors=1, crowd="object")
    assert facts["problems"] == {}
    assert sum(facts["boxes"].values()) == 20


def test_where_most_objects_are_crowds_the_message_says_why(tmp_path):
    _, said = prepared(tmp_path / "a", source="csv", path=crowded(tmp_path / "some", 20, 15), anchors=1)
    assert "15 of 20 objects are marked as crowds" in said
    assert "data.crowd=object" in said
    with pytest.raises(Fault, match=r"at least one box, got none; 20 of 20 objects.*data\.crowd=object"):
        prepared(tmp_path / "b", source="csv", path=crowded(tmp_path / "all", 20, 20), anchors=1)
