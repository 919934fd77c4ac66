"""Recipes whose data cannot be shipped read files of the layout in which these are published, and train a step on them.

The names and fields are the published ones; the pictures are drawn, or ORL's in the place of Labeled Faces in the Wild.
"""

import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data.sources.classification import orl
from tests.conftest import cnn

ANNOTATION = """\
<annotation>
	<folder>VOC2007</folder>
	<filename>NAME.jpg</filename>
	<source><database>The VOC2007 Database</database></source>
	<size><width>48</width><height>40</height><depth>3</depth></size>
	<segmented>0</segmented>
	<object>
		<name>person</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
		<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>24</xmax><ymax>40</ymax></bndbox>
		<part><name>head</name><bndbox><xmin>5</xmin><ymin>2</ymin><xmax>14</xmax><ymax>11</ymax></bndbox></part>
	</object>
	<object>
		<name>dog</name><pose>Unspecified</pose><truncated>0</truncated><difficult>1</difficult>
		<bndbox><xmin>26</xmin><ymin>8</ymin><xmax>48</xmax><ymax>30</ymax></bndbox>
	</object>
</annotation>
"""
PEOPLE = ("Aaron_Eckhart", "Zach_Pillar", "Abel_Pacheco", "Al_Gore", "Bill_Frist", "Igor_Ivanov")
RNG = np.random.default_rng(0)


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def photograph(path: Path, width: int = 48, height: int = 40, *, mode: str = "RGB", kind: str = "JPEG") -> None:
    out = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).convert(mode).save(out, kind)
    write(path, out.getvalue())


def imagenet(root: Path) -> list[str]:
    """train/ and val/ with a folder for each WordNet id; a few files are PNG or CMYK in spite of their suffix."""
    for label in ("n01440764", "n02105855"):
        for number in (293, 2933, 10026, 10027):
            photograph(root / "train" / label / f"{label}_{number}.JPEG")
        for number in (293, 2138, 3014):
            photograph(root / "val" / label / f"ILSVRC2012_val_{number:08d}.JPEG")
    photograph(root / "train" / "n02105855" / "n02105855_2933.JPEG", kind="PNG")
    photograph(root / "train" / "n01440764" / "n01440764_293.JPEG", mode="CMYK")
    return [f"data.path={root}"]


