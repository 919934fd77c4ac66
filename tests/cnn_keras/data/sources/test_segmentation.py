"""Readers of masks: every layout and format in which people have them, and what is wrong with a file is said."""

import importlib.util
import io
import json
import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from cnn_keras.data import run_length
from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.data.formats.masks import mask_folders
from cnn_keras.data.label_map import UNKNOWN
from cnn_keras.data.sources import detection, segmentation
from cnn_keras.errors import Fault, Unreadable

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
    found = segmentation.load("folder", path=tmp_path)
    assert masks_of(found) == {id_: NUMBERS.tolist()}
    assert found.items[0].split == ("train" if "train" in id_ else None)


def test_lists_and_names_are_read(tmp_path):
    for name in "abc":
        picture(tmp_path / f"images/{name}.png")
        write(tmp_path / f"labels/{name}_L.png", NUMBERS)
    (tmp_path / "codes.txt").write_text("sky\ntree\nroad\n")
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "valid.txt").write_text("/elsewhere/images/b.png /elsewhere/labels/b_L.png\n")
    found = segmentation.load("folder", path=tmp_path, group="([ab])|c" and r"(\w)\.png")
    assert found.names == {0: "sky", 1: "tree", 2: "road"}
    assert [(item.split, item.group) for item in found.items] == [("train", "a"), ("validation", "b"), (None, "c")]


def test_indexed_grey_and_plain_masks_hold_the_same_numbers(tmp_path):
    write(tmp_path / "grey.png", NUMBERS)
    write(tmp_path / "indexed.png", NUMBERS, palette=[200, 0, 0, 0, 200, 0, 0, 0, 200] + 253 * [9, 9, 9])
    write(tmp_path / "three.png", np.repeat(NUMBERS[..., None], 3, axis=-1))
    write(tmp_path / "deep.png", NUMBERS.astype(np.uint16) * 100)
    write(tmp_path / "binary.png", NUMBERS > 1)
    for name in ("grey", "indexed", "three"):
        np.testing.assert_array_equal(mask_folders.read_numbers(tmp_path / f"{name}.png"), NUMBERS)
    np.testing.assert_array_equal(mask_folders.read_numbers(tmp_path / "deep.png"), NUMBERS.astype(int) * 100)
    np.testing.assert_array_equal(mask_folders.read_numbers(tmp_path / "binary.png"), NUMBERS > 1)


def test_what_is_no_mask_says_why(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    write(tmp_path / "lossy.jpg", NUMBERS)
    Image.fromarray(np.full((3, 4), 0.5, np.float32)).save(tmp_path / "half.tif")
    write(tmp_path / "grey.png", NUMBERS)
    for name, told in (
        ("text.png", "not an image"),
        ("lossy.jpg", "JPEG changes the numbers of pixels; save masks as PNG"),
        ("half.tif", "must be whole"),
    ):
        with pytest.raises(Unreadable, match=told):
            mask_folders.read_numbers(tmp_path / name)
    with pytest.raises(Unreadable, match=r"the mask is 3×4, the picture 4×3") as fault:
        mask_folders.read_mask(frozenset(), [tmp_path / "grey.png"], tmp_path / "grey.png", None, (4, 3))
    assert fault.value.kind == "mask of another size"


def test_a_picture_without_a_mask_and_a_mask_without_a_picture_are_told(tmp_path):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "images/b.png")
    write(tmp_path / "masks/b.png", NUMBERS)
    write(tmp_path / "masks/c.png", NUMBERS)
    first, second, third = segmentation.load("folder", path=tmp_path).items
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
    found = segmentation.load("voc", path=tmp_path)
    assert (found.names[0], found.names[15], 255 in found.ignored) == ("background", "person", True)
    assert [(item.id, item.split) for item in found.items] == [("JPEGImages/2007_000033.jpg", "validation")]
    assert found.items[0].mask((3, 4)).instances.tolist() == (NUMBERS // 2).tolist()


def test_a_folder_without_masks_is_a_fault(tmp_path):
    picture(tmp_path / "images/a.png")
    with pytest.raises(Fault, match="a folder of pictures beside one of masks"):
        segmentation.load("folder", path=tmp_path)
    with pytest.raises(Fault, match="must be a folder"):
        segmentation.load("folder", path=tmp_path / "images/a.png")
    with pytest.raises(Fault, match=r"data\.source must be one of folder, voc"):
        segmentation.load("cvat")


def runs(mask):
    return run_length.encode(np.asarray(mask, bool))


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
        Object((5, 5, 9, 9), "cat", mask=run_length.parse([[1.0, 2.0, 3.0]])),
    )
    found = segmentation.rasterize(Annotations([Item("a.png", bytes, objects)], ("dog", "cat", "cow")), ("cat", "dog"))
    (item,) = found.items
    assert found.names == {0: "background", 1: "cat", 2: "dog"}
    assert sorted(item.troubles) == [
        ("box without a mask", "cat"), ("crowd", "dog: nobody knows what is where it is"), ("malformed mask", "cat"),
        ("unknown class", "cow"),
    ]  # fmt: skip
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
    (painted,) = segmentation.rasterize(Annotations([item])).items
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
    found = segmentation.load("coco", path=tmp_path / "things.json")
    for item in found.items:
        np.testing.assert_array_equal(item.mask((6, 8)).values, inside)


