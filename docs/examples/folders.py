"""Public data as folders, such as the recipes for data of your own read: what their headers were measured on.

    python docs/examples/folders.py KIND FOLDER

digits     a sub-folder of PNG files for each class: 5,000 of MNIST's digits, for classify/folder-lenet5
signals    a sub-folder of CSV files for each class: GunPoint, for signals/folder-fcn
volumes    a sub-folder of NIfTI files for each class, below train/, validation/ and test/: parts of a brain by the
           tissue at their centre, 28×28×28 voxels, for volumes/folder-resnet18
cards      pictures and points.csv: digits on cards and the cards' corners, for localize/folder-lenet5
nuclei     images/ and masks/: 16 pictures of cell nuclei, 128×128, for segment/folder-unet
scans      images/ and masks/: a brain in 15 NIfTI files that share no voxel, for segment/folder-unet3d
people     a sub-folder for each of ORL's 40 people, for verify/folder-triplet
attempts   live/ and spoof/: ORL's faces, and computed prints and screens of them, for classify/folder-liveness

FOLDER is new, or empty. The data come with packages that `make samples` installs.
"""

import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources import classification, signals, volumes
from cnn_keras.data.sources.samples import mni_slices
from cnn_keras.data.sources.samples import nuclei as nuclei_sample
from cnn_keras.data.sources.synthetic import cards as drawn_cards
from cnn_keras.data.sources.synthetic import presentation_attacks as attacks

COUNTS = {"train": 60, "validation": 15, "test": 30}  # volumes of a class


def digits(folder: Path) -> None:
    """FOLDER/7/0042.png."""
    for number, item in enumerate(classification.mnist5k()):
        write(folder / item.label / f"{number:04d}.png", item.read())


def gun_point(folder: Path) -> None:
    """FOLDER/CLASS/042.csv: a line for each moment."""
    for number, item in enumerate(signals.sktime("GunPoint")):
        values, _ = item.read()
        lines = "".join(f"{value:.6f}\n" for value in values[:, 0])
        write(folder / item.label / f"{number:03d}.csv", lines.encode())


def tissue(folder: Path) -> None:
    """FOLDER/SPLIT/TISSUE/082-130-075.nii.gz, the split being a slab of the brain."""
    items = volumes.mni152((28, 28, 28))
    for label in sorted({item.label for item in items}):
        for split, count in COUNTS.items():
            some = [item for item in items if (item.label, item.split) == (label, split)]
            for item in some[:: max(1, len(some) // count)][:count]:
                save_nifti(folder / str(split) / label / f"{item.id}.nii.gz", item.read()[0][..., 0])


def cards(folder: Path) -> None:
    """FOLDER/00042.png and FOLDER/points.csv: class, box and four corners of each card."""
    corners = [f"{corner.replace(' ', '_')}_{axis}" for corner in drawn_cards.CORNERS for axis in "xy"]
    rows = [["path", "split", "label", "left", "top", "right", "bottom", *corners]]
    for item in drawn_cards.read(count=1500, side=96).items:
        write(folder / f"{item.id}.png", item.read())
        row = [f"{item.id}.png", item.split or ""]
        for card in item.objects:
            points = [[mark.x, mark.y] if mark.visible else ["", ""] for mark in card.landmarks]
            row += [card.name, *map(str, card.box), *(str(value) for point in points for value in point)]
        rows.append(row)
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    write(folder / "points.csv", text.getvalue().encode())


def nuclei(folder: Path) -> None:
    """FOLDER/images/0-128.png and FOLDER/masks/0-128.png: 1 is a nucleus, 0 is none."""
    light, mask = nuclei_sample.pixels()
    for top in range(0, 512, 128):
        for left in range(0, 512, 128):
            window = np.s_[top : top + 128, left : left + 128]
            write(folder / "images" / f"{top}-{left}.png", png(light[window]))
            write(folder / "masks" / f"{top}-{left}.png", png(mask[window] > 0))


def scans(folder: Path) -> None:
    """FOLDER/images/1-4.nii.gz and FOLDER/masks/1-4.nii.gz: 1 is grey matter, 2 white, 0 everything else."""
    brain, grey, white = volumes.tissue_maps()
    kinds = mni_slices.tissues(grey, white)
    for row, y in enumerate(range(0, 77 * 3, 77)):
        for level, z in enumerate(range(0, 37 * 5, 37)):
            block = np.s_[:, y : y + 77, z : z + 37]
            save_nifti(folder / "images" / f"{row}-{level}.nii.gz", brain[..., 0][block])
            save_nifti(folder / "masks" / f"{row}-{level}.nii.gz", kinds[block])


def people(folder: Path) -> None:
    """FOLDER/s7/04.png."""
    for number, item in enumerate(classification.orl()):
        write(folder / item.label / f"{number % 10:02d}.png", item.read())


def attempts(folder: Path) -> None:
    """FOLDER/live/s7_4.jpg and FOLDER/spoof/s7_4.jpg, as by one camera: a face, and its print or screen."""
    rng = np.random.default_rng(0)
    for number, item in enumerate(classification.orl()):
        face = attacks.enlarged(np.asarray(Image.open(io.BytesIO(item.read())).convert("RGB")))
        attack = (attacks.printed, attacks.screen)[number % 2](face)
        for kind, image in {"live": face, "spoof": attack}.items():
            photograph = io.BytesIO()
            Image.fromarray(attacks.photographed(image, rng)).save(photograph, "JPEG", quality=90, subsampling=0)
            write(folder / kind / f"{item.label}_{number % 10}.jpg", photograph.getvalue())


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def png(image: np.ndarray) -> bytes:
    return encode_png(image[..., None].astype(np.uint8))


def save_nifti(path: Path, values: np.ndarray) -> None:
    """Voxels of one millimetre, as small integers."""
    import nibabel  # optional

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values.astype(np.uint8), np.eye(4)).to_filename(path)


KINDS: dict[str, Callable[[Path], None]] = {
    "digits": digits,
    "signals": gun_point,
    "volumes": tissue,
    "cards": cards,
    "nuclei": nuclei,
    "scans": scans,
    "people": people,
    "attempts": attempts,
}


def main(arguments: list[str]) -> None:
    """Write the folder that the command line names."""
    if len(arguments) != 2 or arguments[0] not in KINDS:
        sys.exit(f"usage: python docs/examples/folders.py {{{','.join(KINDS)}}} FOLDER")
    kind, folder = arguments[0], Path(arguments[1])
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"FOLDER must be new or empty, which {folder} is not")
    KINDS[kind](folder)
    print(f"{folder}: {sum(file.is_file() for file in folder.rglob('*'))} files")


if __name__ == "__main__":
    main(sys.argv[1:])
