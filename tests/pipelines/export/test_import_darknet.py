"""Darknet's files: there and back, and what OpenCV's own reader makes of those that we write."""

import keras
import numpy as np
import pytest

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.models import yolo
from cnn_keras.ops import boxes as box
from cnn_keras.weights import darknet, darknet_numbers, pretrained
from tests.conftest import cnn

# Keras 3.15 writes variables by a conversion that NumPy 2 frowns on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SLOW = pytest.mark.slow
NETWORKS = [
    pytest.param("yolo.yolo_small", {"classes": 3, "objective": "squared"}, id="small"),
    pytest.param("yolo.yolo_small", {"classes": 3, "filters": 4}, id="small-ciou"),
    pytest.param("yolo.yolov3_tiny", {"classes": 3}, id="yolov3_tiny"),
    pytest.param("yolo.yolov2_tiny", {"classes": 3, "last": 512}, id="yolov2_tiny", marks=SLOW),
    pytest.param("yolo.yolov2", {"classes": 3}, id="yolov2", marks=SLOW),
    pytest.param("yolo.yolov3", {"classes": 3}, id="yolov3", marks=SLOW),
    pytest.param("darknet.darknet19", {"classes": 7}, id="darknet19", marks=SLOW),
    pytest.param("darknet.darknet53", {"classes": 7}, id="darknet53", marks=SLOW),
]


def random(network):
    """Weights drawn so that every part tells: statistics and scales too, and maps that neither vanish nor explode."""
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            drawn = rng.uniform(0.6, 1.2, size), rng.normal(0, 0.2, size), rng.normal(0, 0.2, size)
            layer.set_weights([*drawn, rng.uniform(0.5, 1.5, size)])
        elif layer.weights:
            kernel, *bias = layer.get_weights()
            scale = 1.2 / np.sqrt(np.prod(kernel.shape[:-1]))
            layer.set_weights([rng.normal(0, scale, kernel.shape), *(rng.normal(0, 0.3, each.shape) for each in bias)])
    return network


@pytest.fixture
def written(tmp_path):
    """Build a network of random weights, 64 pixels high and 96 wide, and write its two files."""

    def write(name, arguments):
        network = random(models.build(name, input_shape=(64, 96, 3), **arguments))
        darknet.save(network, tmp_path / "net.cfg", tmp_path / "net.weights")
        return network, tmp_path / "net.cfg", tmp_path / "net.weights"

    return write


def picture():
    return np.random.default_rng(1).random((1, 64, 96, 3)).astype("float32")


@pytest.mark.parametrize(("name", "arguments"), NETWORKS)
def test_opencv_reads_what_we_write_and_sees_the_same(name, arguments, written):
    network, cfg, weights = written(name, arguments)
    answers = opencv(cfg, weights)
    outputs = network(picture(), training=False)
    if not isinstance(outputs, dict):
        np.testing.assert_allclose(answers.ravel(), keras.ops.softmax(outputs)[0], atol=1e-4)
        return
    boxes, scores = yolo.decode(network, outputs)
    theirs = box.cxcywh_to_xyxy(answers[:, :4])  # x, y, width, height, p_c, and p_c times each class
    # Random weights of fifty layers reach our bound of exp(±5) on sides, which OpenCV does not have.
    np.testing.assert_allclose(box.clip(theirs), boxes[0], atol=4e-3 if name == "yolo.yolov3" else 1e-4)
    np.testing.assert_allclose(answers[:, 5:], kept(theirs, scores[0], name), atol=1e-4)
    assert np.ptp(scores) > 0.1  # the network is not one that says the same everywhere
    threshold = float(np.median(scores))
    darknet.save(network, cfg, weights, threshold=threshold)
    wanted = kept(theirs, np.where(scores[0] > threshold, scores[0], 0), name)
    sure = np.abs(scores[0] - threshold) > 1e-4
    np.testing.assert_allclose(opencv(cfg, weights)[:, 5:][sure], wanted[sure], atol=1e-4)


def opencv(cfg, weights):
    """What OpenCV makes of the picture, by the files as they were written: candidates of all scales, or classes."""
    import cv2

    network = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    network.setInput(picture().transpose(0, 3, 1, 2))
    return np.concatenate([np.array(part) for part in network.forward(network.getUnconnectedOutLayersNames())])


