"""Networks in other formats: converted, loaded by their own engine, proved, and refused where that cannot be."""

import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from cnn_keras.data import input_pipeline
from cnn_keras.errors import Fault
from pipelines.engine import formats as engine_formats
from pipelines.engine import recipe as recipes
from pipelines.engine.stages import Run
from pipelines.export import formats, runtimes, savedmodel
from pipelines.export.runtimes import FORMATS, Network, Target
from pipelines.tasks import classify
from tests import tiny_tasks
from tests.conftest import cnn
from tests.converted import missing, need, read_elsewhere
from tests.docs.documents import ROOT

TARGETS = [Target(name, precision) for name, kind in FORMATS.items() for precision in kind.precisions]


@pytest.fixture(scope="module")
def converted(exported):
    need()
    quantized = [name for name in FORMATS if not missing(name, "int8")]
    wanted = (("float32,float16", FORMATS), ("bfloat16", ["openvino"]), ("int8", quantized))
    for precisions, names in ((precisions, ",".join(names)) for precisions, names in wanted):
        assert exported.cnn("export", exported.recipe, "--format", names, "--precision", precisions) == 0
    yield exported.run / "formats"
    shutil.rmtree(exported.run / "formats")


@pytest.fixture(scope="module")
def images(exported):
    return input_pipeline.arrays(exported.run / "prepare", "test", input_pipeline.Shape((28, 28), 1)).images


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_converted_classifier_answers_as_the_trained_one_for_any_number_of_rows(target, exported, converted, images):
    need(target.format, precision=target.precision)
    model = savedmodel.load_keras(exported.run / "train" / "model.keras")
    network = Network(converted / str(target), threads=1)
    for rows in (1, 5, 3):
        expected = savedmodel.probabilities(model, images[:rows]).numpy()
        answer = network(images[:rows])["probabilities"]
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, expected, atol=1e-5 if target.precision == "float32" else 0.05)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_description_says_what_was_proved(target, exported, converted, images):
    need(target.format, precision=target.precision)
    described = json.loads((converted / str(target) / "network.json").read_text())
    proof = described["proof"]
    assert described["classes"] == ["0", "1", "2", "3"]
    assert proof["examples"] == proof["decisions"] == len(images)
    assert proof["interval"][0] <= proof["value"] <= proof["interval"][1]
    report = json.loads((exported.run / "evaluate" / "report.json").read_text())
    assert proof["original"] == pytest.approx(report["accuracy"])
    assert described["bytes"] == runtimes.size(converted / str(target)) > 10_000


def test_half_precision_halves_the_weights(converted):
    for name in FORMATS:
        whole, half = (runtimes.size(converted / f"{name}-{precision}") for precision in ("float32", "float16"))
        assert half < 0.7 * whole


def test_int8_is_calibrated_on_the_training_split_alone_and_on_all_of_its_classes(exported):
    run = Run(recipes.load(str(exported.recipe)), Console(quiet=True), exported.root / "runs")
    convertible = classify.convertible(run)
    rows = engine_formats.calibration_rows(run, convertible)
    splits = {
        split: input_pipeline.arrays(exported.run / "prepare", split, input_pipeline.Shape((28, 28), 1))
        for split in ("train", "validation", "test")
    }
    label = {
        image.tobytes(): label for image, label in zip(splits["train"].images, splits["train"].labels, strict=True)
    }
    assert len(rows) == len(label)  # fewer than export.calibration
    assert {label[row.tobytes()] for row in rows} == {0, 1, 2, 3}
    few = engine_formats._sample(rows, 12, seed=0)
    assert len({label[row.tobytes()] for row in few}) > 1  # they are stored one class after the other


def test_what_loses_more_than_allowed_is_not_written(exported, converted, monkeypatch):
    def other(convertible, folder, target, rows):
        wrong = formats.Convertible(**{**vars(convertible), "answer": lambda batch: flipped(convertible.answer(batch))})
        write(wrong, folder, target, rows)

    def flipped(outputs):
        return {name: tf.reverse(value, [-1]) for name, value in outputs.items()}

    write = formats.write
    monkeypatch.setattr(formats, "write", other)
    before = (converted / "litert-float32" / "network.json").read_bytes()
    assert exported.cnn("export", exported.recipe, "--format", "litert") == Fault.GATE
    assert (converted / "litert-float32" / "network.json").read_bytes() == before
    assert not list(exported.run.glob(".formats-*"))


def test_a_network_that_ends_the_process_that_asks_it_is_refused(exported, converted, monkeypatch, tmp_path, capsys):
    """`ai_edge_litert` is one here whose interpreter aborts; the process that exports has the real one already."""
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").touch()
    (tmp_path / "ai_edge_litert" / "interpreter.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    before = (converted / "litert-float32" / "network.json").read_bytes()
    assert exported.cnn("export", exported.recipe, "--format", "litert") == Fault.INPUT
    assert "SIGABRT" in capsys.readouterr().err
    assert (converted / "litert-float32" / "network.json").read_bytes() == before
    assert not list(exported.run.glob(".formats-*"))


@pytest.mark.parametrize(
    "arguments",
    [("--format", "onxx"), ("--format", "litert", "--precision", "bfloat16"), ("--precision", "float16")],
    ids=["format", "precision", "savedmodel"],
)
def test_what_cannot_be_converted_is_said_before_anything_is_computed(arguments, exported, tmp_path):
    need("litert")
    assert exported.cnn("export", exported.recipe, "--set", "name=other", *arguments) == Fault.INPUT
    assert not (exported.run.parent / "other" / "prepare").exists()


def test_a_missing_package_is_named_with_the_extra_that_has_it(monkeypatch):
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Fault, match=r"cnn-keras\[edge\]"):
        runtimes.targets(["onnx"], ["float32"])


