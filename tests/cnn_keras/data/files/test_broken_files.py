"""Files of every format, broken in many ways: each ends in a trouble of its own or a Fault, never in a traceback."""

import contextlib
import gzip
import io
import json
import struct

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from cnn_keras.data import pk_sampler
from cnn_keras.data.files import nifti
from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.formats.masks import color_tables, mask_folders
from cnn_keras.data.sources import classification, driving, segmentation, signals
from cnn_keras.data.transforms import face_alignment
from cnn_keras.errors import Fault, Unreadable

TRIES = 60
ODD = (
    b"\0",
    b"\xff",
    b"-1",
    b"9" * 5000,
    b"1e999",
    b"nan",
    b"[" * 3000,
    b"null",
    b'""',
    b"\xed\xa0\x80",
    b"\n",
    b":",
    b"\\",
)
VALUES = np.array([[0, 1, 1], [0, 2, 1]], np.uint8)


def broken(data, seed, header):
    """Variants of a file's bytes: bits of its header turned over, cut short, odd things put in, parts left out."""
    drawn = np.random.default_rng(seed)
    for number in range(TRIES):
        found = bytearray(data)
        place = int(drawn.integers(min(header, len(found))))
        match number % 5:
            case 0:
                found[place] ^= 1 << int(drawn.integers(8))
            case 1:
                found[place : place + 4] = drawn.integers(0, 256, 4, np.uint8).tobytes()
            case 2:
                found = found[:place]
            case 3:
                found[place:place] = ODD[int(drawn.integers(len(ODD)))]
            case 4:
                del found[place : place + int(drawn.integers(1, 40))]
        yield bytes(found)


def saved(values, kind, **options):
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind, **options)
    return out.getvalue()


def nifti_bytes():
    nibabel = pytest.importorskip("nibabel", reason="needs the package nibabel (make samples)")
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, 1)
    return image.to_bytes()


def sound():
    out = io.BytesIO()
    wavfile.write(out, 8000, np.arange(-40, 40, dtype=np.int16).reshape(-1, 2))
    return out.getvalue()


def everything(items):
    for item in items:
        with_trouble(item.read)


def with_trouble(step):
    """Do something that may end in a trouble of its object."""
    try:
        return step()
    except (Unreadable, OSError):
        return None


def masked(path):
    """Pictures and masks below the folder of a file."""
    for item in segmentation.load("folder", path=path.parent).items:
        with_trouble(item.read)
        with_trouble(lambda item=item: item.mask((2, 3)))


def volume_masks(path):
    for item in segmentation.load("folder", axes=3, path=path.parent.parent).items:
        with_trouble(item.read)
        with_trouble(lambda item=item: item.mask((2, 3, 4)))