def kept(boxes, scores, name):
    """Scores (A, classes) as OpenCV leaves them: in v2, 0 where a likelier box of the class overlaps by over 0.4."""
    scores, overlap = np.array(scores), box.pairwise_iou(boxes, boxes).numpy()
    for column in scores.T if "yolov2" in name else ():
        chosen = []
        for row in np.argsort(-column):
            if (overlap[row, chosen] > 0.4).any():
                column[row] = 0
            else:
                chosen.append(row)
    return scores


@pytest.mark.parametrize(("name", "arguments"), NETWORKS)
def test_a_network_comes_back_as_it_was(name, arguments, written):
    network, cfg, weights = written(name, arguments)
    found, given, again = darknet.load(cfg, weights)
    assert found == name
    assert {key: given[key] for key in arguments} == arguments
    for ours, theirs in zip(network.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if name.startswith("yolo."):
        for ours, theirs in zip(*(yolo.decode(each, each(picture())) for each in (network, again)), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)  # anchors are written to seven digits


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    network = random(models.build("yolo.yolo_small", input_shape=(64, 64, 3), classes=3, filters=2))
    darknet.save(network, folder / "net.cfg", folder / "net.weights")
    return network, folder / "net.cfg", folder / "net.weights"


def test_numbers_stand_as_darknet_writes_them(small):
    """Version 0.2.0, images seen in 64 bits; then β, γ, mean, variance of the first convolution, and its kernel."""
    network, _, weights = small
    data = weights.read_bytes()
    assert np.frombuffer(data, "<i4", 5).tolist() == [0, 2, 0, 0, 0]
    gamma, beta, mean, variance = network.get_layer("conv1_norm").get_weights()
    expected = [*beta, *gamma, *mean, *variance, network.get_layer("conv1").get_weights()[0][0, 1, 2, 0]]
    numbers = np.frombuffer(data, "<f4", offset=20)
    np.testing.assert_array_equal(numbers[[*range(8), 8 + 2 * 9 + 1]], np.array(expected, "float32"))


def test_old_files_count_images_in_32_bits(small, tmp_path):
    network, _, weights = small
    (tmp_path / "old.weights").write_bytes(np.array([0, 1, 0, 7], "<i4").tobytes() + weights.read_bytes()[20:])
    again = models.build("yolo.yolo_small", input_shape=(64, 64, 3), classes=3, filters=2)
    assert darknet_numbers.read(again, tmp_path / "old.weights") == ()
    np.testing.assert_array_equal(
        again(np.ones((1, 64, 64, 3)))["stride8"], network(np.ones((1, 64, 64, 3)))["stride8"]
    )


def test_other_classes_and_first_layers_leave_the_rest_fresh(small, tmp_path):
    network, _, weights = small
    arguments = {"input_shape": (64, 64, 3), "classes": 5, "filters": 2}
    again = models.build("yolo.yolo_small", weights=weights, **arguments)  # by `cnn_keras.weights.pretrained`
    heads = [layer.name for layer in again.layers if isinstance(layer, keras.layers.Conv2D) and layer.use_bias]
    last = max(int(layer.name[4:]) for layer in again.layers if isinstance(layer, keras.layers.Conv2D))
    assert set(pretrained.load(again, "yolo.yolo_small", weights)) == set(heads)
    for name in {f"conv{number}" for number in range(1, last + 1)} - set(heads):
        np.testing.assert_array_equal(again.get_layer(name).kernel, network.get_layer(name).kernel)
    first = sum(np.size(weight) for name in ("conv1_norm", "conv1") for weight in network.get_layer(name).get_weights())
    (tmp_path / "small.conv.1").write_bytes(weights.read_bytes()[: 20 + 4 * first])
    again = models.build("yolo.yolo_small", **arguments)
    fresh = pretrained.load(again, "yolo.yolo_small", tmp_path / "small.conv.1")
    assert fresh == tuple(f"conv{number}" for number in range(2, last + 1))
    np.testing.assert_array_equal(again.get_layer("conv1").kernel, network.get_layer("conv1").kernel)


@pytest.mark.parametrize(("cut", "added"), [(4, b""), (1, b""), (None, b"1234")])
def test_files_of_another_length_are_refused_and_nothing_is_copied(small, tmp_path, cut, added):
    network, _, weights = small
    data = weights.read_bytes()
    (tmp_path / "wrong.weights").write_bytes(data[: len(data) - (cut or 0)] + added)
    before = network.get_weights()
    with pytest.raises(Fault, match="another network's, or was cut off"):
        darknet_numbers.read(network, tmp_path / "wrong.weights")
    for ours, kept in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[net]", "[data]"), r"cfg must begin with \[net\], got \[data\]"),
        (("[maxpool]", "[dropout]"), r"as layer 1, got \[dropout\]"),
        (("activation=leaky", "activation=mish"), "as layer 0, got .*activation=mish"),
        (("[upsample]", "[yolo]"), "the settings that Darknet wants, got KeyError.'anchors'."),
        (("[upsample]", "[region]"), "got 1 sections .region. and 2 sections .yolo."),
        (("classes=3", "classes"), "lines of .section. and key=value, got 'classes'"),
        (("pad=1", "pad=0"), "padding=1 as layer 0, got .*padding=0 in"),
        (("stride=1\n\n[conv", "padding=0\nstride=1\n\n[conv"), r"as layer 11, got \[maxpool\] .*padding=0"),
        (
            ("filters=16\n", "filters=16\nxnor=1\n"),
            r"have xnor=0 in layer 0 \[convolutional\], got xnor=1 in .*net.cfg",
        ),
        (("filters=16\n", "filters=16\ndilation=2\n"), "have dilation=1 in layer 0 .* got dilation=2"),
        (("filters=16\n", "filters=16\ngroups=4\n"), "have groups=1 in layer 0 .* got groups=4"),
        (("filters=16\n", "filters=16\nshare_index=2\n"), "have no unknown key in layer .* got share_index=2"),
        (("[maxpool]", "[maxpool]\nstride_x=1"), "have no unknown key in layer .* got stride_x=1"),
        (("[route]", "[route]\ngroups=2"), r"have groups=1 in layer 17 \[route\], got groups=2"),
        (("[upsample]", "[upsample]\nscale=2"), r"have scale=1 in layer 19 \[upsample\], got scale=2"),
        (("[yolo]", "[yolo]\nnew_coords=1"), r"have new_coords=0 in layer 16 \[yolo\], got new_coords=1"),
        (("scale_x_y=1.0", "scale_x_y=1.05"), r"\[yolo\] scale_x_y=2 as layer 16, got \[yolo\] scale_x_y=1.05"),
    ],
)
def test_a_description_of_another_network_is_refused(change, message, tmp_path):
    network = models.build("yolo.yolov3_tiny", input_shape=(64, 64, 3), classes=3)
    text = darknet.as_cfg(network)
    assert change[0] in text
    (tmp_path / "net.cfg").write_text(text.replace(*change))
    with pytest.raises(Fault, match=message):
        darknet.load(tmp_path / "net.cfg", tmp_path / "none.weights")