def test_a_mask_goes_through_cocos_run_lengths_and_back():
    from pycocotools import mask as coco

    inside = np.random.default_rng(0).random((17, 23)) < 0.4
    ours = run_length.encode(inside)
    theirs = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
    assert coco.frPyObjects(ours, *ours["size"])["counts"] == theirs["counts"]
    np.testing.assert_array_equal(run_length.decode({"size": ours["size"], "counts": theirs["counts"]}), inside)
    np.testing.assert_array_equal(run_length.rasterize(ours, (17, 23)), inside)


def test_labelmes_polygons_are_painted(tmp_path):
    picture(tmp_path / "a.png", size=(6, 8))
    points = [[2, 1], [6, 1], [6, 4], [2, 4]]
    void = [[0, 4], [8, 4], [8, 6], [0, 6]]
    shapes = [{"label": "cat", "points": points}, {"label": "__ignore__", "points": void, "shape_type": "polygon"}]
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    found = segmentation.load("labelme", path=tmp_path)
    assert found.names == {0: "background", 1: "cat"}
    mask = found.items[0].mask((6, 8))
    assert (mask.values == 1).sum() == mask.instances.sum() == 12
    assert (mask.values == UNKNOWN).sum() == 16


def test_composites_are_painted_as_they_were_laid():
    found = segmentation.load("composites", count=10, side=48)
    scenes = detection.load("composites", count=10, side=48)
    for item, scene in zip(found.items, scenes.items, strict=True):
        values = item.mask((48, 48)).values
        for one in scene.objects:
            assert set(values[run_length.decode(one.mask)]) == {1 + int(one.name)}
        assert item.split == scene.split


@pytest.mark.skipif(not importlib.util.find_spec("stardist"), reason="`make samples` installs stardist")
def test_the_nuclei_are_all_there_and_the_parts_share_no_pixel():
    found = segmentation.load("nuclei")
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
    found = segmentation.load("mni152")
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
    found = segmentation.load("mni152", axes=3)
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
    found = segmentation.load("folder", axes=3, path=tmp_path)
    (item,) = found.items
    seen, notes = item.read()
    assert found.names == {0: "background", 1: "core", 2: "rim"}
    assert seen.shape == (2, 3, 4, 2)
    assert notes == [*(["turned upright"] if turned else []), ("voxel size", "1×1×1 mm")]
    np.testing.assert_array_equal(seen[..., 0], values[::-1] if turned else values)
    np.testing.assert_array_equal(item.mask((2, 3, 4)).values, seen[..., 0] % 3)
    with pytest.raises(Unreadable, match="the mask is 2×3×4, the picture 2×3×5"):
        item.mask((2, 3, 5))


COLOURS = np.array([[64, 0, 128], [128, 64, 128], [0, 0, 0]], np.uint8)


def test_masks_in_colours_are_read_by_their_table_also_when_they_are_indexed(tmp_path):
    shown = np.array([[0, 1], [2, 1]])
    picture(tmp_path / "images/a.png", size=(2, 2))
    picture(tmp_path / "images/b.png", size=(2, 2))
    write(tmp_path / "masks/a.png", COLOURS[shown])
    indexed = Image.fromarray((2 - shown).astype(np.uint8))  # as a program that shrinks files leaves it
    indexed.putpalette(COLOURS[::-1].ravel().tolist())
    indexed.save(tmp_path / "masks/b.png")
    (tmp_path / "labelmap.txt").write_text("car:64,0,128::\nroad:128,64,128::\nvoid:0,0,0::\n")
    found = segmentation.load("folder", path=tmp_path)
    for item in found.items:
        values = item.mask((2, 2)).values
        assert [[found.names.get(number) for number in row] for row in values.tolist()] == [
            ["car", "road"],
            [None, "road"],
        ]
        assert values[1, 0] in found.ignored


