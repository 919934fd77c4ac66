"""NIfTI files and DICOM series as volumes, turned so that their axes point right, anterior and superior.

The package nibabel reads NIfTI; a folder is a series of DICOM files, see `dicom`.
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.data import resampling
from cnn_keras.data.files import dicom, durable, input_file
from cnn_keras.data.files.input_file import VALUE_LIMIT
from cnn_keras.errors import Fault, Unreadable

SUFFIXES = (".nii", ".nii.gz")
VOXEL_LIMIT = 2**28  # of one file, all its channels together: a gigabyte as float32


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    """A NIfTI file, its stored scaling applied; a fourth axis is the channels.

    Returns:
        float32 (depth, height, width, channels), and notes on what it was.

    Raises:
        Fault: the package nibabel is missing.
        Unreadable: empty, no NIfTI file or a broken one, too large, not three axes.
    """
    return voxels(open_volume(path))


def read_with_note(path: Path) -> tuple[np.ndarray, list[Any]]:
    """The voxels that `read` gives, float32 (*sizes, channels), and a note of the voxels' size."""
    image = open_volume(path)
    values, notes = voxels(image)
    return values, [*notes, voxel_size_note(image)]


def voxel_size_note(image: Any) -> tuple[str, str]:
    """The size of a voxel as a note, along the axes as `voxels` turns them."""
    return "voxel size", "×".join(f"{side:.3g}" for side in spacing(image)) + " mm"


def spacing(image: Any) -> tuple[float, ...]:
    """The sides of a voxel along the axes as `voxels` turns them, in the file's unit, which is the millimetre."""
    nibabel = require_nibabel()
    return tuple(float(side) for side in nibabel.affines.voxel_sizes(_upright(image).affine))


def upright_shape(image: Any) -> tuple[int, ...]:
    """Depth, height and width of a file as `voxels` turns it."""
    return tuple(_upright(image).shape[:3])


def check_resampled(image: Any, new_spacing: Sequence[float]) -> None:
    """Raise `Unreadable` where a file would have too many voxels at `new_spacing`."""
    count = math.prod(resampling.shape_at(upright_shape(image), spacing(image), new_spacing))
    if count * math.prod(image.shape[3:]) > VOXEL_LIMIT:
        raise Unreadable("huge", f"a volume may have {VOXEL_LIMIT:,} voxels, at this spacing it would have {count:,}")


def open_volume(path: Path) -> Any:
    """A NIfTI file, compressed or not, or a folder of DICOM slices as nibabel's image, its voxels not turned.

    It has three or four axes.

    Raises:
        OSError: it cannot be read, is no regular file, or is too large.
        Unreadable: empty, no NIfTI file or a broken one, too large, or of other axes.
    """
    nibabel = require_nibabel()
    if input_file.is_folder(path):
        image = nibabel.Nifti1Image(*dicom.read(path, limit=VOXEL_LIMIT))
        image.set_qform(image.affine, 1)  # the scanner's own coordinates
        image.set_sform(image.affine, 1)
        return image
    data = input_file.read_bytes(path)
    if not data:
        raise Unreadable("empty", "the file is empty")
    try:
        if data.startswith(b"\x1f\x8b"):
            data = input_file.decompress(data, limit=16 * VOXEL_LIMIT)
        kinds = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}
        kind = kinds.get(int.from_bytes(data[:4], "little"), kinds.get(int.from_bytes(data[:4], "big")))
        if kind is None:
            raise Unreadable("undecodable", "it is not a NIfTI file: its first number must be 348 or 540")
        image = kind.from_bytes(data)
        shape = image.shape
    except Unreadable:
        raise
    except _broken(nibabel) as error:
        raise Unreadable("undecodable", _said(error)) from None
    if math.prod(shape) > VOXEL_LIMIT:
        raise Unreadable("huge", f"a volume may have {VOXEL_LIMIT:,} voxels, this one has the shape {shape}")
    if len(shape) == 5 and shape[3] == 1:  # how NIfTI stores vectors
        image = _checked(nibabel, lambda: nibabel.Nifti1Image(image.dataobj[..., 0, :], image.affine, image.header))
    if len(image.shape) not in (3, 4) or not all(side > 0 for side in image.shape):
        raise Unreadable("unsupported", f"it must have 3 axes, or 4 with channels, got the shape {image.shape}")
    if not np.isfinite(image.affine).all() or np.isnan(nibabel.io_orientation(image.affine)).any():
        raise Unreadable("undecodable", "its header does not say where its axes point")
    return image