def test_keys_that_only_train_or_say_what_is_so_anyhow_change_nothing(small, tmp_path):
    network, cfg, weights = small
    text = cfg.read_text().replace("[net]\n", "[net]\nmomentum=0.9\npolicy=steps\n")
    text = text.replace("pad=1\n", "pad=1\ngroups=1\ndilation=1\nxnor=0\nlearning_rate=0.1\nstopbackward=1\n")
    text = text.replace("[yolo]\n", "[yolo]\niou_loss=ciou\nnms_kind=greedynms\nnew_coords=0\nmax_delta=5\n")
    (tmp_path / "net.cfg").write_text(text)
    again = darknet.load(tmp_path / "net.cfg", weights)[2]
    for ours, theirs in zip(network.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_files_that_are_not_there_and_networks_without_words_are_refused(tmp_path):
    with pytest.raises(Fault, match=r"none\.cfg must be a file of Darknet's, got No such file"):
        darknet.load(tmp_path / "none.cfg", tmp_path / "none.weights")
    with pytest.raises(Fault, match="must be one of Darknet's, got lenet5_modern with a"):
        darknet.as_cfg(models.build("lenet.lenet5_modern"))
    with pytest.raises(Fault, match="objective must be squared"):
        darknet.as_cfg(models.build("yolo.yolov2_tiny", input_shape=(64, 64, 3), objective="ciou"))


@pytest.mark.slow
def test_the_command_makes_a_keras_file(small, tmp_path, capsys):
    network, cfg, weights = small
    assert cnn("import-weights", "darknet", cfg, weights, "-o", tmp_path / "model.keras") == 0
    assert "yolo.yolo_small" in capsys.readouterr().out
    model = keras.saving.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    np.testing.assert_allclose(model(images)["stride16"], network(images / 255)["stride16"], atol=1e-4)
    assert cnn("import-weights", "darknet", cfg, weights, "-o", tmp_path / "model.h5") == Fault.INPUT
