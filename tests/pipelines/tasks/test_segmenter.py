"""Segmenters: what they start from, what their loss counts, how they are asked, and figures worked by hand."""

import csv
import io
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.losses import segmentation
from cnn_keras.ops.test_time_augmentation import WHOLE, whole_views
from pipelines.engine import recipe as recipes
from pipelines.plots import overlays
from pipelines.tasks.segment import config, lesion_report, report, tally
from pipelines.tasks.segment import model as segment_model
from pipelines.tasks.segment.tally import Answer
from pipelines.tasks.segment.training import augmentation

FACTS = {"classes": ["ground", "thing"], "normalization": {"axis": -1, "mean": [100.0], "variance": [400.0]}}

FLIPPED = whole_views("flip")


def recipe_of(model, *, train=None, **data):
    given = {"source": "nuclei", "size": (32, 32), "channels": 1, **data}
    settings = config.Train(**(train or {}))
    named = recipes.Model(**model)
    return SimpleNamespace(data=config.Data(**given), model=named, train=settings, name="mine", augment=())


SMALL = {"builder": "unet.unet_small", "filters": 2, "depth": 2}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return segment_model.assemble(recipe_of(SMALL), FACTS)


def test_a_model_takes_pixels_and_normalises_them_itself(model):
    assert (model.input.name, model.input.dtype) == ("image", "uint8")
    picture = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 1)).astype(np.uint8)
    logits = segment_model.network_of(model)((picture - 100.0) / 20.0)
    np.testing.assert_allclose(model(picture), logits, atol=1e-5)


def test_volumes_come_as_floats():
    wanted = {"builder": "unet.unet3d_small", "filters": 2}
    data = {"size": (8, 8, 8), "fit": "patch", "normalize": "each"}
    made = segment_model.assemble(recipe_of(wanted, **data), {**FACTS, "normalization": None})
    assert (made.input.name, made.input.dtype) == ("volume", "float32")
    assert made(np.zeros((1, 8, 8, 8, 1), "float32")).shape == (1, 8, 8, 8, 2)


@pytest.mark.parametrize("loss", [{"dice": 1.0}, {"cross_entropy": 0.0, "focal": 2.0, "class_weights": "balanced"}])
def test_what_is_minimised_is_the_sum_of_the_terms_by_their_weights(model, loss):
    settings = config.Loss(**loss)
    trained = segment_model.trainable(model, settings, pixels={"ground": 30, "thing": 10})
    drawn = np.random.default_rng(0)
    logits = drawn.normal(size=(2, 32, 32, 2)).astype("float32")
    masks = drawn.integers(0, 3, (2, 32, 32, 1)).astype(np.uint8)
    labels = masks[..., 0].astype(int) - 1
    found = float(trained.compute_loss(y=tf.constant(masks), y_pred=tf.constant(logits)))
    weights = segmentation.balanced_weights([30, 10]) if settings.class_weights else None
    expected = settings.dice * segmentation.dice(labels, logits)
    expected += settings.cross_entropy * segmentation.cross_entropy(labels, logits)
    expected += settings.focal * segmentation.focal(labels, logits, class_weights=weights)
    assert found == pytest.approx(float(expected), rel=1e-5)
    said = {name: float(metric.result()) for name, metric in trained.terms.items()}
    assert said.keys() == {name for name in ("cross_entropy", "dice", "focal") if getattr(settings, name)}
    known = labels >= 0
    both = [((logits.argmax(-1) == k) & (labels == k)).sum() for k in (0, 1)]
    either = [(((logits.argmax(-1) == k) & known) | (labels == k)).sum() for k in (0, 1)]
    assert float(trained.overlap.result()) == pytest.approx(np.mean(np.divide(both, either)), rel=1e-5)


