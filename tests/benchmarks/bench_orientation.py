"""Does a segmenter of volumes give scans of other orientation and spacing the mask of the unrotated one?

    python tests/benchmarks/bench_orientation.py [--epochs 6] [--work FOLDER]

A small 3-D U-Net learns grey and white matter, as one class, in the front two thirds of the MNI152 brain, voxels of
1 mm. The back third is the scan: as it is, turned (its axes point to the back, up and left), turned with voxels of
another size, and as an oblique DICOM series. `cnn predict --masks` answers each with a NIfTI mask.

A line for each scan has the Dice between its mask and that of the scan as it is, looked up at the latter's voxels, and
the Dice that the true masks of the two have with each other in the same way. "distance" is the largest from where the
affine of the mask places a voxel to where the scan has it, of the series by the numbers that its files were written
with. `--work` keeps everything; without it a temporary folder is used. `make samples` installs what it needs.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))
HELD_OUT = 77  # planes from the back
BLOCK = 39  # planes of each of the scans that train
SPACINGS = ((1.5, 1.5, 1.5), (1.1, 0.9, 1.25), (0.8, 0.8, 0.8))  # to the right, to the front and up
PREDICT = "import sys; from pipelines.cli.main import main; sys.argv[0] = 'cnn'; main()"
RECIPE = """\
# Grey and white matter of a brain, as one class.
task: segment
data:
  source: folder
  path: data
  classes: [other, brain]
  size: [48, 24, 48]
  channels: 1
  fit: patch
  overlap: 0.25
  patches: 120
  balance: 0.5
  spacing: [1, 1, 1]
  validation: 0.25
  test: 0.25
model: {builder: unet.unet3d_small, filters: 8}
train: {batch_size: 4, learning_rate: 2e-3, schedule: cosine, loss: {cross_entropy: 1.0, dice: 1.0}}
evaluate: {insight: false}
"""


def write(folder):
    """The recipe, what it trains on, the scans, and the true mask of each."""
    import nibabel
    from nibabel.processing import resample_from_to

    from cnn_keras.data.sources import volumes
    from cnn_keras.data.sources.samples import mni_slices
    from tests.dicom_series import write_series

    brain, grey, white = volumes.tissue_maps()
    brain, mask = brain[..., 0], (mni_slices.tissues(grey, white) > 0).astype(np.uint8)
    for name in ("data/images", "data/masks", "scans", "truth"):
        (folder / name).mkdir(parents=True)
    for front in range(HELD_OUT, brain.shape[1], BLOCK):
        for name, values in (("images", brain), ("masks", mask)):
            block = nibabel.Nifti1Image(values[:, front : front + BLOCK].astype(np.uint8), np.eye(4))
            block.to_filename(folder / "data" / name / f"{front:03d}.nii.gz")
    (folder / "brain.yaml").write_text(RECIPE)

    size = np.array(brain[:, :HELD_OUT].shape)
    affine, series, across = np.eye(4), series_affine(), series_size(size)
    affine[:3, 3] = (series @ [*(across - 1) / 2, 1])[:3] - (size - 1) / 2  # one has its middle where the other has it
    scan = nibabel.Nifti1Image(brain[:, :HELD_OUT], affine)
    truth = nibabel.Nifti1Image(mask[:, :HELD_OUT], affine)
    grids = {"turned": (size, affine)}
    for spacing in SPACINGS:
        grids[f"turned-{'x'.join(map(str, spacing))}"] = nibabel.spaces.vox2out_vox(scan, spacing)
    scans = {"plain": scan}
    for name, (shape, place) in grids.items():
        upright = resample_from_to(scan, (tuple(shape), place), order=1)
        scans[name] = upright.as_reoriented([[2, -1], [0, -1], [1, 1]])  # its axes: to the back, up, to the left
    for name, image in scans.items():
        image.to_filename(folder / "scans" / f"{name}.nii.gz")
        label(truth, image).to_filename(folder / "truth" / f"{name}.nii.gz")
    oblique = resample_from_to(scan, (tuple(across), series), order=1)
    stored = np.round((oblique.get_fdata() + 1000) / 2).astype(np.int16)  # its slope is 2, its intercept -1000
    write_series(folder / "scans" / "dicom", stored.transpose(1, 0, 2))
    label(truth, oblique).to_filename(folder / "truth" / "dicom.nii.gz")


def series_affine():
    """From column, row and slice of the series to millimetres to the right, to the front and up."""
    from tests import dicom_series as series

    affine = np.eye(4)
    affine[:3, 0] = series.ACROSS * series.SPACING[1]
    affine[:3, 1] = series.DOWN * series.SPACING[0]
    affine[:3, 2] = series.NORMAL * series.GAP
    affine[:3, 3] = series.ORIGIN
    return np.diag([-1, -1, 1, 1]) @ affine  # DICOM's axes grow to the left and back


def series_size(size):
    """Columns, rows and slices that cover a scan of so many millimetres."""
    corners = np.array(np.meshgrid(*([0, side] for side in size))).reshape(3, -1)
    there = np.linalg.inv(series_affine()[:3, :3]) @ corners
    return np.ceil(np.ptp(there, axis=1)).astype(int)


def label(mask, grid):
    """A mask at the voxels of another image: 1 where there would be most of it."""
    import nibabel
    from nibabel.processing import resample_from_to

    share = nibabel.Nifti1Image(np.asarray(mask.dataobj, np.float32), mask.affine)
    there = np.asarray(resample_from_to(share, grid, order=1).dataobj) > 0.5
    return nibabel.Nifti1Image(there.astype(np.uint8), grid.affine)


def dice(mask, other):
    """Of two images on one grid."""
    one, two = (np.asarray(image.dataobj) == 1 for image in (mask, other))
    return 2 * (one & two).sum() / (one.sum() + two.sum())


def measure(folder):
    """A line for each scan."""
    import nibabel

    names = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "truth").iterdir())
    said, truth = (
        {name: nibabel.load(folder / kind / f"{name}.nii.gz") for name in names} for kind in ("masks", "truth")
    )
    print(f"{'':<22}{'distance mm':>12}{'Dice':>9}{'of the truth':>15}")
    for name in names:
        corners = np.array(np.meshgrid(*([0, side - 1] for side in said[name].shape))).reshape(3, -1).T
        here, there = (nibabel.affines.apply_affine(kind[name].affine, corners) for kind in (said, truth))
        found, most = (dice(kind["plain"], label(kind[name], kind["plain"])) for kind in (said, truth))
        apart = np.linalg.norm(here - there, axis=1).max()
        print(f"{name:<22}{apart:>12.1e}{found:>9.4f}{most:>15.4f}", flush=True)
    print(f"Dice of the mask of the scan as it is with the true one: {dice(said['plain'], truth['plain']):.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        if not (folder / "brain.yaml").is_file():
            write(folder)
        import pipelines

        pipelines.run(folder / "brain.yaml", runs=folder / "runs", train={"epochs": arguments.epochs})
        scans = sorted((folder / "scans").iterdir())
        command = [sys.executable, "-c", PREDICT, "predict", "segment/brain", *scans, "--masks", folder / "masks"]
        subprocess.run([*command, "--runs", folder / "runs"], check=True, cwd=ROOT)
        measure(folder)


if __name__ == "__main__":
    main()
