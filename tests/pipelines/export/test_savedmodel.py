"""The exported model: the same answers by every signature, the guard inside, and a Fault when it disagrees."""

import io
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from cnn_keras.data import input_pipeline, records
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.errors import Fault
from pipelines.export import savedmodel
from pipelines.inference import exported_model
from tests.stored_weights import model_bytes, stored_bytes

SHAPE = input_pipeline.Shape((28, 28), 1)


@pytest.fixture(scope="module")
def folder(exported):
    return exported.run / "export" / "small" / "1"


@pytest.fixture(scope="module")
def signatures(folder):
    loaded = tf.saved_model.load(str(folder))
    yield loaded.signatures  # the loaded model must outlive its signatures
    del loaded


@pytest.fixture(scope="module")
def examples(exported):
    return list(records.read(exported.run / "prepare", "test").take(5).as_numpy_iterator())


def test_bytes_tensors_and_tf_examples_get_the_same_answer(exported, signatures, examples):
    encoded = tf.constant([example["image"] for example in examples])
    images = input_pipeline.arrays(exported.run / "prepare", "test", SHAPE, limit=5).images
    by_bytes = signatures["serving_default"](image_bytes=encoded)
    by_tensor = signatures["serving_tensor"](image=tf.constant(images))
    for name in ("probabilities", "class_id", "label"):
        np.testing.assert_array_equal(by_bytes[name], by_tensor[name])
    serialized = [savedmodel.as_example(example["image"]) for example in examples]
    ranked = signatures["serving_classify"](inputs=tf.constant(serialized))
    np.testing.assert_array_equal(ranked["classes"][:, 0], by_bytes["label"])
    np.testing.assert_array_equal(ranked["scores"], -np.sort(-by_bytes["probabilities"].numpy(), axis=1))


def test_names_of_the_signatures_are_the_contract(signatures):
    described = {
        name: (
            {key: spec.dtype.name for key, spec in signature.structured_input_signature[1].items()},
            {key: spec.dtype.name for key, spec in signature.structured_outputs.items()},
        )
        for name, signature in signatures.items()
    }
    answer = {"probabilities": "float32", "class_id": "int64", "label": "string"}
    assert described == {
        "serving_default": ({"image_bytes": "string"}, answer),
        "serving_tensor": ({"image": "uint8"}, answer),
        "serving_classify": ({"inputs": "string"}, {"classes": "string", "scores": "float32"}),
    }


def test_each_weight_is_stored_once(exported, folder):
    assert stored_bytes(folder) == model_bytes(exported.run / "train" / "model.keras")


def test_any_size_of_image_is_framed_inside_the_graph(signatures):
    generator = np.random.default_rng(0)
    for size in ((1, 1, 1), (300, 7, 3), (28, 28, 1)):
        image = encode_png(generator.integers(0, 255, size, dtype=np.uint8))
        answer = signatures["serving_default"](image_bytes=tf.constant([image]))
        assert answer["probabilities"].numpy().sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + bytes(8)])
def test_what_is_no_image_is_refused_inside_the_graph(signatures, data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        signatures["serving_default"](image_bytes=tf.constant([data]))


def test_a_model_that_disagrees_is_not_exported(exported, folder):
    model = keras.models.load_model(exported.run / "train" / "model.keras", compile=False)
    model.set_weights([weight + 0.1 for weight in model.get_weights()])
    with pytest.raises(Fault, match="must agree") as fault:
        savedmodel.compare_classifier(model, folder, exported.run / "prepare", "test", SHAPE, tolerance=1e-5)
    assert fault.value.code == Fault.GATE


def test_warm_up_requests_can_be_replayed_through_every_signature(folder, signatures):
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    replayed = set()
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        name = request.model_spec.signature_name
        signatures[name](**{key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()})
        replayed.add(name)
    assert replayed == set(signatures)


def test_a_model_is_saved_without_its_optimizer(tmp_path):
    entry = keras.Input((3,))
    model = keras.Model(entry, keras.layers.Dense(2)(entry))
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    savedmodel.save_keras(model, tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.compiled
    np.testing.assert_array_equal(loaded(np.eye(3)), model(np.eye(3)))
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert "optimizer" not in h5py.File(io.BytesIO(archive.read("model.weights.h5")))


def test_versions_count_up(tmp_path):
    assert savedmodel.next_version(tmp_path) == 1
    for name in ("1", "10", "2", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    assert savedmodel.next_version(tmp_path) == 11
    assert exported_model.newest(tmp_path) == tmp_path / "10"


def test_a_model_is_found_by_its_recipe_or_its_folder(exported, folder):
    runs = exported.root / "runs"
    assert exported_model.locate("classify/small", runs) == folder.parent
    assert exported_model.locate(str(folder.parent), runs) == folder.parent
    assert exported_model.locate(str(folder), runs) == folder
    with pytest.raises(Fault, match="cnn run RECIPE"):
        exported_model.locate("classify/none", runs)
