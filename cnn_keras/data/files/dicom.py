"""DICOM by the package pydicom: series, a folder of files, one for each slice of a scan; and single images.

DICOM's coordinates grow to the patient's left and back, NIfTI's to the right and front: the affine given here is
NIfTI's. Slices are sorted by where they lie along their normal, never by name or number.
"""

import io
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault, Unreadable

SUFFIX = ".dcm"
MAGIC = b"DICM"  # behind a preamble of 128 bytes
NEAR = 0.01  # of the distance between slices: how far one may be from where it should lie
SAME = 1e-3  # how far numbers that all slices share may differ
POSITIONAL = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
EXTREME = 1e12  # beyond any value of a pixel
DEFLATED = "1.2.840.10008.1.2.1.99"  # a whole file that is compressed may hold more than there is memory


def is_series(folder: Path) -> bool:
    """Whether a folder itself holds a DICOM file, whatever its name."""
    return input_file.is_folder(folder) and any(True for _ in _files(folder))


def read(folder: Path, *, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The series that a folder holds, its slopes and intercepts applied.

    Args:
        limit: how many voxels it may have.

    Returns:
        float32 (columns, rows, slices), and the affine, float64 (4, 4): from these indices to millimetres to the
        right, to the front and up.

    Raises:
        Fault: the package pydicom is missing.
        Unreadable: no series or several, a slice missing or twice there, slices that are not parallel or not alike,
            pixels of a kind or compression that cannot be read, or more voxels than `limit`.
        OSError: a file cannot be read.
    """
    pydicom = require_pydicom()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks on values that are not as the standard wants them
        slices = [(file, header) for file in _files(folder) if "Rows" in (header := _header(pydicom, file))]
        if not slices:
            raise Unreadable("unsupported", "the folder holds no DICOM image")
        _check_alike(slices)
        first = slices[0][1]
        if len(slices) * first.Rows * first.Columns > limit:
            count = len(slices) * first.Rows * first.Columns
            raise Unreadable("huge", f"a volume may have {limit:,} voxels, this series has {count:,}")
        slices, affine = _ordered(slices)
        values = np.stack([_pixels(pydicom, file, header).T for file, header in slices], axis=-1)
    return values, affine


def is_dicom(data: bytes) -> bool:
    """Whether the bytes of a file are DICOM's."""
    return data[128:132] == MAGIC


def read_image(data: bytes, *, pixel_limit: int) -> tuple[np.ndarray, list[str]]:
    """A single image as its viewer shows it: the first frame, in the window that the file names.

    Grey levels are those of the modality's values in the first window, or by the table for them (VOI LUT), or from the
    smallest to the largest value where the file has neither; where the smallest is white (MONOCHROME1), they are
    inverted.

    Args:
        pixel_limit: more are refused.

    Returns:
        uint8 (rows, columns, 1 or 3), and notes on what it was: "dicom", and "animated" if it has further frames.

    Raises:
        Fault: the package pydicom is missing.
        Unreadable: no image, a kind or compression that cannot be read, more pixels than the limit, or broken.
    """
    pydicom = require_pydicom()
    if DEFLATED.encode() in data[:2048]:  # among the first elements
        raise Unreadable("unsupported", "it is compressed as a whole (deflated); write it without")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = pydicom.dcmread(io.BytesIO(data))
            if "Rows" not in image or "PixelData" not in image:
                raise Unreadable("unsupported", "the DICOM file holds no image of whole numbers")
            if image.Rows * image.Columns > pixel_limit:
                size = f"{image.Columns}x{image.Rows}"
                raise Unreadable("huge", f"{size} pixels are more than the limit of {pixel_limit:,}")
            image.file_meta.TransferSyntaxUID = _syntax(pydicom, image, "it")
            frame = pydicom.pixels.pixel_array(image, index=0)
            if image.PhotometricInterpretation == "PALETTE COLOR":
                frame = pydicom.pixels.apply_color_lut(frame, image)
                frame = np.round(frame / (257 if frame.dtype == np.uint16 else 1))
            levels = frame if frame.ndim == 3 else _levels(pydicom, frame, image)[..., None]
            if levels.max() > 255:
                raise Unreadable("unsupported", f"colours must have 8 bits, got {image.BitsStored}")
            frames = int(image.get("NumberOfFrames") or 1)
        except Unreadable:
            raise
        except _broken(pydicom) as error:
            raise Unreadable("undecodable", _said(error)) from None
    return levels.astype(np.uint8), ["dicom", *(["animated"] if frames > 1 else [])]


def _levels(pydicom: Any, frame: np.ndarray, image: Any) -> np.ndarray:
    """The grey levels of an image, float64 (rows, columns), whole numbers from 0 to 255."""
    values = pydicom.pixels.apply_modality_lut(frame, image)
    if image.get("VOILUTSequence"):
        shown = pydicom.pixels.apply_voi(values, image)
        low, high = 0.0, 2.0 ** image.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif image.get("WindowWidth"):
        ends = pydicom.pixels.apply_windowing(np.array([-EXTREME, EXTREME]), image)
        shown, (low, high) = pydicom.pixels.apply_windowing(values.astype(np.float64), image), map(float, ends)
    else:
        shown, low, high = values, float(values.min()), float(values.max())
    share = (shown - low) / (high - low) if high > low else np.zeros(shown.shape)
    share = 1 - share if image.PhotometricInterpretation == "MONOCHROME1" else share
    levels: np.ndarray = np.round(255 * np.clip(share, 0, 1))
    return levels


def _files(folder: Path) -> Iterator[Path]:
    """The DICOM files that lie in a folder, in the order of their names."""
    for file in sorted(folder.iterdir()):
        if not file.name.startswith(".") and input_file.is_regular(file):
            with file.open("rb") as stream:
                if stream.read(132)[128:] == MAGIC:
                    yield file


def _header(pydicom: Any, file: Path) -> Any:
    """All that a file says but its pixels; what the reading needs is checked to be there, and sound."""
    input_file.check_regular(file)
    try:
        if pydicom.filereader.read_file_meta_info(file).get("TransferSyntaxUID") == DEFLATED:
            raise Unreadable("unsupported", f"{file.name} is compressed as a whole (deflated); write it without")
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if "Rows" not in header:  # a directory, a report, a structure set
            return header
        if int(header.get("NumberOfFrames") or 1) != 1:
            raise Unreadable("unsupported", f"{file.name} has several frames; split it into one file for each slice")
        if int(header.get("SamplesPerPixel", 1)) != 1 or header.get("PhotometricInterpretation") == "PALETTE COLOR":
            raise Unreadable("unsupported", f"{file.name} is of colours; a volume must have one number for each voxel")
        for name in POSITIONAL:
            values = np.atleast_1d(np.asarray(header.get(name), float))
            wanted = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}.get(name, 1)
            if values.shape != (wanted,) or not np.isfinite(values).all():
                raise Unreadable("unsupported", f"{file.name} must say {name}, got {header.get(name)!r}")
        across, down = np.asarray(header.ImageOrientationPatient, float).reshape(2, 3)
        lengths = np.linalg.norm([across, down], axis=1)
        if np.abs(lengths - 1).max() > NEAR or abs(across @ down) > NEAR or min(header.PixelSpacing) <= 0:
            raise Unreadable("unsupported", f"{file.name} has axes that are not at right angles, or without a length")
    except Unreadable:
        raise
    except _broken(pydicom) as error:
        raise Unreadable("undecodable", f"{file.name}: {_said(error)}") from None
    return header