def test_colours_without_a_table_are_classes_of_their_own_and_camvids_are_known(tmp_path):
    picture(tmp_path / "images/a.png", size=(1, 2))
    write(tmp_path / "labels/a_L.png", COLOURS[[[0, 1]]])
    found = segmentation.load("folder", path=tmp_path)
    values = found.items[0].mask((1, 2)).values.tolist()
    assert [found.names[number] for number in values[0]] == ["Car", "Road"]
    assert found.assumed
    (tmp_path / "labels/a_L.png").rename(tmp_path / "labels/a.png")
    found = segmentation.load("folder", path=tmp_path)
    assert (found.names, found.items[0].mask((1, 2)).values.tolist()) == ({}, values)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("train/a.jpg", "train_masks/a_mask.gif"),
        ("train/a.jpg", "train/a_mask.png"),
        ("Imgs/a.JPG", "Masks/a_Mask.PNG"),
        ("img/a.jpg", "masks_machine/a.jpg.png"),
        ("images_train/a.jpg", "masks_train/a.png"),
        ("train/images/a.jpg", "train/masks/a.bmp"),
        ("images/train/a.jpg", "annotations/train/a_labelIds.png"),
        ("imagesTr/a_0000.png", "labelsTr/a.png"),
    ],
)
def test_more_layouts_that_are_about(tmp_path, image, mask):
    picture(tmp_path / image)
    write(tmp_path / mask, NUMBERS)
    (tmp_path / "images" / ".ipynb_checkpoints").mkdir(parents=True)
    picture(tmp_path / "images" / ".ipynb_checkpoints" / "a-checkpoint.jpg")
    assert masks_of(segmentation.load("folder", path=tmp_path)) == {image: NUMBERS.tolist()}


def test_cityscapes_files_find_each_other_and_their_labels_are_known(tmp_path):
    city, truth = tmp_path / "leftImg8bit/val/bonn", tmp_path / "gtFine/val/bonn"
    picture(city / "bonn_0_leftImg8bit.png", size=(1, 2))
    write(truth / "bonn_0_gtFine_labelIds.png", np.array([[7, 26]], np.uint8))
    write(truth / "bonn_0_gtFine_instanceIds.png", np.array([[7, 26001]], np.uint16))
    write(truth / "bonn_0_gtFine_color.png", COLOURS[[[0, 1]]])
    (item,), names, ignored, *_ = segmentation.load("folder", path=tmp_path)
    mask = item.mask((1, 2))
    assert ([names[number] for number in mask.values[0]], item.split) == (["road", "car"], "validation")
    assert mask.instances.tolist() == [[7, 26001]]
    assert 3 in ignored
    write(truth / "bonn_0_gtFine_labelTrainIds.png", np.array([[0, 13]], np.uint8))
    (item,), names, ignored, *_ = segmentation.load("folder", path=tmp_path)
    assert [names[number] for number in item.mask((1, 2)).values[0]] == ["road", "car"]
    assert ignored == (255,)


@pytest.mark.parametrize("folder", ["ImageSets", "splits", "lists"])
def test_lists_may_lie_in_a_folder_of_their_own(tmp_path, folder):
    for name in "ab":
        picture(tmp_path / f"images/{name}.jpg")
        write(tmp_path / f"masks/{name}.png", NUMBERS)
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "train.txt").write_text("a\n")
    (tmp_path / folder / "val.txt").write_text("b\n")
    assert [item.split for item in segmentation.load("folder", path=tmp_path).items] == ["train", "validation"]


def test_lists_with_dots_leave_out_what_they_do_not_name_and_tell_what_is_not_there(tmp_path):
    for name in ("frame.0", "frame.1", "frame.2"):
        picture(tmp_path / f"images/{name}.jpg")
        write(tmp_path / f"masks/{name}.png", NUMBERS)
    (tmp_path / "train.txt").write_text("frame.0\nframe.7\n")
    (tmp_path / "test.txt").write_text("frame.1\n")
    items = {item.id: item for item in segmentation.load("folder", path=tmp_path).items}
    assert [items[f"images/frame.{number}.jpg"].split for number in range(2)] == ["train", "test"]
    for name, kind in (("images/frame.2.jpg", "not listed"), ("train.txt: frame.7", "missing image")):
        with pytest.raises(Unreadable) as refused:
            items[name].read()
        assert refused.value.kind == kind


