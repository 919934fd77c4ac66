"""What works of tensorflow-addons: every public name is tried, and the page of the documentation says how it went."""

import importlib
import re
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from cnn_keras import addons

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "addons.md"
NAME = addons.losses.__name__.split(".")[0]
PACKAGE = Path(addons.losses.__path__[0]).parent
FAILING = ["callbacks", "layers", "optimizers", "rnn", "seq2seq", "text"]
LABELS, EMBEDDINGS = tf.constant([0, 1, 0, 1]), tf.math.l2_normalize(tf.random.stateless_normal((4, 3), (0, 1)), 1)
TRUTH = tf.constant([[1.0, 0], [0, 1], [1, 0], [0, 1]])
SHARES = tf.constant([[0.8, 0.2], [0.3, 0.7], [0.4, 0.6], [0.1, 0.9]])
NUMBERS, OTHERS = tf.constant([1.0, 2, 3, 5]), tf.constant([1.0, 2, 4, 4])
IMAGES = tf.random.stateless_uniform((1, 8, 8, 3), (0, 2))
IMAGE = tf.cast(IMAGES[0] * 255, tf.uint8)
POINTS = tf.constant([[[1.0, 1], [2, 6], [6, 2]]])
BOX = tf.constant([[0.0, 0, 1, 1]])
ARGUMENTS = {
    "image": {
        "adjust_hsv_in_yiq": (IMAGES, 0.1, 1.0, 1.0),
        "angles_to_projective_transforms": (0.1, 8.0, 8.0),
        "blend": (IMAGE, IMAGE, 0.5),
        "compose_transforms": ([tf.zeros((1, 8)), tf.zeros((1, 8))],),
        "connected_components": (IMAGES[..., 0] > 0.5,),
        "cutout": (IMAGES, (2, 2), (4, 4)),
        "dense_image_warp": (IMAGES, tf.zeros((1, 8, 8, 2))),
        "equalize": (IMAGE,),
        "euclidean_dist_transform": (IMAGE[..., :1],),
        "gaussian_filter2d": (IMAGES,),
        "interpolate_bilinear": (IMAGES, POINTS),
        "interpolate_spline": (POINTS, POINTS[..., :1], POINTS, 2),
        "mean_filter2d": (IMAGES,),
        "median_filter2d": (IMAGES,),
        "random_cutout": (IMAGES, (2, 2)),
        "random_hsv_in_yiq": (IMAGES, 0.1, 0.9, 1.1, 0.9, 1.1),
        "resampler": (IMAGES, tf.zeros((1, 2, 2))),
        "rotate": (IMAGES, 0.1),
        "sharpness": (IMAGE, 0.5),
        "shear_x": (IMAGE, 0.1, 0),
        "shear_y": (IMAGE, 0.1, 0),
        "sparse_image_warp": (IMAGES, POINTS, POINTS + 0.1),
        "transform": (IMAGES, [1.0, 0, 0, 0, 1, 0, 0, 0]),
        "translate": (IMAGES, [1.0, 0]),
        "translate_xy": (IMAGE, [1, 0], 0),
        "translations_to_projective_transforms": ([1.0, 0],),
    },
    "losses": {
        "contrastive_loss": (NUMBERS % 2, OTHERS / 5),
        "giou_loss": (BOX, BOX),
        "lifted_struct_loss": (LABELS, EMBEDDINGS),
        "npairs_loss": (LABELS, tf.eye(4)),
        "npairs_multilabel_loss": (tf.eye(4), tf.eye(4)),
        "pinball_loss": (TRUTH, SHARES),
        "sigmoid_focal_crossentropy": (TRUTH, SHARES),
        "sparsemax_loss": (SHARES, SHARES, TRUTH),
        "triplet_hard_loss": (LABELS, EMBEDDINGS),
        "triplet_semihard_loss": (LABELS, EMBEDDINGS),
        "WeightedKappaLoss": (TRUTH, SHARES),
    },
    "metrics": {"hamming_distance": (LABELS, LABELS), "hamming_loss_fn": (TRUTH, SHARES, None, "multiclass")},
}
SETTINGS = {
    **{name: {"num_classes": 2} for name in ("F1Score", "FBetaScore", "WeightedKappaLoss", "CohenKappa")},
    **{name: {"num_classes": 2} for name in ("MatthewsCorrelationCoefficient", "MultiLabelConfusionMatrix")},
    "HammingLoss": {"mode": "multiclass"},
    "MeanMetricWrapper": {"fn": lambda truth, values: truth - values},
}
LOSSES = {  # the function with the same arguments
    "ContrastiveLoss": "contrastive_loss",
    "GIoULoss": "giou_loss",
    "LiftedStructLoss": "lifted_struct_loss",
    "NpairsLoss": "npairs_loss",
    "NpairsMultilabelLoss": "npairs_multilabel_loss",
    "PinballLoss": "pinball_loss",
    "SigmoidFocalCrossEntropy": "sigmoid_focal_crossentropy",
    "SparsemaxLoss": "pinball_loss",
    "TripletHardLoss": "triplet_hard_loss",
    "TripletSemiHardLoss": "triplet_semihard_loss",
    "WeightedKappaLoss": "WeightedKappaLoss",
}
MEASURED = {"CohenKappa": (LABELS, LABELS), "GeometricMean": (NUMBERS,), "HarmonicMean": (NUMBERS,)}


