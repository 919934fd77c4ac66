"""DICOM series: where their voxels lie and what they hold, and what is refused.

The figures of SimpleITK are of version 2.5.7, which read the series that `write_series` writes; dicom2nifti 2.6.2 gave
the same affine and the same voxels.
"""

import numpy as np
import pytest

from cnn_keras.data.files import dicom, nifti
from cnn_keras.data.formats.masks import mask_volumes
from cnn_keras.errors import Fault, Unreadable
from pipelines.data.validation import Problem
from tests.dicom_series import GAP, NORMAL, ORIGIN, stored_values, write_series

pydicom = pytest.importorskip("pydicom", reason="needs the package pydicom (make samples)")
nibabel = pytest.importorskip("nibabel", reason="needs the package nibabel (make samples)")

SIMPLE_ITK = [  # its origin, direction and spacing, the first two coordinates negated: right, front, up
    [-1.19417061, 0, 0.73880052, 31],
    [-0.36940026, 0, -2.38834122, -12.5],
    [0, -0.8, 0, 77],
    [0, 0, 0, 1],
]
SIMPLE_ITK_VALUES = {(0, 0, 0): -386, (9, 0, 0): -2796, (0, 11, 0): -1708, (3, 4, 5): -104}


def test_a_series_lies_where_simpleitk_says(tmp_path):
    image = nifti.open_volume(write_series(tmp_path))
    np.testing.assert_allclose(image.affine, SIMPLE_ITK, atol=1e-6)
    assert image.shape == (10, 12, 7)
    assert {place: image.dataobj[place] for place in SIMPLE_ITK_VALUES} == SIMPLE_ITK_VALUES
    assert np.asarray(image.dataobj).mean() == pytest.approx(-1048.7690476, abs=1e-3)
    assert nifti.has_orientation(image)


def test_run_lengths_are_decoded(tmp_path):
    def compress(number, slice_):
        slice_.compress(pydicom.uid.RLELossless)

    plain, packed = (
        nifti.read(write_series(tmp_path / name, change=change))[0]
        for name, change in (("plain", None), ("packed", compress))
    )
    np.testing.assert_array_equal(packed, plain)


def test_slope_and_intercept_are_those_of_each_slice_and_unsigned_values_are_read(tmp_path):
    values = stored_values().astype(np.uint16)  # of negative ones, beyond int16

    def rescale(number, slice_):
        slice_.PixelRepresentation = 0
        slice_.RescaleSlope, slice_.RescaleIntercept = str(number + 1), str(10 * number)

    read, _ = dicom.read(write_series(tmp_path, values, change=rescale), limit=10**6)
    expected = values.astype(np.float32) * np.arange(1, 8) + 10 * np.arange(7)
    np.testing.assert_allclose(read, expected.transpose(1, 0, 2))


def leave_out(number, slice_):
    return number != 3


def repeat(number, slice_):
    if number == 4:
        slice_.ImagePositionPatient = list(ORIGIN + 3 * GAP * NORMAL)


def move(number, slice_):
    if number > 4:
        slice_.ImagePositionPatient = list(ORIGIN + (number * GAP + 1) * NORMAL)


def tilt(number, slice_):
    x, y, z = slice_.ImagePositionPatient
    slice_.ImagePositionPatient = [x, y, z + number]


def other_series(number, slice_):
    if number == 2:
        slice_.SeriesInstanceUID = "1.2.3"


def other_spacing(number, slice_):
    if number == 2:
        slice_.PixelSpacing = [1, 1]


def without_position(number, slice_):
    del slice_.ImagePositionPatient


def frames(number, slice_):
    slice_.NumberOfFrames = 2


def colours(number, slice_):
    slice_.SamplesPerPixel = 3


def film(number, slice_):
    slice_.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    slice_.PixelData = pydicom.encaps.encapsulate([bytes(100)])
    slice_["PixelData"].VR = "OB"


def cut_off(number, slice_):
    slice_.PixelData = slice_.PixelData[:100]


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (leave_out, "missing slices", "1 between 006.dcm and 005.dcm"),
        (repeat, "duplicate slices", "002.dcm"),
        (move, "uneven slices", "3.5 mm between 005.dcm and 001.dcm, and 2.5 mm"),
        (tilt, "unsupported", "gantry"),
        (other_series, "unsupported", "one series, got 2 of "),
        (other_spacing, "unsupported", "PixelSpacing must be the same"),
        (without_position, "unsupported", "ImagePositionPatient"),
        (frames, "unsupported", "several frames"),
        (colours, "unsupported", "of colours"),
        (film, "unsupported", "MPEG2"),
        (cut_off, "undecodable", "000.dcm"),
    ],
)
def test_a_series_of_no_use_says_why(tmp_path, change, kind, says):
    with pytest.raises(Unreadable, match=says) as error:
        nifti.open_volume(write_series(tmp_path, change=change))
    assert error.value.kind == kind
    assert Problem(kind, "scan").action == "dropped"


def test_a_compression_without_a_decoder_is_named(tmp_path, monkeypatch):
    def compress(number, slice_):
        slice_.compress(pydicom.uid.RLELossless)

    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda syntax: type("Decoder", (), {"is_available": False}))
    with pytest.raises(Unreadable, match=r"RLE Lossless.*python-gdcm"):
        nifti.open_volume(write_series(tmp_path, change=compress))


def test_a_series_is_told_from_other_folders_and_its_size_is_limited(tmp_path):
    write_series(tmp_path / "scan")
    (tmp_path / "scan" / "notes.txt").write_text("not a slice")
    assert dicom.is_series(tmp_path / "scan")
    assert not dicom.is_series(tmp_path)
    with pytest.raises(Unreadable, match="840") as error:
        dicom.read(tmp_path / "scan", limit=839)
    assert error.value.kind == "huge"


def test_one_slice_is_as_thick_as_it_says(tmp_path):
    def thick(number, slice_):
        slice_.SliceThickness = 4

    image = nifti.open_volume(write_series(tmp_path, stored_values(slices=1), change=thick))
    np.testing.assert_allclose(nibabel.affines.voxel_sizes(image.affine), [1.25, 0.8, 4], rtol=1e-6)


def test_without_pydicom_the_remedy_is_named(tmp_path, monkeypatch):
    write_series(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(Fault, match="package pydicom; `make samples`"):
        nifti.open_volume(tmp_path)


@pytest.mark.parametrize("spacing", [None, (GAP, GAP, GAP)])
def test_series_are_volumes_beside_their_masks(tmp_path, spacing):
    for case in ("a", "b"):
        image = nifti.open_volume(write_series(tmp_path / "volumes" / case))
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask = (np.asarray(image.dataobj) > 0).astype(np.uint8)
        nibabel.Nifti1Image(mask, image.affine).to_filename(tmp_path / "masks" / f"{case}.nii.gz")
    items = mask_volumes.read(tmp_path, spacing=spacing).items
    assert [item.id for item in items] == ["volumes/a", "volumes/b"]
    volume, notes = items[0].read()
    assert ("voxel size", "1.25×2.5×0.8 mm") in notes
    values = items[0].mask(volume.shape[:3]).values
    if spacing is None:
        np.testing.assert_array_equal(values, volume[..., 0] > 0)