def test_a_picture_with_two_masks_is_told_and_special_files_are_not_opened(tmp_path):
    picture(tmp_path / "images/a.png")
    write(tmp_path / "masks/a_mask.png", NUMBERS)
    write(tmp_path / "masks/a_label.png", NUMBERS)
    picture(tmp_path / "images/b.png")
    os.mkfifo(tmp_path / "masks/b.png")
    first, second = segmentation.load("folder", path=tmp_path).items
    with pytest.raises(Unreadable, match="several files are its mask"):
        first.mask((3, 4))
    with pytest.raises(OSError, match="named pipe"):
        second.mask((3, 4))


def test_numbers_of_every_lossless_mode_are_the_same(tmp_path):
    grey = Image.fromarray(NUMBERS)
    for name, image in {
        "a.png": grey.convert("LA"),
        "b.png": grey.convert("RGBA"),
        "c.tif": Image.fromarray(NUMBERS.astype(np.float32) + 5e-4),
        "d.tif": Image.fromarray(NUMBERS.astype(np.int32)),
        "e.gif": grey,
        "f.bmp": grey,
    }.items():
        image.save(tmp_path / name)
        np.testing.assert_array_equal(mask_folders.read_numbers(tmp_path / name), NUMBERS)


def nifti(path, values, affine=None, codes=(1, 1)):
    nibabel = pytest.importorskip("nibabel", reason="needs the package nibabel (make samples)")
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.set_qform(image.affine, codes[0])
    image.set_sform(image.affine, codes[1])
    image.to_filename(path)


