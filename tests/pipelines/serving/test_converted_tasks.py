"""Networks of tasks whose own tests convert none, served without TensorFlow: the answers are the SavedModel's."""

import pytest

from tests import tiny_tasks
from tests.conftest import cnn
from tests.converted import assert_served, need
from tests.pipelines.tasks import test_multi_label


def write_labels(folder):
    test_multi_label.write_bands(folder)
    return folder / "bands.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["signals", "verify", "labels"])
def test_a_network_is_served_without_tensorflow(task, tmp_path):
    need("onnx")
    recipe = write_labels(tmp_path) if task == "labels" else tiny_tasks.write(task, tmp_path)
    files = [path.read_bytes() for path in sorted(tmp_path.rglob("*.[jp]*g")) if path.stat().st_size > 10]
    assert cnn("run", recipe, "--runs", tmp_path / "runs") == 0
    assert cnn("export", recipe, "--format", "onnx", "--runs", tmp_path / "runs") == 0
    (run,) = (tmp_path / "runs").glob("*/*")
    assert_served(run, files[:4])
