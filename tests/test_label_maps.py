"""Readers of masks: every layout and format in which people have them, and what is wrong with a file is said."""

import importlib.util
import io
import json

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data import annotations, label_maps, mask_folders, masks
from cnn_keras.data.annotations import Annotated, Item, Object
from cnn_keras.data.encoded import Unreadable
from cnn_keras.data.label_maps import UNKNOWN
from cnn_keras.fault import Fault

NUMBERS = np.array([[0, 0, 1, 1], [0, 2, 1, 255], [2, 2, 0, 0]], np.uint8)


def write(path, values, *, palette=None, size=None):
    """A mask, or a picture of the size that goes with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values if size is None else np.zeros((*size, 3), np.uint8))
    if palette:
        image.putpalette(palette)
        image = image.convert("P") if image.mode != "P" else image
    image.save(path)


def picture(path, size=(3, 4)):
    write(path, None, size=size)


def masks_of(found):
    return {item.id: item.mask((3, 4)).values.tolist() for item in found.items}


@pytest.mark.parametrize(
    ("image", "mask", "id_"),
    [
        ("images/a.jpg", "masks/a.png", "images/a.jpg"),
        ("images/train/a.png", "labels/train/a_P.png", "images/train/a.png"),
        ("train/images/a.png", "train/masks/a_mask.png", "train/images/a.png"),
        ("train/a.png", "trainannot/a.png", "train/a.png"),
        ("img/deep/er/a.png", "annotations/deep/er/a.png", "img/deep/er/a.png"),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png", "JPEGImages/a.jpg"),
    ],
)
def test_pictures_find_their_masks_in_the_layouts_that_are_about(tmp_path, image, mask, id_):
    picture(tmp_path / image)
    write(tmp_path / mask, NUMBERS)
    found = label_maps.labelled("folder", path=tmp_path)
    assert masks_of(found) == {id_: NUMBERS.tolist()}
    assert found.items[0].split == ("train" if "train" in id_ else None)


def test_lists_and_names_are_read(tmp_path):
    for name in "abc":
        picture(tmp_path / f"images/{name}.png")
        write(tmp_path / f"labels/{name}_L.png", NUMBERS)
    (tmp_path / "codes.txt").write_text("sky\ntree\nroad\n")
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "valid.txt").write_text("/elsewhere/images/b.png /elsewhere/labels/b_L.png\n")
    found = label_maps.labelled("folder", path=tmp_path, group="([ab])|c" and r"(\w)\.png")
    assert found.names == {0: "sky", 1: "tree", 2: "road"}
    assert [(item.split, item.group) for item in found.items] == [("train", "a"), ("validation", "b"), (None, "c")]


def test_indexed_grey_and_plain_masks_hold_the_same_numbers(tmp_path):
    write(tmp_path / "grey.png", NUMBERS)
    write(tmp_path / "indexed.png", NUMBERS, palette=[200, 0, 0, 0, 200, 0, 0, 0, 200] + 253 * [9, 9, 9])
    write(tmp_path / "three.png", np.repeat(NUMBERS[..., None], 3, axis=-1))
    write(tmp_path / "deep.png", NUMBERS.astype(np.uint16) * 100)
    write(tmp_path / "binary.png", NUMBERS > 1)
    for name in ("grey", "indexed", "three"):
        np.testing.assert_array_equal(mask_folders.numbers(tmp_path / f"{name}.png"), NUMBERS)
    np.testing.assert_array_equal(mask_folders.numbers(tmp_path / "deep.png"), NUMBERS.astype(int) * 100)
    np.testing.assert_array_equal(mask_folders.numbers(tmp_path / "binary.png"), NUMBERS > 1)


def test_what_is_no_mask_says_why(tmp_path):
    write(tmp_path / "colour.png", np.arange(36, dtype=np.uint8).reshape(3, 4, 3))
    (tmp_path / "text.png").write_text("no picture")
    write(tmp_path / "grey.png", NUMBERS)
    for name, told in (("colour.png", "must be grey or indexed"), ("text.png", "must be PNG files")):
        with pytest.raises(Unreadable, match=told):
            mask_folders.numbers(tmp_path / name)
    with pytest.raises(Unreadable, match=r"the mask is 3×4, the picture 4×3") as fault:
        mask_folders.mask(tmp_path / "grey.png", None, (4, 3))
    assert fault.value.kind == "mask of another size"


def test_a_picture_without_a_mask_and_a_mask_without_a_picture_are_told(tmp_path):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "images/b.png")
    write(tmp_path / "masks/b.png", NUMBERS)
    write(tmp_path / "masks/c.png", NUMBERS)
    first, second, third = label_maps.labelled("folder", path=tmp_path).items
    with pytest.raises(Unreadable, match="none has its name in masks/"):
        first.mask((3, 4))
    assert second.mask((3, 4)).values.tolist() == NUMBERS.tolist()
    with pytest.raises(Unreadable, match="a mask without a picture"):
        third.read()


def test_vocs_layout_brings_its_classes_its_void_and_things_told_apart(tmp_path):
    for name in ("2007_000032", "2007_000033"):
        picture(tmp_path / f"JPEGImages/{name}.jpg")
    write(tmp_path / "SegmentationClass/2007_000033.png", NUMBERS)
    write(tmp_path / "SegmentationObject/2007_000033.png", NUMBERS // 2)
    (tmp_path / "SegmentationClassPNG").mkdir()  # of no use: it is empty
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_000033\n")
    found = label_maps.labelled("voc", path=tmp_path)
    assert (found.names[0], found.names[15], found.ignored) == ("background", "person", (255,))
    assert [(item.id, item.split) for item in found.items] == [("JPEGImages/2007_000033.jpg", "validation")]
    assert found.items[0].mask((3, 4)).instances.tolist() == (NUMBERS // 2).tolist()


def test_a_folder_without_masks_is_a_fault(tmp_path):
    picture(tmp_path / "images/a.png")
    with pytest.raises(Fault, match="a folder of pictures beside one of masks"):
        label_maps.labelled("folder", path=tmp_path)
    with pytest.raises(Fault, match="must be a folder"):
        label_maps.labelled("folder", path=tmp_path / "images/a.png")
    with pytest.raises(Fault, match=r"data\.source must be one of folder, voc"):
        label_maps.labelled("cvat")


def runs(mask):
    return masks.encode(np.asarray(mask, bool))


def test_things_are_painted_the_large_first_and_what_is_not_known_is_left_open():
    square = ((1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 1.0, 9.0),)  # pixels 1 to 8
    small = np.zeros((10, 10), bool)
    small[4:6, 4:6] = True
    crowd = np.zeros((10, 10), bool)
    crowd[0] = True
    objects = (
        Object((4, 4, 6, 6), "cat", mask=runs(small)),
        Object((1, 1, 9, 9), "dog", mask=square),
        Object((0, 0, 10, 1), "dog", crowd=True, mask=runs(crowd)),
        Object((0, 8, 3, 10), "cat"),  # a box, which the dog partly covers
        Object((0, 0, 2, 2), "cow", mask=square),
        Object((5, 5, 9, 9), "cat", mask=((1.0, 2.0, 3.0),)),
    )
    found = label_maps.painted(Annotated([Item("a.png", bytes, objects)], ("dog", "cat", "cow")), ("cat", "dog"))
    (item,) = found.items
    assert found.names == {0: "background", 1: "cat", 2: "dog"}
    assert sorted(item.troubles) == [("box without a mask", "cat"), ("malformed mask", "cat"), ("unknown class", "cow")]
    mask = item.mask((10, 10))
    expected = np.zeros((10, 10), int)
    expected[8:10, 0:3] = UNKNOWN
    expected[1:9, 1:9] = 2
    expected[0] = UNKNOWN
    expected[4:6, 4:6] = 1
    np.testing.assert_array_equal(mask.values, expected)
    assert len(np.unique(mask.instances)) == 3  # ground, the dog, the small cat
    assert mask.instances[4, 4] != mask.instances[2, 2]


def test_runs_of_another_size_are_told():
    item = Item("a.png", bytes, (Object((0, 0, 2, 2), "cat", mask=runs(np.ones((3, 3)))),))
    (painted,) = label_maps.painted(Annotated([item])).items
    with pytest.raises(Unreadable, match="the mask is 3×3, the picture 4×4"):
        painted.mask((4, 4))


def test_coco_polygons_runs_and_compressed_runs_are_painted_alike(tmp_path):
    from pycocotools import mask as coco

    inside = np.zeros((6, 8), bool)
    inside[1:4, 2:6] = True
    compressed = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
    forms = [[[2, 1, 6, 1, 6, 4, 2, 4]], runs(inside), {**compressed, "counts": compressed["counts"].decode()}]
    notes = [
        {"id": row + 1, "image_id": row, "category_id": 7, "bbox": [2, 1, 4, 3], "iscrowd": 0, "segmentation": form}
        for row, form in enumerate(forms)
    ]
    for row in range(3):
        picture(tmp_path / f"{row}.png", size=(6, 8))
    document = {
        "images": [{"id": row, "file_name": f"{row}.png", "height": 6, "width": 8} for row in range(3)],
        "annotations": notes,
        "categories": [{"id": 7, "name": "cat"}],
    }
    (tmp_path / "things.json").write_text(json.dumps(document))
    found = label_maps.labelled("coco", path=tmp_path / "things.json")
    for item in found.items:
        np.testing.assert_array_equal(item.mask((6, 8)).values, inside)


def test_a_mask_goes_through_cocos_run_lengths_and_back():
    from pycocotools import mask as coco

    inside = np.random.default_rng(0).random((17, 23)) < 0.4
    ours = masks.encode(inside)
    theirs = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
    assert coco.frPyObjects(ours, *ours["size"])["counts"] == theirs["counts"]
    np.testing.assert_array_equal(masks.decode({"size": ours["size"], "counts": theirs["counts"]}), inside)
    np.testing.assert_array_equal(masks.filled(ours, (17, 23)), inside)


def test_labelmes_polygons_are_painted(tmp_path):
    picture(tmp_path / "a.png", size=(6, 8))
    points = [[2, 1], [6, 1], [6, 4], [2, 4]]
    void = [[0, 4], [8, 4], [8, 6], [0, 6]]
    shapes = [{"label": "cat", "points": points}, {"label": "__ignore__", "points": void, "shape_type": "polygon"}]
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    found = label_maps.labelled("labelme", path=tmp_path)
    assert found.names == {0: "background", 1: "cat"}
    mask = found.items[0].mask((6, 8))
    assert (mask.values == 1).sum() == mask.instances.sum() == 12
    assert (mask.values == UNKNOWN).sum() == 16


def test_composites_are_painted_as_they_were_laid():
    found = label_maps.labelled("composites", count=10, side=48)
    scenes = annotations.annotated("composites", count=10, side=48)
    for item, scene in zip(found.items, scenes.items, strict=True):
        values = item.mask((48, 48)).values
        for one in scene.objects:
            assert set(values[masks.decode(one.mask)]) == {1 + int(one.name)}
        assert item.split == scene.split


@pytest.mark.skipif(not importlib.util.find_spec("stardist"), reason="`make samples` installs stardist")
def test_the_nuclei_are_all_there_and_the_parts_share_no_pixel():
    found = label_maps.labelled("nuclei")
    sizes = {item.split: np.asarray(Image.open(io.BytesIO(item.read()))).shape for item in found.items}
    assert sizes == {"train": (512, 192), "validation": (512, 64), "test": (512, 256)}
    things = [item.mask(sizes[item.split]).instances for item in found.items]
    assert len(np.unique(np.concatenate(things, axis=1))) == 1 + 125
    assert np.mean(np.concatenate(things, axis=1) > 0) == pytest.approx(0.199, abs=1e-3)


needs_nilearn = pytest.mark.skipif(
    not importlib.util.find_spec("nilearn"), reason="`make samples` installs nilearn and nibabel"
)


@needs_nilearn
def test_slices_of_the_brain_stand_upright_and_splits_are_slabs():
    found = label_maps.labelled("mni152")
    assert found.names == {0: "other", 1: "grey", 2: "white"}
    places = {split: [int(i.id[:3]) for i in found.items if i.split == split] for split in ("train", "test")}
    assert (len(places["train"]), places["test"]) == (116, list(range(145, 174)))
    middle = next(item for item in found.items if item.id == "100.png")
    pixels = np.asarray(Image.open(io.BytesIO(middle.read())))
    assert pixels.shape == (189, 197)
    mask = middle.mask(pixels.shape).values
    assert pixels[mask == 2].mean() > pixels[mask == 1].mean() > pixels[mask == 0].mean()
    assert np.flatnonzero(mask.any(axis=1))[0] < 40  # the brain begins near the top, and ends above the neck


@needs_nilearn
def test_slabs_of_the_brain_are_volumes():
    found = label_maps.labelled("mni152", axes=3)
    assert [(item.id, item.split) for item in found.items][4] == ("slab5", "test")
    values, _ = found.items[2].read()
    assert values.shape == (197, 29, 189, 1)
    assert found.items[2].mask(values.shape[:3]).values.shape == (197, 29, 189)


@needs_nilearn
@pytest.mark.parametrize("turned", [False, True])
def test_nifti_masks_are_turned_with_their_volumes(tmp_path, turned):
    import nibabel

    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    affine = np.diag([-1.0, 1, 1, 1]) if turned else np.eye(4)
    for name, data in (("imagesTr/a_0000", values), ("imagesTr/a_0001", -values), ("labelsTr/a", values % 3)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nibabel.Nifti1Image(data.astype(np.float32), affine).to_filename(tmp_path / f"{name}.nii.gz")
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "core": 1, "rim": 2}}')
    found = label_maps.labelled("folder", axes=3, path=tmp_path)
    (item,) = found.items
    seen, notes = item.read()
    assert found.names == {0: "background", 1: "core", 2: "rim"}
    assert seen.shape == (2, 3, 4, 2)
    assert notes == (["turned upright"] if turned else [])
    np.testing.assert_array_equal(seen[..., 0], values[::-1] if turned else values)
    np.testing.assert_array_equal(item.mask((2, 3, 4)).values, seen[..., 0] % 3)
    with pytest.raises(Unreadable, match="the mask is 2×3×4, the picture 2×3×5"):
        item.mask((2, 3, 5))