def test_ground_between_things_counts_more(model):
    trained = segment_model.trainable(model, config.Loss(borders=10.0), pixels={"ground": 1, "thing": 1})
    logits = np.random.default_rng(0).normal(size=(1, 32, 32, 2)).astype("float32")
    masks = np.ones((1, 32, 32, 2), np.uint8)
    masks[:, :8, :, 1], masks[:, 8:, :, 1] = 255, 0
    weights = np.where(masks[..., 1] == 255, 11.0, 1.0).astype("float32")
    expected = segmentation.cross_entropy(masks[..., 0].astype(int) - 1, logits, pixel_weights=weights)
    assert float(trained.compute_loss(y=tf.constant(masks), y_pred=tf.constant(logits))) == pytest.approx(
        float(expected)
    )


def test_a_network_without_padding_is_held_to_the_middle_of_the_mask():
    mask = np.arange(2 * 12 * 10).reshape(2, 12, 10, 1)
    np.testing.assert_array_equal(segment_model._middle(mask, (8, 4)), mask[:, 2:10, 3:7])


def test_weights_of_the_wrong_number_are_refused(model):
    with pytest.raises(Fault, match="must be 2 numbers, one for each class, got 3"):
        segment_model.trainable(model, config.Loss(class_weights=(1.0, 2.0, 3.0)), pixels={"ground": 1, "thing": 1})


def test_weights_are_handed_over_by_name_and_dense_ones_become_convolutions():
    shape = {"input_shape": (64, 64, 3), "classes": 3}
    whole = models.build("vgg.vgg11", **shape, hidden=6)
    network = models.build("fcn.fcn32s", **shape, hidden=6, backbone="vgg.vgg11")
    # VGG's map has 2×2 positions here, the convolution 7×7.
    assert segment_model.hand_over(whole, network) == ["fc6", "score32", "logits"]
    np.testing.assert_array_equal(network.get_layer("conv1_1").kernel, whole.get_layer("conv1_1").kernel)
    np.testing.assert_array_equal(network.get_layer("fc7").kernel[0, 0], whole.get_layer("fc7").kernel)
    maps = keras.Input((7, 7, 5))
    convolved = keras.Model(maps, keras.layers.Conv2D(4, 7, name="fc6")(maps))
    flat = keras.Model(maps, keras.layers.Dense(4, name="fc6")(keras.layers.Flatten()(maps)))
    assert segment_model.hand_over(flat, convolved) == []
    given = np.random.default_rng(0).normal(size=(2, 7, 7, 5)).astype("float32")
    np.testing.assert_allclose(convolved(given)[:, 0, 0], flat(given), atol=1e-5)


def test_a_backbone_brings_its_weights_and_its_normalisation(tmp_path):
    keras.utils.set_random_seed(1)
    source = models.build("resnet.resnet20", input_shape=(32, 32, 3), classes=10)
    source.save_weights(tmp_path / "given.weights.h5")
    wanted = {"builder": "unet.on_backbone", "backbone": "resnet.resnet20", "filters": 2}
    wanted["weights"] = str(tmp_path / "given.weights.h5")
    recipe = recipe_of(wanted, channels=3)
    segment_model.check(recipe)
    made = segment_model.network_of(
        segment_model.assemble(recipe, {**FACTS, "normalization": {"axis": None, "mean": 0.0, "variance": 1.0}})
    )
    kernel = "stage3_unit3_conv2"
    np.testing.assert_array_equal(made.get_layer(kernel).kernel, source.get_layer(kernel).kernel)


@pytest.mark.parametrize(
    ("model", "data", "told"),
    [
        ({"builder": "lenet.lenet5_modern"}, {}, "model.builder must be"),
        (
            {"builder": "unet.unet", "filters": 2, "depth": 1},
            {"size": (32, 32)},
            "fit must be patch with unet.unet, which answers for 16×16",
        ),
        ({"builder": "unet.unet_small", "width": 2}, {}, "width must be an argument of unet.unet_small"),
        ({"builder": "unet.unet_small", "filters": "many"}, {}, "must be buildable"),
        ({**SMALL, "weights": "imagenet"}, {}, "unet.unet_small"),
    ],
)
def test_a_network_that_cannot_answer_is_refused_before_any_data_is_read(model, data, told):
    with pytest.raises(Fault, match=told):
        segment_model.check(recipe_of(model, **data))


