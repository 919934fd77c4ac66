"""DICOM series that tests write: an oblique scan whose slices are stored in another order than their names'."""

import numpy as np

ANGLE = 0.3
ACROSS = np.array([np.cos(ANGLE), np.sin(ANGLE), 0.0])  # DICOM's coordinates: to the left, to the back and up
DOWN = np.array([0.0, 0.0, -1.0])
NORMAL = np.cross(ACROSS, DOWN)
SPACING = (0.8, 1.25)  # millimetres between rows and between columns
GAP = 2.5  # between slices
ORIGIN = np.array([-31.0, 12.5, 77.0])


def stored_values(rows=12, columns=10, slices=7):
    """What the files store: int16 (rows, columns, slices)."""
    return np.random.default_rng(5).integers(-900, 900, (rows, columns, slices)).astype(np.int16)


def write_series(folder, values=None, *, syntax="1.2.840.10008.1.2.1", change=None):
    """Write a slice for each of the values' last axis; `change` is called with the number and data set of each."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, generate_uid

    values = stored_values() if values is None else values
    folder.mkdir(parents=True, exist_ok=True)
    count = values.shape[-1]
    series = generate_uid(entropy_srcs=[str(folder)])
    for number in range(count):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = syntax
        slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID = CTImageStorage
        identifier = generate_uid(entropy_srcs=[str(folder), str(number)])
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID = identifier
        slice_.SeriesInstanceUID, slice_.StudyInstanceUID, slice_.Modality = series, series, "CT"
        slice_.Rows, slice_.Columns = values.shape[:2]
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
        slice_.RescaleSlope, slice_.RescaleIntercept = "2", "-1000"
        slice_.PixelSpacing = list(SPACING)
        slice_.ImageOrientationPatient = [f"{value:.12g}" for value in (*ACROSS, *DOWN)]
        place = ORIGIN + number * GAP * NORMAL
        slice_.ImagePositionPatient = [f"{value:.12g}" for value in place]
        slice_.InstanceNumber = count - number
        slice_.PixelData = np.ascontiguousarray(values[..., number]).tobytes()
        if change is not None and change(number, slice_) is False:
            continue
        slice_.save_as(folder / f"{number * (3 if count % 3 else 5) % count:03d}.dcm", enforce_file_format=True)
    return folder