def coco(root: Path) -> list[str]:
    """annotations/ as it is unpacked, ids with gaps, a crowd and a picture of nothing; pictures beside it."""
    categories = [(1, "person", "person"), (18, "animal", "dog"), (90, "indoor", "toothbrush")]
    listed = {"train": (9, 25, 30, 34, 36, 42), "val": (139, 285)}
    for split, ids in listed.items():
        images, boxes = [], []
        for number in ids:
            name = f"{number:012d}.jpg"
            photograph(root / f"{split}2017" / name)
            address = f"http://images.cocodataset.org/{split}2017/{name}"
            images.append({
                "license": 4, "file_name": name, "coco_url": address, "height": 40, "width": 48, "id": number,
                "date_captured": "2013-11-14 17:02:52", "flickr_url": "http://farm9.staticflickr.com/1_z.jpg",
            })  # fmt: skip
            for place, (category, _, _) in enumerate(categories[: number % 4]):
                box = [2.5 + 10 * place, 4.0, 18.25, 30.5]
                corners = [2.5 + 10 * place, 4.0, 20.75 + 10 * place, 4.0, 20.75 + 10 * place, 34.5]
                crowd = category == 1 and number == 25
                mask = {"counts": [900, 20, 1000], "size": [40, 48]} if crowd else [corners]
                boxes.append({
                    "segmentation": mask, "area": 278.3, "iscrowd": int(crowd), "image_id": number, "bbox": box,
                    "category_id": category, "id": 908_400_000_000 + 10 * number + place,
                })  # fmt: skip
        head = {
            "info": {"description": "COCO 2017 Dataset", "version": "1.0", "year": 2017},
            "licenses": [
                {"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}
            ],
            "images": images,
        }
        named = [{"supercategory": above, "id": number, "name": name} for number, above, name in categories]
        captions = [{"image_id": number, "id": number, "caption": "A photograph."} for number in ids]
        person = [{**named[0], "keypoints": ["nose"], "skeleton": []}]
        posed = [{**box, "keypoints": [20, 10, 2], "num_keypoints": 1} for box in boxes if box["category_id"] == 1]
        for kind, rest in {
            "instances": {"annotations": boxes, "categories": named},
            "captions": {"annotations": captions},
            "person_keypoints": {"annotations": posed, "categories": person},
        }.items():
            write(root / "annotations" / f"{kind}_{split}2017.json", json.dumps(head | rest))
    return [f"data.path={root / 'annotations'}"]


def voc(root: Path) -> list[str]:
    """VOC2007/ as it is unpacked, with masks of some pictures, parts of a person, and lists for each class."""
    root = root / "VOCdevkit" / "VOC2007"
    listed = {"train": ("000012", "000017", "000023"), "val": ("000005", "000007"), "test": ("000001", "000002")}
    for name in sum(listed.values(), ()):
        photograph(root / "JPEGImages" / f"{name}.jpg")
        write(root / "Annotations" / f"{name}.xml", ANNOTATION.replace("NAME", name))
    for split, names in (listed | {"trainval": listed["train"] + listed["val"]}).items():
        write(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in names))
        for label in ("person", "dog"):
            write(root / "ImageSets" / "Main" / f"{label}_{split}.txt", "".join(f"{name}  1\n" for name in names))
        write(root / "ImageSets" / "Segmentation" / f"{split}.txt", f"{names[0]}\n")
        write(root / "ImageSets" / "Layout" / f"{split}.txt", f"{names[0]} 1\n")
    for kind in ("SegmentationClass", "SegmentationObject"):
        photograph(root / kind / "000017.png", kind="PNG")
    return [f"data.path={root}"]


