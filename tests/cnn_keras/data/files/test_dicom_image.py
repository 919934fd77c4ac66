"""Single DICOM images against the standard's formulas, and what cannot be shown."""

import io

import numpy as np
import pytest
from PIL import Image

from cnn_keras.data.files import dicom, image_file
from cnn_keras.data.sources import classification
from cnn_keras.errors import Unreadable
from tests.dicom_series import stored_values, write_series

Dataset = pytest.importorskip("pydicom", reason="needs the package pydicom (make samples)").Dataset

LIMIT = 10**6
STORED = stored_values(rows=12, columns=10, slices=1)
VALUES = STORED[..., 0] * 2.0 - 1000  # `write_series` has this slope and intercept


def file_of(tmp_path, **elements):
    """The bytes of a grey image of 12 rows and 10 columns, some of its elements others."""

    def change(number, image):
        for name, value in elements.items():
            setattr(image, name, value)

    folder = write_series(tmp_path / "series", STORED, change=change)
    return next(folder.iterdir()).read_bytes()


def windowed(values, center, width):
    """Grey levels from 0 to 255 by the standard's linear function: PS3.3, C.11.2.1.2.1."""
    share = (values - (center - 0.5)) / (width - 1) + 0.5
    return np.round(255 * np.clip(share, 0, 1))


def test_an_image_is_shown_in_its_first_window(tmp_path):
    data = file_of(tmp_path, WindowCenter=["-900", "40"], WindowWidth=["1500", "80"])
    levels, notes = dicom.read_image(data, pixel_limit=LIMIT)
    assert (levels.dtype, levels.shape, notes) == (np.uint8, (12, 10, 1), ["dicom"])
    np.testing.assert_array_equal(levels[..., 0], windowed(VALUES, -900, 1500))
    assert (levels == 0).any()
    assert (levels == 255).any()


def test_a_table_of_levels_comes_before_a_window(tmp_path):
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [4, -1, 8])  # of the values −1, 0, 1 and 2; beyond, its ends
    table.add_new("LUTData", "US", [0, 50, 200, 255])
    data = file_of(tmp_path, VOILUTSequence=[table], WindowCenter="0", WindowWidth="80")
    levels = dicom.read_image(data, pixel_limit=LIMIT)[0][..., 0]
    places = np.clip(VALUES + 1, 0, 3).astype(int)
    np.testing.assert_array_equal(levels, np.array([0, 50, 200, 255])[places])


def test_without_a_window_the_smallest_value_is_black(tmp_path):
    levels, _ = dicom.read_image(file_of(tmp_path), pixel_limit=LIMIT)
    expected = np.round(255 * (VALUES - VALUES.min()) / np.ptp(VALUES))
    np.testing.assert_array_equal(levels[..., 0], expected)


def test_where_the_smallest_value_is_white_the_levels_are_inverted(tmp_path):
    plain, inverted = (
        dicom.read_image(file_of(tmp_path / kind, PhotometricInterpretation=kind), pixel_limit=LIMIT)[0].astype(int)
        for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    assert np.abs(plain + inverted - 255).max() <= 1


def test_colours_are_left_as_they_are(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    elements = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB", "PixelData": b""}
    elements |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    data = file_of(tmp_path, **{**elements, "PixelData": colours.tobytes()})
    np.testing.assert_array_equal(dicom.read_image(data, pixel_limit=LIMIT)[0], colours)


def test_of_several_frames_the_first_is_shown(tmp_path):
    second = np.zeros_like(STORED)
    data = file_of(tmp_path, NumberOfFrames=2, PixelData=STORED.tobytes() + second.tobytes())
    levels, notes = dicom.read_image(data, pixel_limit=LIMIT)
    assert notes == ["dicom", "animated"]
    assert np.ptp(levels) == 255


def test_what_cannot_be_shown_is_unreadable(tmp_path):
    data = file_of(tmp_path)
    with pytest.raises(Unreadable, match="10x12 pixels are more than the limit of 100"):
        dicom.read_image(data, pixel_limit=100)
    with pytest.raises(Unreadable):
        dicom.read_image(data[:-5], pixel_limit=LIMIT)
    with pytest.raises(Unreadable, match="DICOM is not one of JPEG"):
        image_file.normalize(data, tiff=False)  # as servers do
    generator = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(data)
        for place in generator.integers(132, len(data) - VALUES.size * 2, 3):
            broken[place] = generator.integers(0, 256)
        try:
            dicom.read_image(bytes(broken), pixel_limit=LIMIT)
        except Unreadable:
            continue


def test_a_folder_of_classes_may_hold_dicom_files(tmp_path):
    (tmp_path / "scans" / "well").mkdir(parents=True)
    (tmp_path / "scans" / "well" / "a.dcm").write_bytes(file_of(tmp_path))
    (item,) = classification.folder(tmp_path / "scans")
    assert (item.id, item.label) == ("well/a.dcm", "well")
    plain, notes = image_file.normalize(item.read())
    assert notes == ["dicom"]
    with Image.open(io.BytesIO(plain)) as picture:
        assert (picture.format, picture.size) == ("PNG", (10, 12))
