"""Images left to the training step, against the graph, and what stays on the host against OpenCV's batches."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.data import input_pipeline, records
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.transforms import augment, deferred
from cnn_keras.errors import Fault
from tests.cnn_keras.data.transforms.test_augment import FITTED
from tests.cnn_keras.data.transforms.test_geometric import EYES
from tests.cnn_keras.data.transforms.test_opencv import RECIPES, SEEDS, batches, example

TRIED = {
    **{name: RECIPES[name] for name in ("resized_crop", "affine, constant", "affine, reflect", "pca_colour")},
    "all": [
        {"resized_crop": {"size": [64, 80]}},
        {"mirror": {"pairs": EYES}},
        {"rotate": {"fill": "nearest"}},
        *RECIPES["colours"],
        {"crop": {"padding": 5, "size": [60, 70]}},
        {"saturate": {"hue": 20}},
    ],
}


def deferred_batches(steps, given, *, threads=None):
    data = tf.data.Dataset.from_tensor_slices(SEEDS).map(lambda seed: (given, seed))
    found = augment.augmented_batches(data, lambda *read: read, steps, len(SEEDS))
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads or 1
    return list(found.with_options(options))


@pytest.mark.parametrize("name", TRIED)
def test_a_batch_is_augmented_in_the_step_as_by_the_graph_and_its_annotations_as_by_the_host(name):
    host, device = (augment.compose(TRIED[name], fitted={"pca_colour": FITTED}, on=on) for on in ("host", "device"))
    given = example()
    (before,) = deferred_batches(device, given)
    assert isinstance(before["image"], deferred.DeferredImages)
    np.testing.assert_array_equal(before["image"].pixels, np.stack([given["image"]] * len(SEEDS)))
    found, (by_host,) = tf.function(deferred.augmented)(before), batches(host, given)
    assert before["image"].shape == found["image"].shape == by_host["image"].shape
    assert found["image"].dtype == tf.uint8
    for key in ("boxes", "landmarks", "mask", "label"):
        np.testing.assert_array_equal(found[key], by_host[key], err_msg=key)
    for row, seed in enumerate(SEEDS[:3]):
        difference = np.abs(found["image"][row].numpy().astype(int) - host(given, seed)["image"].numpy())
        assert difference.max() <= 1  # what lies between two levels may be rounded to either
        assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("threads", [2, 8])
def test_the_number_of_threads_changes_nothing(threads):
    steps = augment.compose(TRIED["all"], on="device")
    for one, other in zip(
        deferred_batches(steps, example()), deferred_batches(steps, example(), threads=threads), strict=True
    ):
        for first, second in zip(
            *(tf.nest.flatten(each, expand_composites=True) for each in (one, other)), strict=True
        ):
            np.testing.assert_array_equal(first, second)


def test_what_holds_no_such_images_is_left_as_it_is():
    batch = (tf.zeros([2, 4, 4, 3], tf.uint8), {"boxes": tf.ones([2, 1, 4])})
    assert deferred.augmented(batch)[0] is batch[0]
    assert deferred.augmented(batch)[1]["boxes"] is batch[1]["boxes"]


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        (["mirror", "elastic", {"blur": {"sigma": 1}}, "noise"], "elastic, blur, noise"),
        ([{"cutout": {"size": 0.2}}], "cutout"),
        (["rand_augment", "tint"], "rand_augment"),
        (["mirror", "mixup"], "mixup"),
        (["mosaic"], "mosaic"),
        (
            [{"affine": {"rotate": 5, "fill": "wrap"}}, {"crop": {"fill": "wrap"}}],
            "affine with fill: wrap, crop with fill: wrap",
        ),
    ],
)
def test_what_exists_on_the_host_alone_is_named(recipe, names):
    with pytest.raises(Fault, match=f"got {names}, which"):
        augment.compose(recipe, on="device")


def test_no_augmentation_needs_no_device():
    assert augment.compose([], on="device") is None


def test_images_of_several_sizes_or_of_floats_are_refused():
    steps = augment.compose(["mirror"], on="device")
    for image in (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((8, 8, 3), tf.float32)):
        with pytest.raises(Fault, match=r"train\.augment_on must be host"):
            steps.takes_batches({"image": image})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven small pictures with a box each."""
    folder, generator = tmp_path_factory.mktemp("records"), np.random.default_rng(0)
    box = np.array([[0.2, 0.3, 0.7, 0.8]], np.float32)
    rows = [
        (str(n), encode_png(generator.integers(0, 256, (12, 20, 3), np.uint8)), box, np.array([n]), np.zeros(1, int))
        for n in range(7)
    ]
    records.write(folder, "train", rows, features=records.box_features(1))
    return folder


@pytest.mark.parametrize("memory", [2**31, 0], ids=["gathered", "streamed"])
def test_a_training_reads_the_same_examples_whoever_augments_them(folder, memory):
    recipe = [{"mirror": {"pairs": EYES}}, {"affine": {"rotate": 10, "shift": 0.1}}, {"brighten": {"contrast": 0.3}}]

    def stream(on, share=(0, 1)):
        return input_pipeline.training(
            folder, "train", input_pipeline.Shape((10, 16), 3, "pad"), count=7, epochs=range(2), batch_size=4, seed=1,
            augment=augment.compose(recipe, size=(10, 16), on=on), memory=memory,
            example=input_pipeline.box_example(1), share=share,
        )  # fmt: skip

    host, device = list(stream("host")), list(stream("device"))
    for one, other in zip(host, map(deferred.augmented, device), strict=True):
        np.testing.assert_array_equal(one["classes"], other["classes"])
        np.testing.assert_allclose(one["boxes"], other["boxes"], atol=1e-5)
        difference = np.abs(one["image"].numpy().astype(int) - other["image"].numpy())
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01
    parts = [list(stream("device", (number, 2))) for number in range(2)]  # of two hosts, zeros where it is the other's
    for whole, *halves in zip(device, *parts, strict=True):
        for values, *both in zip(
            *(tf.nest.flatten(each, expand_composites=True) for each in (whole, *halves)), strict=True
        ):
            np.testing.assert_array_equal(values, np.where(both[0] != 0, both[0], both[1]))
