"""Volumes at another spacing: the same thing in space is the same mask, whatever grid it was scanned on."""

import itertools

import numpy as np
import pytest

from cnn_keras.data import resampling
from cnn_keras.data.sources import segmentation

nibabel = pytest.importorskip("nibabel")

SIDES = np.array([96.0, 120.0, 96.0])  # millimetres of the field of view: right, anterior, superior


def centres(spacing):
    counts = np.round(SIDES / spacing).astype(int)
    axes = [(np.arange(count) + 0.5) * side for count, side in zip(counts, spacing, strict=True)]
    return np.meshgrid(*axes, indexing="ij")


def phantom(spacing):
    """Two ellipsoids, one in the other and off the middle, and a smooth light: labels and values of a scan."""
    x, y, z = centres(np.asarray(spacing, float))
    outer = ((x - 46) / 43) ** 2 + ((y - 62) / 54) ** 2 + ((z - 50) / 44) ** 2 < 1
    inner = ((x - 50) / 33) ** 2 + ((y - 58) / 36) ** 2 + ((z - 48) / 30) ** 2 < 1
    return np.where(inner, 2, outer.astype(np.int16)), 100 + x + 2 * y - z


def scan(folder, name, spacing, codes):
    """Write the phantom as a scanner would that turns its axes to `codes`."""
    labels, values = phantom(spacing)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.asarray(spacing) / 2 - SIDES / 2
    for kind, data in (("images", values.astype(np.float32)), ("masks", labels.astype(np.int16))):
        image = nibabel.Nifti1Image(data, affine)
        turn = nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
        )
        (folder / kind).mkdir(exist_ok=True)
        nibabel.save(image.as_reoriented(turn), folder / kind / f"{name}.nii.gz")


def dice(first, second, number):
    first, second = first == number, second == number
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_scans_of_other_spacing_and_orientation_become_one_grid_with_one_mask(tmp_path):
    scan(tmp_path, "a", (1, 1, 1), "RAS")
    scan(tmp_path, "b", (1, 1, 1.5), "LPS")
    scan(tmp_path, "c", (0.75, 1, 1.5), "SAL")
    wanted = (1.5, 1.25, 1.0)
    found = segmentation.load("folder", axes=3, path=tmp_path, spacing=wanted)
    expected, light = phantom(wanted)
    masks = [expected]
    for item in found.items:
        volume, _ = item.read()
        masks.append(item.mask(volume.shape[:3]).values)
        assert volume.shape == (*expected.shape, 1)
        inside = (slice(2, -2),) * 3  # at the edges nothing is known of what lies outside
        np.testing.assert_allclose(volume[inside][..., 0], light[inside], atol=0.02)
    for first, second in itertools.combinations(masks, 2):
        assert dice(first > 0, second > 0, True) >= 0.99
        assert dice(first, second, 2) >= 0.99


def test_the_same_spacing_changes_nothing():
    values = np.random.default_rng(0).normal(size=(5, 6, 7, 2)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 4, (5, 6, 7))
    np.testing.assert_array_equal(resampling.resample(values, (1, 2, 3), (1, 2, 3)), values)
    np.testing.assert_array_equal(resampling.resample_labels(labels, (1, 2, 3), (1, 2, 3)), labels)


def test_there_and_back_a_mask_is_nearly_what_it_was():
    labels, _ = phantom((1, 1, 2))
    there = resampling.resample_labels(labels, (1, 1, 2), (1, 1, 1))
    back = resampling.resample_labels(there, (1, 1, 1), (1, 1, 2), labels.shape)
    assert back.shape == labels.shape
    assert back.dtype == labels.dtype
    assert min(dice(back, labels, number) for number in (0, 1, 2)) >= 0.99


def test_a_coarser_grid_holds_means_and_many_numbers_take_the_nearest():
    checked = np.indices((32, 4, 4)).sum(axis=0)[..., None] % 2 * 100.0
    coarse = resampling.resample(checked, (1, 1, 1), (4, 4, 4))
    assert coarse.shape == (8, 1, 1, 1)
    np.testing.assert_allclose(coarse, 50, atol=10)  # a sample of a single voxel would be 0 or 100
    many = np.arange(1000).reshape(10, 10, 10)
    np.testing.assert_array_equal(resampling.resample_labels(many, (1, 1, 1), (1, 1, 1)), many)
