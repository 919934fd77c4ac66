"""What exports and files of data do against expectation; docs/explanation/surprises.md has the table."""

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from sklearn.datasets import _lfw

from cnn_keras.data import pk_sampler

layers = keras.layers


def model(*inner, shape=(8, 8, 4)):
    made = keras.Sequential([keras.Input(shape), *inner])
    made(np.zeros((1, *shape), np.float32))
    return made


def example(shape=(8, 8, 4)):
    return np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)


def normalization():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, size=(100, 8, 8, 4)).astype(np.float32))
    return layer


def exact_gelu():
    return layers.Activation(lambda x: keras.activations.gelu(x, approximate=False))


def onnx_answers(made, path):
    """What ONNX Runtime makes of the file that Keras has exported without an exception."""
    made.export(str(path), format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {session.get_inputs()[0].name: example()})[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")  # of tf2onnx
def test_keras_exports_onnx_files_that_do_not_run(tmp_path):
    plain = model(layers.Conv2D(8, 3))
    np.testing.assert_allclose(onnx_answers(plain, tmp_path / "plain.onnx"), plain(example()), atol=1e-5)
    for name, made in {
        "groups": model(layers.Conv2D(8, 3, groups=2)),
        "gelu": model(layers.Dense(4), exact_gelu()),
        "flip": model(layers.RandomFlip()),
    }.items():
        with pytest.raises(Exception, match="INVALID_GRAPH"):
            onnx_answers(made, tmp_path / f"{name}.onnx")
    with pytest.raises(ValueError, match="missing from input feed"):
        onnx_answers(model(normalization(), layers.Dense(3)), tmp_path / "normalization.onnx")


def test_augmentation_inside_a_model_is_at_work_where_it_is_called_or_exported(tmp_path):
    made = model(layers.RandomBrightness((0.2, 0.9), value_range=(0, 1)))
    pixels = np.full((1, 8, 8, 4), 0.1, np.float32)
    np.testing.assert_array_equal(made.predict(pixels, verbose=0), pixels)
    assert np.abs(made(pixels) - pixels).max() > 0.1
    made.export(str(tmp_path / "exported"), verbose=False)
    assert np.abs(tf.saved_model.load(str(tmp_path / "exported")).serve(pixels) - pixels).max() > 0.1


def test_quantize_touches_dense_layers_alone():
    made = model(layers.Conv2D(8, 3), layers.DepthwiseConv2D(3), layers.Flatten(), layers.Dense(4))
    with pytest.warns(UserWarning, match="does not have a `quantize` method"):
        made.quantize("int8")
    policies = {type(layer).__name__: layer.dtype_policy.name for layer in made.layers}
    assert policies.pop("Dense") == "int8_from_float32"
    assert set(policies.values()) == {"float32"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have")
def test_int4_makes_a_litert_file_larger_and_int8_and_float8_none(tmp_path):
    def size(mode):
        made = model(layers.Dense(512), layers.Dense(10), shape=(256,))
        if mode:
            made.quantize(mode)
        made.export(str(tmp_path / f"{mode}.tflite"), format="litert", verbose=False)
        return (tmp_path / f"{mode}.tflite").stat().st_size

    assert size("int4") > 1.3 * size(None)
    for mode in ("int8", "float8"):
        with pytest.raises(Exception, match=r"error|Could not translate"):
            size(mode)


def test_keras_export_stores_the_weights_twice(tmp_path):
    made = model(layers.Dense(512), layers.Dense(512), shape=(256,))

    def stored(folder):
        return sum(file.stat().st_size for file in folder.rglob("variables.data*"))

    made.export(str(tmp_path / "exported"), verbose=False)
    tf.saved_model.save(made, str(tmp_path / "saved"))
    assert stored(tmp_path / "saved") == pytest.approx(4 * made.count_params(), rel=0.01)
    assert stored(tmp_path / "exported") == pytest.approx(8 * made.count_params(), rel=0.01)


@pytest.fixture
def records(tmp_path):
    """Five records of 100 bytes in a TFRecord file, and what is read after its bytes are changed."""
    path = str(tmp_path / "records")
    with tf.io.TFRecordWriter(path) as writer:
        for _ in range(5):
            writer.write(b"x" * 100)
    data = (tmp_path / "records").read_bytes()

    def read(changed, **options):
        (tmp_path / "records").write_bytes(changed)
        whole = tf.data.TFRecordDataset(path)
        return sum(1 for _ in (whole.ignore_errors() if options else whole))

    return data, len(data) // 5, read


def test_a_tfrecord_file_cut_at_a_border_or_in_a_header_ends_as_if_it_were_whole(records):
    data, size, read = records
    assert read(data) == 5
    assert read(data[: 3 * size]) == read(data[: 3 * size + 7]) == 3
    with pytest.raises(tf.errors.DataLossError):
        read(data[: 3 * size + 50])


def test_ignore_errors_gives_up_the_rest_of_a_tfrecord_file(records):
    data, size, read = records
    flipped = bytearray(data)
    flipped[2 * size + 20] ^= 1
    with pytest.raises(tf.errors.DataLossError):
        read(bytes(flipped))
    assert read(bytes(flipped), ignore=True) == 2  # two more whole ones follow


def test_scikit_learn_takes_both_heads_of_the_pairs_file(tmp_path):
    for name, count in (("Ann", 2), ("Bob", 2)):
        (tmp_path / name).mkdir()
        for number in range(1, count + 1):
            tf.io.write_file(
                str(tmp_path / name / f"{name}_{number:04}.jpg"), tf.io.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
            )
    for head in ("1", "1\t1"):
        (tmp_path / "pairs.txt").write_text(f"{head}\nAnn\t1\t2\nAnn\t1\tBob\t2\n")
        _, target, _ = _lfw._fetch_lfw_pairs(str(tmp_path / "pairs.txt"), str(tmp_path), (slice(0, 8), slice(0, 8)))
        np.testing.assert_array_equal(target, [1, 0])
        pairs = pk_sampler.lfw_pairs(tmp_path / "pairs.txt")
        assert [pair.same for pair in pairs] == [True, False]
