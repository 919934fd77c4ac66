"""A segmenter that was trained at one spacing sees a scan at that one, and answers on the scan's own voxels."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cnn_keras.data.files import nifti
from pipelines.inference import mask_files, predict
from pipelines.inference.prediction import DEFAULT
from pipelines.inference.segmentation import SPACING, VolumeSegmenter
from tests.dicom_series import write_series

nibabel = pytest.importorskip("nibabel")

TURNED = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, 3], [0, 0, -1.5, 40], [0, 0, 0, 1]])


class Bright:
    """An exported segmenter that calls what is bright 1, and keeps the sizes of what it was sent."""

    structured_input_signature = ((), {"volume": tf.TensorSpec((None, None, None, None, 1), tf.float32)})

    def __init__(self):
        self.sizes = []

    def __call__(self, volume):
        self.sizes.append(tuple(volume.shape[1:4]))
        share = tf.zeros((1, 2))
        answer = {"mask": tf.cast(volume[..., 0] > 10, tf.uint8), "shares": share, "confidence": share}
        return answer | {"classes": tf.constant([["ground", "thing"]])}


@pytest.mark.parametrize(
    ("spacing", "size"), [(None, (18, 20, 22)), ([1, 1, 1], (36, 20, 33)), ([4, 2, 3], (9, 10, 11))]
)
def test_a_mask_lies_on_the_scan_whatever_spacing_the_model_sees(tmp_path, spacing, size):
    values = np.zeros((20, 18, 22), np.float32)
    values[4:14, 4:14, 6:16] = 20
    nibabel.Nifti1Image(values, TURNED).to_filename(tmp_path / "scan.nii.gz")
    if spacing:
        (tmp_path / SPACING).parent.mkdir()
        (tmp_path / SPACING).write_text(json.dumps({"spacing": spacing}))
    model = Bright()
    (answer,) = VolumeSegmenter(SimpleNamespace(signatures={DEFAULT: model}), tmp_path).predict(
        [tmp_path / "scan.nii.gz"], None
    )
    upright = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, TURNED)).get_fdata() > 10
    assert model.sizes == [size]
    assert answer.segments.mask.shape == upright.shape == (18, 20, 22)
    both = (answer.segments.mask == 1) & upright
    assert 2 * both.sum() / ((answer.segments.mask == 1).sum() + upright.sum()) >= (0.9 if spacing else 1)


def dice(mask, other):
    return 2 * (mask & other).sum() / (mask.sum() + other.sum())


@pytest.mark.slow
def test_scans_of_another_orientation_and_spacing_have_the_mask_of_the_unrotated_one(tmp_path):
    """One ellipsoid of a head's size, scanned twice: the masks agree where both are looked up at the same places."""
    (tmp_path / SPACING).parent.mkdir()
    (tmp_path / SPACING).write_text(json.dumps({"spacing": [1, 1, 1]}))
    affines = {"plain": np.diag([1.0, 1, 1, 1]), "turned": TURNED @ np.diag([0.8, 0.625, 0.6, 1])}
    affines["turned"][:3, 3] = [109, -1, 108]
    places = np.stack(np.meshgrid(*[np.arange(108)] * 3, indexing="ij"), axis=-1)
    masks = {}
    for name, affine in affines.items():
        size = np.ceil(np.abs(np.linalg.inv(affine[:3, :3]) @ [108, 108, 108])).astype(int) + 2
        voxels = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
        inside = (((nibabel.affines.apply_affine(affine, voxels) - 54) / [44, 40, 36]) ** 2).sum(-1) < 1
        nibabel.Nifti1Image(20 * inside.astype(np.float32), affine).to_filename(tmp_path / f"{name}.nii.gz")
        segmenter = VolumeSegmenter(SimpleNamespace(signatures={DEFAULT: Bright()}), tmp_path)
        answers = segmenter.predict([tmp_path / f"{name}.nii.gz"], None)
        mask_files.write(
            [(tmp_path / f"{name}.nii.gz", answers[0].segments.mask)], ["ground", "thing"], tmp_path / "to"
        )
        found = nibabel.load(tmp_path / "to" / f"{name}.nii.gz")
        np.testing.assert_allclose(found.affine, affine, atol=1e-5)
        indices = np.moveaxis(nibabel.affines.apply_affine(np.linalg.inv(found.affine), places), -1, 0)
        masks[name] = ndimage.map_coordinates(found.get_fdata(), indices, order=1) > 0.5
    assert masks["plain"].sum() > 200_000
    assert dice(masks["plain"], masks["turned"]) >= 0.99