def _check_alike(slices: Sequence[tuple[Path, Any]]) -> None:
    """Raise `Unreadable` unless all slices are of one series and have the same sizes, spacing and orientation."""
    series = Counter(header.get("SeriesInstanceUID") for _, header in slices)
    if len(series) > 1:
        numbers = ", ".join(f"{count:,}" for count in series.values())
        raise Unreadable("unsupported", f"a folder must hold one series, got {len(series)} of {numbers} slices")
    file, first = slices[0]
    for other_file, other in slices[1:]:
        for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
            here, there = first.get(name), other.get(name)
            if not np.allclose(np.asarray(here, float), np.asarray(there, float), atol=SAME):
                raise Unreadable("unsupported", f"{name} must be the same in all slices, got {here} in {file.name} and "
                                                f"{there} in {other_file.name}")  # fmt: skip


def _ordered(slices: list[tuple[Path, Any]]) -> tuple[list[tuple[Path, Any]], np.ndarray]:
    """The slices along their normal, and the affine of their voxels."""
    first = slices[0][1]
    across, down = np.asarray(first.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(across, down)
    slices = sorted(slices, key=lambda slice_: float(np.asarray(slice_[1].ImagePositionPatient, float) @ normal))
    positions = np.array([np.asarray(header.ImagePositionPatient, float) for _, header in slices])
    gaps = np.diff(positions @ normal)
    names = [file.name for file, _ in slices]
    thickness = float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1)
    gap = float(np.median(gaps)) if len(gaps) else abs(thickness)
    for place in np.flatnonzero(gaps <= max(gap * NEAR, 1e-6)):
        raise Unreadable("duplicate slices", f"{names[place]} and {names[place + 1]} lie at the same position")
    for place in np.flatnonzero(np.abs(gaps - gap) > NEAR * gap):
        missing = round(gaps[place] / gap) - 1
        between = f"between {names[place]} and {names[place + 1]}"
        if missing > 0 and abs(gaps[place] / gap - missing - 1) <= NEAR * (missing + 1):
            raise Unreadable("missing slices", f"{missing} {between}")
        raise Unreadable("uneven slices", f"{gaps[place]:.4g} mm {between}, and {gap:.4g} mm as a rule")
    aside = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    if np.linalg.norm(aside, axis=1).max() > NEAR * gap * max(1, len(gaps)):
        raise Unreadable("unsupported", "its slices are shifted against each other, as with a tilted gantry")
    step = (positions[-1] - positions[0]) / len(gaps) if len(gaps) else normal * gap
    affine = np.eye(4)
    affine[:3] = np.column_stack([across * first.PixelSpacing[1], down * first.PixelSpacing[0], step, positions[0]])
    return slices, np.diag([-1.0, -1, 1, 1]) @ affine