@pytest.mark.parametrize(
    ("augment", "data", "told"),
    [
        (("mixup",), {}, "augment must not mix"),
        (("mirror",), {"size": (8, 8, 8), "fit": "patch"}, "augment.mirror is for pictures"),
        (({"move": {"turn": [0]}},), {"size": (8, 8, 8), "fit": "patch"}, "augment.move.turn: unknown argument"),
    ],
)
def test_augmentations_that_no_mask_can_follow_are_refused(augment, data, told):
    recipe = recipe_of(SMALL, **data)
    recipe.augment = augment
    with pytest.raises(Fault, match=told):
        augmentation(recipe, lambda: [])


def test_a_volume_and_its_mask_are_turned_together():
    recipe = recipe_of(SMALL, size=(8, 8, 8), fit="patch")
    recipe.augment = ({"move": {"flip": [0, 2], "shift": 0.2}},)
    move = augmentation(recipe, lambda: [])
    values = np.random.default_rng(0).integers(0, 200, (6, 5, 4, 1)).astype("float32")
    found = move({"image": tf.constant(values), "mask": tf.constant(values.astype(np.uint8))}, tf.constant([3, 1]))
    np.testing.assert_array_equal(found["image"].numpy().astype(np.uint8), found["mask"])
    assert (found["image"].numpy() != values).any()


NAMES = ["background", "cat", "dog"]


def answers():
    """Two pictures of 8×8: a cat half found, and a dog called a cat."""
    first, second = np.zeros((8, 8), int), np.zeros((8, 8), int)
    first[:4, :4], second[2:4, 2:4] = 1, 2
    said_first, said_second = np.where(np.arange(8)[:, None] < 2, first, 0), np.where(second == 2, 1, 0)
    second[0] = -1
    return [Answer("first.png", first, said_first, 0.9), Answer("second.png", second, said_second, 0.7)]


@pytest.fixture
def measured(tmp_path):
    counted = tally.tally(answers(), 3, tolerance=1.0)
    baseline = np.diag([100, 16, 4])
    settings = {"baseline": baseline, "before": {"fcn.fcn32s": baseline}, "tolerance": 1.0}
    return counted, report.report(tmp_path, counted, NAMES, **settings), tmp_path


