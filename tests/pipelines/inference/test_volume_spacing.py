"""A segmenter that was trained at one spacing sees a scan at that one, and answers on the scan's own voxels."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from pipelines.inference.prediction import DEFAULT
from pipelines.inference.segmentation import SPACING, VolumeSegmenter

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