def test_openvino_in_int8_takes_nncf_beside_the_others(monkeypatch):
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None if name == "nncf" else name)
    runtimes.targets(["openvino"], ["float32"])
    with pytest.raises(Fault, match="nncf"):
        runtimes.targets(["openvino"], ["float32", "int8"])


def test_a_convolution_in_groups_is_refused_by_its_name():
    image = keras.Input((8, 8, 4), name="image")
    network = keras.Model(image, keras.layers.Conv2D(8, 3, groups=2, name="in_groups")(image))
    for name in ("onnx", "openvino"):
        with pytest.raises(Fault, match="in_groups"):
            formats.check(keras.Model(image, network(image)), Target(name, "float32"))
    formats.check(network, Target("litert", "float32"))


def test_a_convolution_in_three_dimensions_is_refused_for_litert_in_int8():
    volume = keras.Input((8, 8, 8, 1), name="volume")
    network = keras.Model(volume, keras.layers.Conv3D(2, 3, name="in_space")(volume))
    with pytest.raises(Fault, match="in_space"):
        formats.check(network, Target("litert", "int8"))
    formats.check(network, Target("litert", "float32"))
    formats.check(network, Target("onnx", "int8"))


def test_what_is_no_network_of_one_tensor_is_refused_before_anything_is_computed(tmp_path):
    need("litert")
    recipe = tiny_tasks.write("stylize", tmp_path)  # of several styles
    assert cnn("export", recipe, "--format", "litert", "--runs", tmp_path / "runs") == Fault.INPUT
    assert not list(tmp_path.glob("runs/*/*/prepare"))


def test_an_exact_gelu_is_converted(tmp_path):
    need("onnx")
    image = keras.Input((6, 6, 3), dtype="uint8", name="image")
    x = keras.layers.Normalization(mean=[100.0] * 3, variance=[900.0] * 3)(image)
    model = keras.Model(image, keras.layers.Dense(4)(keras.layers.Activation("gelu")(keras.layers.Flatten()(x))))
    convertible = bare(model, tf.TensorSpec((None, 6, 6, 3), tf.uint8, name="image"))
    assert_equal(convertible, Target("onnx", "float32"), tmp_path)


def bare(model, tensor):
    """A convertible network of which nothing is measured."""
    return formats.Convertible(
        model=model,
        answer=lambda batch: {"y": model(batch, training=False)},
        tensor=tensor,
        about={"outputs": {"y": ""}},
        examples=lambda split: iter(()),
        changed=lambda one, other: (0, 0),
        score=lambda outputs, truth: None,
        measure=lambda scores: (0.0, (0.0, 0.0)),
        metric="none",
    )


def assert_equal(convertible, target, folder):
    formats.write(convertible, folder, target)
    (folder / "network.json").write_text(json.dumps({**target._asdict(), "outputs": convertible.about["outputs"]}))
    batch = np.random.default_rng(0).integers(0, 256, (3, *convertible.tensor.shape[1:]), np.uint8)
    answer = Network(folder)(batch)
    for name, expected in convertible.answer(tf.constant(batch)).items():
        np.testing.assert_allclose(answer[name], expected, atol=1e-4)


def test_a_file_that_is_no_network_is_a_fault(tmp_path):
    need("onnx", "litert")
    for name in ("onnx", "litert"):
        (tmp_path / FORMATS[name].file).write_bytes(b"no network at all")
        (tmp_path / "network.json").write_text(json.dumps({"format": name, "precision": "float32"}))
        with pytest.raises(Fault):
            Network(tmp_path)


def test_openvino_reports_to_nobody():
    need("openvino")
    script = (
        "import sys\n"
        "events = []\n"
        "watched = ('os.fork', 'subprocess.Popen', 'socket.connect', 'socket.getaddrinfo')\n"
        "sys.addaudithook(lambda event, _: event in watched and events.append(event))\n"
        "from pipelines.export import runtimes\n"
        "runtimes.import_openvino().Core()\n"
        "assert not events, events\n"
        "assert 'tensorflow' not in sys.modules and sys.modules.get('openvino_telemetry') is None\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_onnx_runtime_leaves_no_identifier_of_the_device(tmp_path):
    """With its import it would create one below the home folder; it does nothing where CI is set."""
    need("onnx")
    script = (
        "from pipelines.engine.startup import quiet_environment\n"
        "quiet_environment()\n"
        "import onnxruntime, time\n"
        "time.sleep(0.5)\n"
    )
    suppressing = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI", "GITHUB_ACTIONS")
    environment = {key: value for key, value in os.environ.items() if key not in suppressing}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.rglob("*onnxruntime*")) == []


@pytest.mark.parametrize("name", FORMATS)
def test_the_reader_in_the_documentation_reads_every_format(name, exported, converted):
    picture = sorted((exported.photos / "3").glob("*.png"))[0]
    answer = read_elsewhere(converted / f"{name}-float32", picture)
    model = savedmodel.load_keras(exported.run / "train" / "model.keras")
    image = tf.image.resize(tf.io.decode_png(picture.read_bytes(), channels=1), (28, 28), antialias=True)
    expected = savedmodel.probabilities(model, np.round(image).astype(np.uint8)[None])[0]
    assert list(answer) == ["probabilities"]
    np.testing.assert_allclose(answer["probabilities"], expected, atol=0.02)