LEFT = np.array([[-1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
HALVES = np.zeros((2, 3, 4), np.uint8)
HALVES[0] = 1  # of the first axis: the left one where it points right


def whole_mask(tmp_path, headers=None):
    """The mask of the one volume, and what it notes."""
    (item,) = segmentation.load("folder", axes=3, path=tmp_path, headers=headers).items
    mask = item.mask((2, 3, 4))
    return mask.values[:, 0, 0].tolist(), [kind for kind, _ in mask.notes]


def test_a_mask_whose_header_places_it_elsewhere_is_never_mirrored_in_silence(tmp_path):
    nifti(tmp_path / "images/a.nii.gz", HALVES.astype(np.float32), LEFT)
    nifti(tmp_path / "masks/a.nii.gz", HALVES)
    with pytest.raises(
        Unreadable, match=r"point to RAS, the volume's to LAS; data\.headers: picture .* trust"
    ) as refused:
        whole_mask(tmp_path)
    assert refused.value.kind == "mask on another grid"
    assert whole_mask(tmp_path, "picture") == ([0, 1], [])
    assert whole_mask(tmp_path, "trust") == ([1, 0], [])
    nifti(tmp_path / "masks/a.nii.gz", HALVES, LEFT)
    assert whole_mask(tmp_path) == ([0, 1], [])


@pytest.mark.parametrize(("affine", "expected"), [(None, [1, 0]), (LEFT, [0, 1])])
def test_a_mask_without_an_orientation_lies_as_its_volume_does(tmp_path, affine, expected):
    nifti(tmp_path / "images/a.nii.gz", HALVES.astype(np.float32), affine)
    nifti(tmp_path / "masks/a.nii.gz", HALVES, codes=(0, 0))
    assert whole_mask(tmp_path) == (expected, ["mask without an orientation"])


@pytest.mark.parametrize(
    ("affine", "said"),
    [
        (np.diag([1.0, 1, 5, 1]), "voxels of 1×1×5 and 1×1×1 mm"),
        (np.array([[1.0, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "its corners are up to 0.5 mm"),
    ],
)
def test_other_spacings_and_places_are_told_and_rounding_is_not(tmp_path, affine, said):
    nifti(tmp_path / "images/a.nii.gz", HALVES.astype(np.float32))
    nifti(tmp_path / "masks/a.nii.gz", HALVES, affine)
    with pytest.raises(Unreadable, match=said):
        whole_mask(tmp_path)
    nifti(tmp_path / "masks/a.nii.gz", HALVES, np.eye(4) + 1e-4)
    assert whole_mask(tmp_path)[0] == [1, 0]


def test_channels_of_a_volume_must_lie_on_one_grid(tmp_path):
    nifti(tmp_path / "imagesTr/a_0000.nii.gz", HALVES.astype(np.float32))
    nifti(tmp_path / "imagesTr/a_0001.nii.gz", HALVES.astype(np.float32), LEFT)
    nifti(tmp_path / "labelsTr/a.nii.gz", HALVES)
    (item,) = segmentation.load("folder", axes=3, path=tmp_path).items
    with pytest.raises(Unreadable, match=r"one grid.*a_0001\.nii\.gz"):
        item.read()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (HALVES * np.float32(0.9996), []),
        (HALVES * np.float32(2 * 0.9882), []),  # of one label: no factor can be told
        (np.where(np.arange(24).reshape(2, 3, 4) < 12, np.float32(0.9882), np.float32(1.9764)), ["labels scaled"]),
    ],
)
def test_labels_a_slope_away_from_whole_numbers_are_rounded(tmp_path, stored, expected):
    nifti(tmp_path / "images/a.nii.gz", HALVES.astype(np.float32))
    nifti(tmp_path / "masks/a.nii.gz", stored)
    if stored.max() > 1.9 and not expected:
        with pytest.raises(Unreadable, match="must be whole"):
            whole_mask(tmp_path)
        return
    values, notes = whole_mask(tmp_path)
    assert (values, notes) == ([1, 2] if expected else [1, 0], expected)


def test_volumes_with_numbers_at_the_end_of_their_names_are_not_taken_for_channels(tmp_path):
    for number in range(2):
        nifti(tmp_path / f"images/sub_000{number}.nii.gz", HALVES.astype(np.float32))
        nifti(tmp_path / f"masks/sub_000{number}.nii.gz", HALVES)
    found = segmentation.load("folder", axes=3, path=tmp_path)
    assert [item.read()[0].shape for item in found.items] == [(2, 3, 4, 1)] * 2


def test_masks_in_a_folder_of_their_own_are_found_by_their_names(tmp_path):
    picture(tmp_path / "images/a.jpg")
    write(tmp_path / "annotations/trimaps/a.png", NUMBERS)
    assert masks_of(segmentation.load("folder", path=tmp_path)) == {"images/a.jpg": NUMBERS.tolist()}


def test_volumes_of_another_format_are_named(tmp_path):
    nifti(tmp_path / "images/a.nii.gz", HALVES.astype(np.float32))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/a.seg.nrrd").write_bytes(b"NRRD0004")
    with pytest.raises(Fault, match=r"ending in \.dcm, \.nii, \.nii\.gz, got 1 \.nii\.gz, 1 \.seg\.nrrd in"):
        segmentation.load("folder", axes=3, path=tmp_path)


def test_a_mask_stored_along_other_axes_is_turned_where_its_header_is_trusted(tmp_path):
    axes = np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # the last one points right
    nifti(tmp_path / "images/a.nii.gz", HALVES.astype(np.float32))
    nifti(tmp_path / "masks/a.nii.gz", HALVES.transpose(1, 2, 0), axes)
    with pytest.raises(Unreadable, match=r"sizes 3×4×2 and 2×3×4; data\.headers"):
        whole_mask(tmp_path)
    with pytest.raises(Unreadable, match=r"the mask is 3×4×2, the picture 2×3×4"):
        whole_mask(tmp_path, "picture")
    assert whole_mask(tmp_path, "trust") == ([1, 0], [])


def test_voxels_of_a_mask_that_are_no_number_are_told(tmp_path):
    nifti(tmp_path / "images/a.nii.gz", HALVES.astype(np.float32))
    nifti(tmp_path / "masks/a.nii.gz", np.where(HALVES, np.float32(1), np.float32(np.nan)))
    assert whole_mask(tmp_path) == ([1, 0], ["mask not finite in places, set to 0"])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_of_a_rotated_photograph_is_turned_as_the_photograph_is(tmp_path, orientation):
    stored = np.zeros((20, 40), np.uint8)
    stored[2:8, 3:9] = 1
    upright = np.asarray(turned(Image.fromarray(stored), orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "images/a.jpg", exif=exif)
    for as_stored in (True, False):
        write(tmp_path / "masks/a.png", stored if as_stored else upright)
        mask = segmentation.load("folder", path=tmp_path).items[0].mask(upright.shape)
        kinds = [kind for kind, _ in mask.notes]
        if orientation < 5:  # a mask of either has the same size: what it is cannot be known, and is told
            assert kinds == ["mask of a rotated image, taken as upright"] * (orientation > 1)
        else:
            np.testing.assert_array_equal(mask.values, upright)
            assert kinds == ["mask of the unrotated image, turned"] * as_stored


def turned(image, orientation):
    """An image as a viewer shows it that honours the orientation."""
    image.getexif()[0x0112] = orientation
    return ImageOps.exif_transpose(image)