def test_a_scan_that_is_only_turned_has_the_very_same_mask(tmp_path):
    (tmp_path / SPACING).parent.mkdir()
    (tmp_path / SPACING).write_text(json.dumps({"spacing": [1.5, 1.5, 1.5]}))
    values = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 100, (24, 20, 22)), 2).astype(np.float32)
    plain = nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 1.25, 1]))
    plain.to_filename(tmp_path / "plain.nii.gz")
    plain.as_reoriented([[1, -1], [2, 1], [0, -1]]).to_filename(tmp_path / "turned.nii.gz")
    segmenter = VolumeSegmenter(SimpleNamespace(signatures={DEFAULT: Bright()}), tmp_path)
    masks = [segmenter.predict([tmp_path / f"{name}.nii.gz"], None)[0].segments.mask for name in ("plain", "turned")]
    assert 0 < masks[0].mean() < 1
    np.testing.assert_array_equal(*masks)  # both upright


@pytest.mark.parametrize(("radius", "least", "most"), [(5.5, 0.9, 0.97), (26, 0.985, 1)])
def test_two_scans_of_a_thing_of_few_voxels_agree_as_far_as_its_voxels_do(radius, least, most):
    """What even the truth of two scans has in common: the edge of a small thing is a large part of it."""
    affines = np.diag([1.0, 1, 1, 1]), np.array([[0, 0, -1.25, 63], [0.9, 0, 0, 0], [0, -1.1, 0, 63], [0, 0, 0, 1.0]])
    sizes = (64, 64, 64), (71, 58, 51)
    truths = []
    for affine, size in zip(affines, sizes, strict=True):
        places = nibabel.affines.apply_affine(affine, np.moveaxis(np.indices(size), 0, -1))
        truths.append(((places - 31.3) ** 2).sum(axis=-1) < radius**2)
    back = nibabel.affines.apply_affine(
        np.linalg.inv(affines[1]) @ affines[0], np.moveaxis(np.indices(sizes[0]), 0, -1)
    )
    other = ndimage.map_coordinates(truths[1].astype(float), np.moveaxis(back, -1, 0), order=1) > 0.5
    assert least < dice(truths[0], other) < most


class Brighter(Bright):
    """One of two channels, that calls 1 what is brighter in the second."""

    structured_input_signature = ((), {"volume": tf.TensorSpec((None, None, None, None, 2), tf.float32)})

    def __call__(self, volume):
        return super().__call__(volume[..., 1:] - volume[..., :1])


def test_files_that_hold_a_channel_each_are_one_scan(tmp_path):
    channels = np.random.default_rng(0).normal(0, 40, (2, 20, 18, 22)).astype(np.float32)
    (tmp_path / "scans").mkdir()
    for number, values in enumerate(channels):
        nibabel.Nifti1Image(values, TURNED).to_filename(tmp_path / "scans" / f"case_{number:04d}.nii.gz")
    segmenter = VolumeSegmenter(SimpleNamespace(signatures={DEFAULT: Brighter()}), tmp_path)
    files = list(predict.files_of([tmp_path / "scans"], segmenter.input, segmenter.suffixes))
    assert len(files) == 2
    (answer,) = segmenter.predict(files, None)
    mask_files.write([(answer.path, answer.segments.mask)], ["ground", "thing"], tmp_path / "to")
    found = nibabel.load(tmp_path / "to" / "case_0000.nii.gz")
    np.testing.assert_array_equal(found.get_fdata() == 1, channels[1] - channels[0] > 10)
    (tmp_path / "scans" / "case_0001.nii.gz").unlink()
    (answer,) = segmenter.predict([tmp_path / "scans" / "case_0000.nii.gz"], None)
    assert answer.problem == "it must have 2 channels, got 1"


def test_the_mask_of_a_series_is_a_nifti_file_that_lies_on_it(tmp_path):
    pytest.importorskip("pydicom", reason="needs the package pydicom (make samples)")
    series = write_series(tmp_path / "scans" / "head")
    segmenter = VolumeSegmenter(SimpleNamespace(signatures={DEFAULT: Bright()}), tmp_path)
    files = list(predict.files_of([tmp_path / "scans"], segmenter.input, segmenter.suffixes))
    assert files == list(predict.files_of([series], segmenter.input, segmenter.suffixes)) == [series]
    (answer,) = segmenter.predict(files, None)
    mask_files.write([(series, answer.segments.mask)], ["ground", "thing"], tmp_path / "to")
    found, scan = nibabel.load(tmp_path / "to" / "head.nii.gz"), nifti.open_volume(series)
    np.testing.assert_allclose(found.affine, scan.affine, atol=1e-6)
    np.testing.assert_array_equal(found.get_fdata() == 1, np.asarray(scan.dataobj) > 10)
    answer.draw(tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 0