def voxels(image: Any, *, affine: np.ndarray | None = None) -> tuple[np.ndarray, list[str]]:
    """The voxels of an image, float32 (right, anterior, superior, channels), and notes on what they were.

    Args:
        affine: where its axes point, if its own header does not say so.

    Raises:
        Unreadable: its voxels are no real numbers, or larger than VALUE_LIMIT.
    """
    nibabel = require_nibabel()
    if image.get_data_dtype().kind not in "uif":
        raise Unreadable("unsupported", f"its voxels must be real numbers, got {image.get_data_dtype()}")
    image_ = image if affine is None else _checked(nibabel, lambda: image.__class__(image.dataobj, affine))
    upright = _upright(image_)
    values = _checked(nibabel, lambda: np.asarray(upright.dataobj, np.float32))
    notes = [] if upright is image_ else ["turned upright"]
    if np.abs(np.nan_to_num(values, posinf=0.0, neginf=0.0)).max() > VALUE_LIMIT:
        raise Unreadable("unsupported", f"its voxels must be at most {VALUE_LIMIT:g}")
    if not np.isfinite(values).all():
        values, notes = np.nan_to_num(values, posinf=0.0, neginf=0.0), [*notes, "not finite in places, set to 0"]
    return (values if values.ndim == 4 else values[..., None]), notes


def has_orientation(image: Any) -> bool:
    """Whether a file's header says where its axes point."""
    return int(image.header["qform_code"]) > 0 or int(image.header["sform_code"]) > 0


def write_like(source: Path, mask: np.ndarray, path: Path) -> None:
    """Write a mask as a NIfTI file that lies on the volume of the file `source`.

    Args:
        mask: uint8 (depth, height, width), upright as `read` turns volumes; its axes are turned back to the file's.
    """
    nibabel = require_nibabel()
    image = open_volume(source)
    orientations = nibabel.orientations
    upright = orientations.axcodes2ornt("RAS")
    back = orientations.ornt_transform(upright, orientations.io_orientation(image.affine))
    reoriented = nibabel.Nifti1Image(orientations.apply_orientation(mask, back).astype(np.uint8), image.affine)
    for name in ("qform", "sform"):  # as the volume has them: a program may look at either
        coded = getattr(image, f"get_{name}")(coded=True)
        getattr(reoriented, f"set_{name}")(*(coded if coded[1] else (image.affine, 0)))
    with durable.atomic_write(path, suffix=".nii.gz" if path.name.endswith(".gz") else ".nii") as temporary:
        reoriented.to_filename(temporary)


def _upright(image: Any) -> Any:
    nibabel = require_nibabel()
    return _checked(nibabel, lambda: nibabel.as_closest_canonical(image))


def _checked(nibabel: Any, step: Any) -> Any:
    """What a step gives; a file that it finds broken is `Unreadable`."""
    try:
        return step()
    except _broken(nibabel) as error:
        raise Unreadable("undecodable", _said(error)) from None


def _broken(nibabel: Any) -> tuple[type[Exception], ...]:
    """What nibabel and NumPy raise on broken files."""
    broken = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    return (
        *broken, nibabel.wrapstruct.WrapStructError, EOFError, OSError, ValueError, TypeError, LookupError,
        ArithmeticError, MemoryError, struct.error, np.linalg.LinAlgError, nibabel.orientations.OrientationError,
    )  # fmt: skip


def _said(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition("\n")[0] or "it ends too early"


def require_nibabel() -> Any:
    """The package nibabel, which is optional.

    Raises:
        Fault: it is not installed.
    """
    try:
        import nibabel  # optional

        nibabel.imageglobals.logger.disabled = True  # what is odd about a header is told by its kind
    except ImportError:
        raise Fault(
            "NIfTI files need the package nibabel; `make samples` or `pip install nibabel` installs it"
        ) from None
    return nibabel