def test_the_report_by_hand(measured):
    _, found, folder = measured
    assert (found["pictures"], found["pixels"]) == (2, 120)
    cat = found["classes"][1]
    assert (cat["iou"], cat["dice"]) == (8 / 20, 16 / 28)
    assert (cat["precision"], cat["recall"]) == (8 / 12, 8 / 16)
    assert found["classes"][2]["dice"] == 0
    assert found["pixel_accuracy"] == (120 - 12) / 120
    assert found["mean_iou"] == pytest.approx((100 / 108 + 8 / 20 + 0) / 3)
    assert found["before"]["fcn.fcn32s"]["mean_iou"] == 1
    low, high = cat["iou_interval"]
    assert 0 <= low <= cat["iou"] <= high <= 1
    assert found["interval"] == "over 2 blocks of 64 pixels"
    assert json.loads((folder / "report.json").read_text())["classes"][1]["name"] == "cat"
    with (folder / "pictures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["first.png", "second.png"]
    assert float(rows[0]["mean_iou"]) == pytest.approx((48 / 56 + 8 / 16) / 2, abs=1e-6)


def test_the_best_and_the_worst_pictures_are_drawn_and_told(measured):
    counted, found, folder = measured
    asked = []

    def pictures_of(rows):
        asked.append(rows)
        given = answers()
        return [(np.zeros((8, 8, 1), np.uint8), given[row].truth, given[row].labels) for row in rows]

    report.draw(folder, counted, NAMES, shown=6, pictures_of=pictures_of)
    assert asked == [[0], [1]]
    for name in ("best.png", "worst.png", "classes.png", "confusion_matrix.png"):
        assert (folder / name).stat().st_size > 0
    console = Console(file=io.StringIO(), width=120)
    report.say(console, found)
    said = console.file.getvalue()
    assert "trained before, fcn.fcn32s: mean IoU 1.000" in said
    assert said.index("dog") < said.index("cat") < said.index("background")  # the worst first


def test_intervals_are_of_pictures_where_there_are_enough():
    many = [one._replace(id=str(number)) for number in range(12) for one in answers()]
    counted = tally.tally(many, 3, tolerance=None)
    assert counted.interval == "over 24 pictures"


def scans(count):
    """Volumes with a lesion that is found but for a plane, one that is missed, and in every second a false one."""
    for number in range(count):
        truth, labels = np.zeros((2, 16, 16, 8), int)
        truth[2:6, 2:6, 2:6] = truth[12, 12, 6] = labels[2:6, 2:6, 2:5] = 1
        labels[13, 3, 3] = 1 - number % 2
        yield Answer(f"case{number}", truth, labels, 0.9, spacing=(1.0, 1.0, 4.0))


def lesions_of(tmp_path, count, **settings):
    wanted = config.Lesions(**settings)
    names = ["background", "lesion"]
    counted = tally.tally(
        scans(count),
        2,
        tolerance=None,
        lesion_classes=lesion_report.numbers(wanted, names),
        overlap=wanted.overlap,
    )
    found = report.report(tmp_path, counted, names, baseline=np.eye(2), before={}, tolerance=None)
    console = Console(file=io.StringIO(), width=200)
    report.say(console, found)
    return found, console.file.getvalue()


def test_lesions_by_hand(tmp_path):
    found, said = lesions_of(tmp_path, 2)
    (row,) = found["lesions"]
    assert (row["lesions"], row["found"], row["claimed_falsely"]) == (4, 2, 1)
    assert (row["sensitivity"], row["false_positives"], row["f1"]) == (0.5, 0.5, 4 / 7)
    assert row["dice"] == pytest.approx(2 * (2 * 48 / (64 + 48)) / 5)
    assert found["lesion_sensitivity"] == row["sensitivity"]
    assert found["lesion_interval"] == "as if lesions were independent"
    assert row["sensitivity_interval"][0] == pytest.approx(0.15, abs=0.005)  # Wilson, 2 of 4
    assert (
        "lesion: 2 of 4 lesions found, 50.0% (15.0% to 85.0%); 0.50 (0.01 to 2.79) false positives for each of 2"
        in said
    )
    with (tmp_path / "pictures_by_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["class"]) for row in rows][:2] == [("case0", "background"), ("case0", "lesion")]
    assert (float(rows[1]["lesions"]), float(rows[1]["found"]), float(rows[1]["false_positives"])) == (2, 1, 1)


def test_lesions_that_overlap_too_little_are_missed_and_claimed_falsely(tmp_path):
    found, _ = lesions_of(tmp_path, 2, overlap=0.9)
    assert (found["lesion_sensitivity"], found["lesion_false_positives"]) == (0, 1.5)


def test_intervals_of_lesions_are_of_pictures_where_there_are_enough(tmp_path):
    found, _ = lesions_of(tmp_path, 24)
    assert found["lesion_interval"] == "over 24 pictures"
    (row,) = found["lesions"]
    assert row["sensitivity_interval"] == [0.5, 0.5]  # the same in every one
    low, high = row["false_positives_interval"]
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.5 / 24**0.5, 0.5 + 1.96 * 0.5 / 24**0.5), abs=0.05)


def test_distances_are_in_millimetres_where_the_voxels_have_a_size(tmp_path):
    found, said = lesions_of(tmp_path, 1)
    assert found["distance_unit"] == "mm"
    assert found["classes"][1]["hausdorff_95"] == 4  # a plane that is missed, 4 mm thick
    assert "HD95 mm" in said
    plain = tally.tally([answer._replace(spacing=None) for answer in scans(1)], 2, tolerance=None)
    assert plain.unit == "voxels"
    assert plain.distances[0, 1, 0] == 1