def _pixels(pydicom: Any, file: Path, header: Any) -> np.ndarray:
    """The values of a slice: float32 (rows, columns)."""
    syntax = _syntax(pydicom, header, file.name)
    try:
        image = pydicom.dcmread(file)
        image.file_meta.TransferSyntaxUID = syntax
        slope, intercept = float(image.get("RescaleSlope", 1)), float(image.get("RescaleIntercept", 0))
        return (image.pixel_array * slope + intercept).astype(np.float32)
    except _broken(pydicom) as error:
        raise Unreadable("undecodable", f"{file.name}: {_said(error)}") from None


def _syntax(pydicom: Any, header: Any, name: str) -> Any:
    """How the pixels of a file are encoded; `Unreadable` without a decoder of that."""
    syntax = header.file_meta.get("TransferSyntaxUID") or pydicom.uid.ImplicitVRLittleEndian
    if syntax.is_compressed and not _has_decoder(pydicom, syntax):
        raise Unreadable("unsupported", f"{name} is compressed as {syntax.name}, and no decoder of that is installed; "
                                        "`pip install python-gdcm` brings one")  # fmt: skip
    return syntax


def _has_decoder(pydicom: Any, syntax: Any) -> bool:
    try:
        return bool(pydicom.pixels.get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _broken(pydicom: Any) -> tuple[type[Exception], ...]:
    """What pydicom and NumPy raise on broken files."""
    return (
        pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException, EOFError, ValueError, TypeError,
        LookupError, AttributeError, ArithmeticError, MemoryError, NotImplementedError, RuntimeError, struct.error,
    )  # fmt: skip


def _said(error: Exception) -> str:
    return str(error).partition("\n")[0] or "it ends too early"


def require_pydicom() -> Any:
    """The package pydicom, which is optional.

    Raises:
        Fault: it is not installed.
    """
    try:
        import pydicom  # optional
    except ImportError:
        raise Fault(
            "DICOM files need the package pydicom; `make samples` or `pip install 'cnn-keras[medical]'` installs it"
        ) from None
    return pydicom