def camvid(root: Path) -> list[str]:
    """SegNet's copy: three pairs of folders, masks of the numbers 0 to 11, and lists with paths of its author's."""
    for split, names in {
        "train": ("0001TP_006690", "0006R0_f00930"),
        "val": ("0016E5_07959",),
        "test": ("Seq05VD_f00000",),
    }.items():
        for name in names:
            photograph(root / split / f"{name}.png", kind="PNG")
            out = io.BytesIO()
            mask = np.repeat(np.arange(12, dtype=np.uint8), 4)[None].repeat(40, axis=0)
            Image.fromarray(mask).save(out, "PNG")
            write(root / f"{split}annot" / f"{name}.png", out.getvalue())
        lines = (f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png\n" for name in names)
        write(root / f"{split}.txt", "".join(lines))
    return [f"data.path={root}"]


def lfw(root: Path) -> list[str]:
    """A folder of 250×250 for each person, and the list of pairs: folds and pairs of a fold, then two kinds of rows."""
    faces = orl()
    for number, person in enumerate(PEOPLE):
        for picture in range(4):
            face = Image.open(io.BytesIO(faces[10 * number + picture].read())).convert("RGB").resize((184, 224))
            canvas, out = Image.new("RGB", (250, 250), "grey"), io.BytesIO()
            canvas.paste(face, (33, 13))
            canvas.save(out, "JPEG")
            write(root / "lfw" / person / f"{person}_{picture + 1:04d}.jpg", out.getvalue())
    folds = (
        "Aaron_Eckhart\t1\t2\nZach_Pillar\t3\t4\nAaron_Eckhart\t1\tZach_Pillar\t2\nZach_Pillar\t3\tAaron_Eckhart\t4\n",
        "Aaron_Eckhart\t3\t4\nZach_Pillar\t1\t2\nAaron_Eckhart\t2\tZach_Pillar\t1\nZach_Pillar\t4\tAaron_Eckhart\t3\n",
    )
    write(root / "pairs.txt", "2\t2\n" + "".join(folds))
    return [f"data.path={root / 'lfw'}", f"data.pairs.path={root / 'pairs.txt'}"]


PUBLISHED = {
    "classify/imagenet-resnet50": imagenet,
    "detect/coco-yolov3": coco,
    "detect/voc-faster_rcnn": voc,
    "segment/camvid-fcn8s": camvid,
    "verify/lfw-triplet": lfw,
}

SPLITS = {
    "classify/imagenet-resnet50": {"train": 8, "validation": 6},
    "detect/coco-yolov3": {"train": 6, "validation": 2},
    "detect/voc-faster_rcnn": {"train": 3, "validation": 2, "test": 2},
    "segment/camvid-fcn8s": {"train": 2, "validation": 1, "test": 1},
    "verify/lfw-triplet": {"train": 8, "validation": 8, "test": 8},
}
SMALL = {  # so that a step takes a second
    "classify/imagenet-resnet50": ("data.size=[64, 64]", "train.batch_size=4"),
    "detect/coco-yolov3": ("data.size=[64, 64]", "train.sides=[]", "train.batch_size=2"),
    "detect/voc-faster_rcnn": (
        "data.size=[64, 80]",
        "train.batch_size=2",
        "model.hidden=16",
        "model.weights=null",
        "train.transfer=null",
    ),
    "segment/camvid-fcn8s": ("data.size=[64, 96]", "train.batch_size=1", "train.before=[]", "model.hidden=16"),
    "verify/lfw-triplet": ("data.size=[32, 32]", "train.batch_size=8", "train.each=2", "model.filters=4"),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of the recipes' runs, each prepared, and the settings of each."""
    root, settings = tmp_path_factory.mktemp("published"), {}
    for recipe, published in PUBLISHED.items():
        chosen = [*published(root / recipe), *SMALL[recipe], "train.precision=float32"]
        settings[recipe] = [part for setting in chosen for part in ("--set", setting)]
        assert cnn("prepare", recipe, *settings[recipe], "--runs", root / "runs") == 0
    return root / "runs", settings


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_every_picture_of_the_published_layout_is_in_its_split(prepared, recipe):
    runs, _ = prepared
    with (runs / recipe / "prepare" / "split.csv").open(encoding="utf-8") as file:
        assert Counter(row["split"] for row in csv.DictReader(file)) == SPLITS[recipe]


def facts(prepared, recipe, name="data.json"):
    runs, _ = prepared
    return json.loads((runs / recipe / "prepare" / name).read_text(encoding="utf-8"))


def test_imagenets_cmyk_files_and_pngs_named_jpeg_are_read(prepared):
    assert facts(prepared, "classify/imagenet-resnet50")["problems"] == {"cmyk": 1}


def test_cocos_ids_crowds_and_other_kinds_of_annotations_are_understood(prepared):
    found = facts(prepared, "detect/coco-yolov3")
    assert found["classes"] == ["person", "dog", "toothbrush"]
    assert found["class_boxes"]["train"] == {"person": 4, "dog": 3, "toothbrush": 0}  # the crowd is none of them
    assert found["problems"] == {"crowd": 1, "file of another kind": 4}


def test_vocs_boxes_begin_at_one_end_with_the_picture_and_parts_are_no_objects(prepared):
    truth = facts(prepared, "detect/voc-faster_rcnn", "truth-test.json")
    assert [each["name"] for each in truth["categories"]] == ["dog", "person"]
    person = truth["categories"][1]["id"]
    boxes = [row["bbox"] for row in truth["annotations"] if row["category_id"] == person]
    assert boxes == [[0, 0, 24, 40]] * 2


def test_people_of_the_list_of_pairs_are_tested_and_no_others(prepared):
    runs, _ = prepared
    with (runs / "verify/lfw-triplet/prepare/split.csv").open(encoding="utf-8") as file:
        tested = {row["label"] for row in csv.DictReader(file) if row["split"] == "test"}
    assert tested == {"Aaron_Eckhart", "Zach_Pillar"}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_few_steps_are_trained_on_the_published_layout(prepared, recipe, capsys):
    runs, settings = prepared
    assert cnn("run", recipe, "--dry-run", "--json", *settings[recipe], "--runs", runs) == 0
    assert json.loads(capsys.readouterr().out)["images_per_second"] > 0