TS = b"@problemName X\n@timeStamps false\n@classLabel true a b\n@data\n1,2,3:4,5,6:a\n1,?,3:(0,1),(1,2):b\n"
CATALOG = [{"_index": row, "cam/image_array": f"{row}.jpg", "user/angle": 0.5, "user/mode": "user"} for row in range(3)]
MANIFEST = [
    ["cam/image_array", "user/angle"],
    ["image_array", "float"],
    {},
    {},
    {"paths": ["a.catalog"], "deleted_indexes": [1]},
]
FORMATS = {  # the file's name, its bytes, how much of it is a header, what reads it
    "nii": ("a.nii", nifti_bytes, 400, lambda path: nifti.read(path)),
    "nii.gz": ("a.nii.gz", lambda: gzip.compress(nifti_bytes()), 10**6, lambda path: nifti.read(path)),
    "mask of a volume": ("masks/a.nii", nifti_bytes, 400, volume_masks),
    "png mask": ("a.png", lambda: saved(VALUES, "PNG"), 60, mask_folders.read_numbers),
    "gif mask": ("a.gif", lambda: saved(VALUES, "GIF"), 10**6, mask_folders.read_numbers),
    "bmp mask": ("a.bmp", lambda: saved(VALUES, "BMP"), 80, mask_folders.read_numbers),
    "tiff mask": ("a.tif", lambda: saved(VALUES, "TIFF", compression="tiff_lzw"), 10**6, mask_folders.read_numbers),
    "tiff": ("a.tif", lambda: saved(VALUES, "TIFF"), 10**6, lambda path: normalize(path.read_bytes())),
    "ts": ("a.ts", lambda: TS, 10**6, lambda path: everything(signals.ts(path))),
    "tsv": ("a.tsv", lambda: b"1\t2\t3\n-1\tNaN\t4\n", 10**6, lambda path: everything(signals.ts(path))),
    "csv signal": ("a.csv", lambda: b"time;left\n10:00;1,5\n10:01;2\n", 10**6, signals.read),
    "wav": ("a.wav", sound, 60, signals.read),
    "catalog": ("a.catalog", lambda: "\n".join(map(json.dumps, CATALOG)).encode(), 10**6,
                lambda path: everything(driving.tub(path.parent))),
    "manifest": ("manifest.json", lambda: "\n".join(map(json.dumps, MANIFEST)).encode(), 10**6,
                 lambda path: everything(driving.tub(path.parent))),
    "drives": ("a.csv", lambda: b"path,angle,time,drive\na.jpg,0.5,1,x\nb.jpg,-0.5,2,x\n", 10**6,
               lambda path: everything(driving.csv_file(path, full=2.0))),
    "images": ("a.csv", lambda: b"path,label,split,group\na.jpg,cat,train,x\nb.jpg,dog,test,y\n", 10**6,
               lambda path: everything(classification.csv_file(path))),
    "idx": ("train-images-idx3-ubyte", lambda: struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 3) + bytes(12), 20,
            lambda path: classification._idx_array(path.parent, "train*", rank=3)),
    "idx.gz": ("train-images-idx3-ubyte.gz",
               lambda: gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 3) + bytes(12)), 10**6,
               lambda path: classification._idx_array(path.parent, "train*", rank=3)),
    "pairs": ("pairs.txt", lambda: b"1\t1\nAnn\t1\t2\nAnn\t1\tBob\t2\n", 10**6, pk_sampler.lfw_pairs),
    "eyes": ("eyes.csv", lambda: b"path,left_x,left_y,right_x,right_y\na.jpg,1,2,3,4\n", 10**6,
             face_alignment.annotated_eyes),
    "dataset.json": ("dataset.json", lambda: b'{"labels": {"background": 0, "ignore": 1}}',
                     10**6, lambda path: color_tables.read_legend(path.parent)),
    "labelmap": ("labelmap.txt", lambda: b"road:128,64,128::\ncar:64,0,128::\n", 10**6,
                 lambda path: color_tables.read_legend(path.parent)),
    "roboflow": ("_classes.csv", lambda: b"Pixel Value, Class\n0, background\n1, bolt\n", 10**6,
                 lambda path: color_tables.read_legend(path.parent)),
    "split list": ("train.txt", lambda: b"a\nb.png\n", 10**6, masked),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # what nibabel, Pillow and NumPy find odd is told otherwise
@pytest.mark.parametrize("name", FORMATS)
def test_a_broken_file_ends_in_a_trouble_or_a_fault(tmp_path, name):
    file, whole, header, reader = FORMATS[name]
    path, data = tmp_path / file, whole()
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "images").mkdir()
    if name == "mask of a volume":
        (tmp_path / "images" / "a.nii").write_bytes(data)
    if name == "split list":
        (tmp_path / "masks").mkdir()
        for one in "ab":
            for place in ("images", "masks"):
                (tmp_path / place / f"{one}.png").write_bytes(saved(VALUES, "PNG"))
    if name == "catalog":
        (tmp_path / "manifest.json").write_text("\n".join(map(json.dumps, MANIFEST)))
    path.write_bytes(data)
    reader(path)
    for variant in broken(data, 3, header):
        path.write_bytes(variant)
        with contextlib.suppress(Unreadable, OSError, Fault):
            reader(path)


def test_special_files_and_bombs_are_told_apart_before_they_are_opened(tmp_path):
    (tmp_path / "zeros.nii.gz").write_bytes(gzip.compress(bytes(10**7)))
    with pytest.raises(Unreadable, match="NIfTI"):
        nifti.read(tmp_path / "zeros.nii.gz")
    for name, reader in (
        ("v.nii", nifti.read),
        ("s.csv", signals.read),
        ("s.wav", signals.read),
        ("m.png", mask_folders.read_numbers),
    ):
        path = tmp_path / name
        path.symlink_to("/dev/zero")
        with pytest.raises(OSError, match="regular file, got a device"):
            reader(path)
        with pytest.raises(OSError, match="too long"):
            reader(tmp_path / ("n" * 300 + name))
        with pytest.raises(OSError, match="null"):
            reader(tmp_path / f"\0{name}")
    for name, reader in (
        ("p.csv", classification.csv_file),
        ("d.csv", driving.csv_file),
        ("pairs.txt", pk_sampler.lfw_pairs),
        ("x.ts", signals.ts),
    ):
        path = tmp_path / name
        path.symlink_to("/dev/zero")
        with pytest.raises(Fault, match="must be"):
            reader(path)