def test_lesions_of_a_class_that_is_not_there_are_refused():
    with pytest.raises(Fault, match=r"evaluate.lesions.classes must be of background, cat, dog, got tumour"):
        lesion_report.numbers(config.Lesions(classes=("tumour",)), NAMES)


def test_overlays_tint_what_is_no_ground_and_mark_what_is_wrong():
    image = np.full((6, 6), 100, np.uint8)
    labels = np.zeros((6, 6), int)
    labels[:, 3:], labels[5] = 1, -1
    drawn = overlays.paint_classes(image, labels, NAMES)
    assert (drawn[0, 0] == 100).all()  # the background is left as it is
    assert (drawn[0, 5] == np.round(0.5 * 100 + 0.5 * np.array(overlays.rgb_of(1)))).all()
    assert (drawn[5, 0] == 40).all()
    tinted = overlays.paint_classes(image, labels, ["sky", "road"])
    assert (tinted[0, 0] != 100).any()
    marked = overlays.wrong(image, labels, np.ones((6, 6), int))
    assert (marked[0, 0] == overlays.WRONG).all()
    assert (marked[5, 0] == marked[0, 5]).all()  # nobody knows what is there


def test_volumes_are_drawn_by_their_middle_planes():
    volume, labels = np.random.default_rng(0).normal(size=(6, 8, 10, 1)), np.zeros((6, 8, 10), np.uint8)
    labels[3] = 1
    drawn = overlays.draw_segmentation(volume, labels, ["other", "slab"])
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] >= 160


@pytest.mark.parametrize("fit", ["pad", "patch"])
def test_a_segmenter_that_sees_the_same_in_a_mirror_says_the_same_of_two_views(fit):
    """Thresholds of each pixel's own value, and of what is left of it."""
    data = config.Data(source="nuclei", size=(16, 16), channels=1, fit=fit)
    picture = np.random.default_rng(0).integers(0, 255, (37, 29, 1)).astype(np.uint8)
    entry = keras.Input((16, 16, 1), dtype="uint8")
    weighed = [keras.layers.Conv2D(2, (1, 3), padding="same", use_bias=False) for _ in range(2)]
    models = [keras.Model(entry, layer(keras.ops.cast(entry, "float32"))) for layer in weighed]
    for layer, kernel in zip(weighed, ([1, 3, 1], [2, 3, 0]), strict=True):
        layer.set_weights([np.array([[0.001 * np.array(kernel), np.zeros(3)]]).transpose(0, 2, 1)[:, :, None]])
    for model, alike in zip(models, (True, False), strict=True):
        one, two = (segment_model.Segmenter(model, data, views=views)(picture) for views in ([WHOLE], FLIPPED))
        same = np.allclose(one.confidence, two.confidence, atol=1e-6)
        assert same == alike
    there, mirrored = (
        segment_model.Segmenter(models[1], data, views=FLIPPED)(seen).confidence.numpy()
        for seen in (picture[:16, :16], picture[:16, 15::-1])
    )
    np.testing.assert_allclose(mirrored, there[:, ::-1], atol=1e-6)


def test_a_segmenter_of_single_pixels_says_the_same_of_smaller_views():
    """A slope of grey, in two classes by its own value: the border between them stays where it is."""
    data = config.Data(source="nuclei", size=(48, 48), channels=1, fit="pad")
    picture = np.repeat(np.arange(48, dtype=np.uint8)[None, :, None] * 4 + 20, 48, axis=0)
    entry = keras.Input((48, 48, 1), dtype="uint8")
    values = keras.ops.cast(entry, "float32") - 100
    model = keras.Model(entry, keras.ops.concatenate([-values, values], axis=-1))
    views = whole_views("multiscale")
    assert len({view.share for view in views}) == 3
    labels = [segment_model.Segmenter(model, data, views=own)(picture).labels.numpy() for own in ([WHOLE], views)]
    assert 0.3 < labels[0].mean() < 0.7
    wrong = np.flatnonzero((labels[0] != labels[1])[1:-1].any(axis=0))  # the outermost rows are blended with black
    assert all(abs(column - 20) <= 1 for column in wrong)
