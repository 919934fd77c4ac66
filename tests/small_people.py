"""A fixture, for the tests that name this file in `pytest_plugins`: an embedder of twelve people, run and exported."""

import pytest

from tests.conftest import WHOLE, cnn

RECIPE = """\
task: verify
data: {source: folder, path: people, size: [24, 20], channels: 1, validation: 0.17, calibration: 0.25, test: 0.25}
augment: [mirror, {affine: {rotate: 5}}]
model: {builder: facenet.small, filters: 4, depths: [1, 1], dimension: 16, standardised: true, mirrored: true}
train: {epochs: 2, steps: 4, batch_size: 12, each: 3, learning_rate: 3e-3}
evaluate: {far: 0.1, draws: 20, worst: 4}
"""


def write(root):
    """Twelve people of scikit-learn's digits: every one a digit, or its negative, in six photographs."""
    from PIL import Image
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for person in range(12):
        (root / "people" / f"p{person}").mkdir(parents=True)
        for row, image in enumerate(images[labels == person % 10][:6]):
            pixels = (image.reshape(8, 8) * 15.9).astype("uint8")
            pixels = pixels if person < 10 else 255 - pixels
            Image.fromarray(pixels).resize((20, 24)).save(root / "people" / f"p{person}" / f"{row}.png")
    (root / "small.yaml").write_text(RECIPE)


@pytest.fixture(scope="session", params=WHOLE)
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    write(root)
    assert cnn("run", root / "small.yaml", "--runs", root / "runs") == 0
    return root