def rows():
    """Name, "yes" or "no", and what to take instead."""
    for names, works, instead in re.findall(
        r"^\| ([a-z0-9]+\..+?) \| (yes|no) \| (.+) \|$", PAGE.read_text("utf-8"), re.M
    ):
        for name in names.split(", "):
            yield name, works, instead


def public_names(part):
    text = re.sub(r"#.*", "", (PACKAGE / part / "__init__.py").read_text("utf-8"))
    imported = re.findall(r"^from \S+ import (\([^)]*\)|.+)$", text, re.M)
    return [name.split()[-1] for names in imported for name in names.strip("()").split(",") if name.strip()]


def try_out(part, name):
    """Call a public name with arguments that are right."""
    thing = getattr(importlib.import_module(f"{NAME}.{part}"), name)
    if part == "activations":
        thing(SHARES)
    elif part == "losses" and name in LOSSES:
        thing(**SETTINGS.get(name, {}))(*ARGUMENTS[part][LOSSES[name]])
    elif name in ARGUMENTS.get(part, {}):
        thing(*ARGUMENTS[part][name])
    else:
        metric = thing(**SETTINGS.get(name, {}))
        metric.update_state(*MEASURED.get(name, (TRUTH, SHARES) if SETTINGS.get(name) else (NUMBERS, OTHERS)))
        metric.result()


def test_the_page_has_every_public_name_once():
    parts = ["activations", "image", "losses", "metrics", *FAILING]
    assert sorted(name for name, *_ in rows()) == sorted(
        f"{part}.{name}" for part in parts for name in public_names(part)
    )


@pytest.mark.filterwarnings("ignore")  # of deprecated names, and of kernels for another TensorFlow
@pytest.mark.parametrize(("name", "works"), [row[:2] for row in rows() if row[0].split(".")[0] not in FAILING])
def test_a_name_works_or_does_not_as_the_page_says(name, works):
    if works == "yes":
        return try_out(*name.split("."))
    with pytest.raises((AttributeError, RuntimeError, TypeError, ValueError, tf.errors.NotFoundError)):
        try_out(*name.split("."))


@pytest.mark.parametrize("part", FAILING)
def test_the_other_parts_cannot_be_imported(part):
    assert {works for name, works, _ in rows() if name.startswith(f"{part}.")} == {"no"}
    with pytest.raises((AttributeError, ValueError)):
        importlib.import_module(f"{NAME}.{part}")


def test_what_to_take_instead_exists():
    named = {
        name for *_, instead in rows() for name in re.findall(r"`((?:keras|cnn_keras|scipy|sklearn)\.[\w.]+)`", instead)
    }
    assert len(named) > 40
    for name in sorted(named):
        if name.startswith("keras."):
            thing = keras
            for part in name.split(".")[1:]:
                thing = getattr(thing, part)
        else:
            module, attribute = name.rsplit(".", 1)
            assert hasattr(importlib.import_module(module), attribute), name
