"""Batches: every example once an epoch, in an order and under augmentations that only (seed, epoch, index) decide."""

import io
import logging

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras.data import input_pipeline, records
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.transforms import augment

COUNT = 30
SHAPE = input_pipeline.Shape((4, 6), 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A split in four shards: image number n is filled with n, its label is n % 3, its id “n–ü”."""
    folder = tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as patch:
        rows = [(f"{n}–ü", encode_png(np.full((4, 6, 3), n, np.uint8)), n % 3) for n in range(COUNT)]
        patch.setattr(records, "SHARD_BYTES", 8 * len(rows[0][1]))
        records.write(folder, "train", rows)
    assert len(list(folder.iterdir())) == 4
    return folder


@pytest.fixture(scope="module", params=[2**31, 0], ids=["gathered", "streamed"])
def memory(request):
    return request.param


def training(folder, epochs, *, batch_size=8, seed=0, **arguments):
    """Batches as (numbers of the images, labels) in lists."""
    found = input_pipeline.training(
        folder, "train", SHAPE, count=COUNT, epochs=epochs, batch_size=batch_size, seed=seed, **arguments
    )
    return [(images[:, 0, 0, 0].tolist(), labels.tolist()) for images, labels in found.as_numpy_iterator()]


def tell_seed(example, seed):
    """An augmentation that leaves the picture alone and puts what it was drawn from in the label's place."""
    return {**example, "label": tf.cast(seed[0], tf.int64) * 2**32 + tf.cast(seed[1], tf.int64)}


def examples(batches):
    """(number, label) of every example, epoch by epoch."""
    flat = [pair for numbers, labels in batches for pair in zip(numbers, labels, strict=True)]
    return [flat[start : start + COUNT] for start in range(0, len(flat), COUNT)]


@pytest.fixture(scope="module")
def whole(folder, memory):
    """Four epochs whose labels are the seeds of the augmentation."""
    return training(folder, range(4), memory=memory, augment=tell_seed)


def test_hosts_share_the_work_on_the_batches_of_one(folder, memory, whole):
    parts = [training(folder, range(4), memory=memory, augment=tell_seed, share=(host, 2)) for host in range(2)]
    joined = [
        tuple([one or other for one, other in zip(*columns, strict=True)] for columns in zip(*batches, strict=True))
        for batches in zip(*parts, strict=True)
    ]
    assert joined == whole
    assert parts[0] != whole


@pytest.mark.parametrize("seed", [0, 7])
def test_the_global_seed_of_tensorflow_changes_nothing(folder, memory, whole, seed):
    tf.random.set_seed(seed)
    assert training(folder, range(4), memory=memory, augment=tell_seed) == whole


def test_every_example_comes_once_an_epoch_with_its_label(folder, memory):
    found = training(folder, range(3), memory=memory)
    assert [len(numbers) for numbers, _ in found] == [8, 8, 8, 6] * 3
    for epoch in examples(found):
        assert sorted(epoch) == [(number, number % 3) for number in range(COUNT)]


def test_every_example_comes_once_an_epoch_with_a_seed_of_its_own(whole):
    assert [len(numbers) for numbers, _ in whole] == [8, 8, 8, 6] * 4
    orders = [[number for number, _ in epoch] for epoch in examples(whole)]
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert all(orders.count(order) == 1 and order != sorted(order) for order in orders)
    assert len({seed for epoch in examples(whole) for _, seed in epoch}) == 4 * COUNT


def test_a_stream_from_epoch_k_gives_what_one_from_0_gives_at_k(folder, memory, whole):
    tf.random.uniform(())  # draws from the global generator move nothing here
    assert training(folder, range(2, 4), memory=memory, augment=tell_seed) == whole[8:]
    assert training(folder, range(4, 4), memory=memory, augment=tell_seed) == []


def test_batch_size_and_threads_change_neither_order_nor_seeds(folder, memory, whole, monkeypatch):
    monkeypatch.setattr(tf.data, "AUTOTUNE", 1)
    assert examples(training(folder, range(2), memory=memory, augment=tell_seed, batch_size=30)) == examples(whole)[:2]


def test_another_seed_gives_another_order_and_other_augmentations(folder, memory, whole):
    first, other = examples(whole)[0], examples(training(folder, range(1), memory=memory, augment=tell_seed, seed=1))[0]
    assert [number for number, _ in first] != [number for number, _ in other]
    assert not {seed for _, seed in first} & {seed for _, seed in other}


def test_an_example_is_augmented_by_its_seed_and_nothing_else(folder, memory, whole):
    steps = augment.compose([{"affine": {"shift": 0.3}}, {"brighten": {"brightness": 0.5}}])
    found = input_pipeline.training(
        folder, "train", SHAPE, count=COUNT, epochs=range(1), batch_size=30, seed=0, augment=steps, memory=memory
    )
    images, _ = next(found.as_numpy_iterator())
    assert images.dtype == np.uint8
    for (number, drawn), image in list(zip(examples(whole)[0], images, strict=True))[:5]:
        seed = np.array([(drawn + 2**31) >> 32, (drawn + 2**31) % 2**32 - 2**31], np.int32)
        np.testing.assert_array_equal(image, steps({"image": np.full((4, 6, 3), number, np.uint8)}, seed)["image"])


def test_both_ways_give_keras_the_same_types(folder):
    for memory in (2**31, 0):
        found = input_pipeline.training(
            folder, "train", SHAPE, count=COUNT, epochs=range(1), batch_size=8, seed=0, memory=memory
        )
        assert found.element_spec == (tf.TensorSpec((None, 4, 6, 3), tf.uint8), tf.TensorSpec((None,), tf.int64))


def test_a_stream_shuffles_no_further_than_its_buffer_and_its_shards(folder, monkeypatch):
    monkeypatch.setattr(input_pipeline, "BUFFER_BYTES", 1)  # one example: only the shards change places
    found = [number for number, _ in examples(training(folder, range(1), memory=0))[0]]
    assert sorted(found) == list(range(COUNT))
    shards = [list(range(start, min(start + 8, COUNT))) for start in range(0, COUNT, 8)]
    assert all("".join(map(chr, shard)) in "".join(map(chr, found)) for shard in shards)


def test_decoded_examples_come_in_order_and_framed(folder):
    found = list(input_pipeline.decoded_examples(folder, "train", input_pipeline.Shape((2, 3), 1)).as_numpy_iterator())
    assert [example["id"].decode() for example in found] == [f"{number}–ü" for number in range(COUNT)]
    assert all(example["image"].shape == (2, 3, 1) for example in found)
    assert all((example["image"] == number).all() for number, example in enumerate(found))


def test_batches_come_in_order_and_know_how_many_they_are(folder):
    found = input_pipeline.batches(folder, "train", SHAPE, count=COUNT, batch_size=8)
    assert found.cardinality() == 4
    assert [labels.tolist() for _, labels in found.as_numpy_iterator()][-1] == [24 % 3, 25 % 3, 26 % 3, 0, 1, 2]


def test_arrays_hold_the_split_or_its_beginning(folder):
    images, labels, ids = input_pipeline.arrays(folder, "train", SHAPE)
    assert (images.shape, images.dtype) == ((COUNT, 4, 6, 3), np.uint8)
    assert images[:, 0, 0, 0].tolist() == list(range(COUNT))
    assert labels.tolist() == [number % 3 for number in range(COUNT)]
    assert ids.tolist() == [f"{number}–ü" for number in range(COUNT)]
    assert input_pipeline.arrays(folder, "train", SHAPE, limit=5).ids.tolist() == [f"{number}–ü" for number in range(5)]


def test_mixed_examples_have_shares_of_their_classes_and_are_mixed_alike_when_resumed(folder, memory):
    mixed = augment.compose(["mixup"])
    whole = training(folder, range(3), memory=memory, augment=mixed, classes=3)
    for _, labels in whole:
        np.testing.assert_allclose(np.sum(labels, axis=1), 1, rtol=1e-6)
    assert any(0.01 < share < 0.99 for _, labels in whole for shares in labels for share in shares)
    assert training(folder, range(1, 3), memory=memory, augment=mixed, classes=3) == whole[len(whole) // 3 :]


def test_a_crop_cuts_from_pictures_read_larger_than_the_network_sees(folder, memory):
    cropped = augment.compose([{"resized_crop": {"source": [8, 12]}}], size=(4, 6))
    found = input_pipeline.training(
        folder, "train", SHAPE, count=COUNT, epochs=range(1), batch_size=8, seed=0, augment=cropped, memory=memory
    )
    assert {images.shape[1:] for images, _ in found} == {(4, 6, 3)}


MOST = 3
WIDE = input_pipeline.Shape((8, 16), 3)


@pytest.fixture(scope="module")
def boxed_folder(tmp_path_factory):
    """Twelve pictures of 8×16 with n % 4 boxes of class n: the left half, then the left quarter, then an eighth."""
    folder = tmp_path_factory.mktemp("boxed")
    rows = []
    for number in range(12):
        found = np.zeros((MOST, 4), np.float32)
        for row in range(number % 4):
            found[row] = (0, 0, 0.5 ** (row + 1), 1)
        image = encode_png(np.full((8, 16, 3), 10 * number, np.uint8))
        named = np.where(found[:, 2] > 0, number, 0)
        rows.append((f"{number}", image, found, named, np.zeros(MOST, np.int64)))
    records.write(folder, "train", rows, features=records.box_features(MOST))
    return folder


def boxed_training(folder, epochs, shape=WIDE, **arguments):
    found = input_pipeline.training(
        folder,
        "train",
        shape,
        count=12,
        epochs=epochs,
        batch_size=5,
        example=input_pipeline.box_example(MOST),
        **{"seed": 0, **arguments},
    )
    return list(found.as_numpy_iterator())


def told(examples):
    return [[values.tolist() for _, values in sorted(one.items())] for one in examples]


def test_boxes_and_their_classes_stay_with_their_pictures(boxed_folder, memory):
    found = boxed_training(boxed_folder, range(1), memory=memory)
    assert [one["boxes"].shape for one in found] == [(5, 3, 4), (5, 3, 4), (2, 3, 4)]
    assert {(values.dtype.name) for values in found[0].values()} == {"uint8", "float32", "int64"}
    numbers = []
    for one in found:
        for image, boxes, classes in zip(one["image"], one["boxes"], one["classes"], strict=True):
            number = int(image[0, 0, 0]) // 10
            numbers.append(number)
            assert (boxes[:, 2] > 0).sum() == number % 4
            assert classes.tolist() == [number] * (number % 4) + [0] * (MOST - number % 4)
    assert sorted(numbers) == list(range(12)) != numbers


def test_boxes_are_of_the_padded_frame(boxed_folder, memory):
    found = boxed_training(boxed_folder, range(1), shape=input_pipeline.Shape((16, 16), 3, "pad"), memory=memory)
    for one in found:
        for image, boxes in zip(one["image"], one["boxes"], strict=True):
            if number := int(image[8, 0, 0]) // 10 % 4:
                np.testing.assert_allclose(boxes[0], [0, 0.25, 0.5, 0.75])
                assert not image[:4].any()
                assert not boxes[number:].any()


def test_boxes_move_with_their_pictures_alike_when_resumed(boxed_folder, memory):
    steps = augment.compose(["mirror", {"affine": {"shift": 0.3}}, "mosaic"])
    whole = boxed_training(boxed_folder, range(3), augment=steps, memory=memory)
    assert {one["boxes"].shape[1:] for one in whole} == {(4 * MOST, 4)}
    assert {one["classes"].shape[1:] for one in whole} == {(4 * MOST,)}
    assert told(boxed_training(boxed_folder, range(1, 3), augment=steps, memory=memory)) == told(whole[3:])
    assert told(whole[:3]) != told(whole[3:6])
    for one in whole:
        sides = one["boxes"][..., 2:] - one["boxes"][..., :2]
        assert ((sides > 0).all(axis=-1) | (one["boxes"] == 0).all(axis=-1)).all()
    assert any((one["boxes"][:, MOST:] > 0).any() for one in whole)


def test_both_ways_give_boxes_of_the_same_static_shapes(boxed_folder):
    for memory in (2**31, 0):
        found = input_pipeline.training(
            boxed_folder, "train", input_pipeline.Shape((8, 16), 3), count=12, epochs=range(1), batch_size=5, seed=0,
            memory=memory, example=input_pipeline.box_example(MOST),
        )  # fmt: skip
        assert found.element_spec == {
            "image": tf.TensorSpec((None, 8, 16, 3), tf.uint8),
            "boxes": tf.TensorSpec((None, MOST, 4), tf.float32),
            "classes": tf.TensorSpec((None, MOST), tf.int64),
        }


def test_an_ordered_pass_tells_ids_and_the_sizes_of_the_pictures(boxed_folder):
    shape = input_pipeline.Shape((16, 16), 3, "pad")
    found = list(
        input_pipeline.decoded_examples(
            boxed_folder, "train", shape, example=input_pipeline.box_example(MOST)
        ).as_numpy_iterator()
    )
    assert [one["id"].decode() for one in found] == [str(number) for number in range(12)]
    assert {tuple(one["extent"]) for one in found} == {(8, 16)}
    np.testing.assert_allclose(found[1]["boxes"][0], [0, 0.25, 0.5, 0.75])
    ordered = input_pipeline.batches(
        boxed_folder, "train", shape, count=12, batch_size=5, example=input_pipeline.box_example(MOST)
    )
    assert ordered.cardinality() == 3
    np.testing.assert_array_equal(next(ordered.as_numpy_iterator())["boxes"][1], found[1]["boxes"])


TALL = (521, 393)  # pixels, one more than a multiple of eight: a reduced JPEG has seven more along each side
THING = np.array([0.25, 0.375, 0.75, 0.875], np.float32)  # left, top, right, bottom


def photograph(size=TALL):
    """A JPEG of a bright thing on dark ground, and the mask of it, a PNG of 2 and 1."""
    y, x = ((np.arange(side) + 0.5) / side for side in size)
    is_thing = ((y > THING[1]) & (y < THING[3]))[:, None] & ((x > THING[0]) & (x < THING[2]))
    out = io.BytesIO()
    Image.fromarray(np.where(is_thing[..., None], [220, 200, 180], 20).astype(np.uint8)).save(out, "JPEG", quality=95)
    return out.getvalue(), encode_png((is_thing + 1).astype(np.uint8)[..., None])


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder whose split “boxed” holds the thing's box and corners, and “masked” its mask."""
    folder, (image, mask) = tmp_path_factory.mktemp("photographs"), photograph()
    left, top, right, bottom = THING
    corners = np.array([[[left, top, 1], [right, bottom, 1]]], np.float32)
    boxed = ("thing", image, THING[None], np.zeros(1, np.int64), np.zeros(1, np.int64), corners)
    records.write(folder, "boxed", [boxed], features=records.box_features(1, landmarks=2))
    records.write(folder, "masked", [("thing", image, mask)], features=records.mask_features())
    return folder


def extent_of(weights):
    """The middle of a thing in pixels, (y, x), by what weighs each of them."""
    weights = weights / weights.sum()
    return [float((weights.sum(axis=1 - axis) * (np.arange(weights.shape[axis]) + 0.5)).sum()) for axis in (0, 1)]


@pytest.mark.parametrize(
    "steps", [[], [{"mirror": {"pairs": []}}, {"affine": {"zoom": 0.2, "shift": 0.05}}], [{"cutout": {"size": 0}}]]
)
@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_a_jpeg_is_reduced_where_it_is_streamed_and_boxes_landmarks_and_masks_stay_in_place(photographs, fit, steps):
    shape, steps = input_pipeline.Shape((64, 64), 3, fit), augment.compose(steps, size=(64, 64))

    def only(split, example, memory):
        stream = input_pipeline.training(
            photographs, split, shape, count=1, epochs=range(1), batch_size=1, seed=3, augment=steps, memory=memory,
            example=example,
        )  # fmt: skip
        return next(stream.as_numpy_iterator())

    for split, example in (
        ("boxed", input_pipeline.box_example(1, landmarks=2)),
        ("masked", input_pipeline.mask_example()),
    ):
        whole, reduced = (only(split, example, memory) for memory in (2**31, 0))
        for key in example.keys[1:]:
            np.testing.assert_array_equal(reduced[key], whole[key], err_msg=key)
        assert (reduced["image"] != whole["image"]).any()  # it was reduced
        middle = extent_of(reduced["image"][0, ..., 0].astype(float).clip(20) - 20)
        np.testing.assert_allclose(middle, extent_of(whole["image"][0, ..., 0].astype(float).clip(20) - 20), atol=0.03)
        if split == "boxed":
            box = reduced["boxes"][0, 0]
            np.testing.assert_allclose(middle, 32 * (box[[1, 0]] + box[[3, 2]]), atol=0.2)
            np.testing.assert_allclose(middle, 32 * reduced["landmarks"][0, 0, :, 1::-1].sum(axis=0), atol=0.2)
        else:
            np.testing.assert_allclose(middle, extent_of(reduced["mask"][0, ..., 0] == 2), atol=0.5)


def test_autograph_can_read_what_a_streamed_split_passes_through(photographs):
    said, handler = [], logging.Handler()
    handler.emit = said.append
    tf.get_logger().addHandler(handler)
    try:
        stream = input_pipeline.training(
            photographs, "boxed", input_pipeline.Shape((64, 64), 3), count=1, epochs=range(1), batch_size=1, seed=3,
            augment=augment.compose([], size=(64, 64)), memory=0, example=input_pipeline.box_example(1, landmarks=2),
        )  # fmt: skip
        next(stream.as_numpy_iterator())
    finally:
        tf.get_logger().removeHandler(handler)
    assert not [record.getMessage() for record in said if "AutoGraph" in record.getMessage()]


def test_hosts_share_the_work_on_batches_that_opencv_augments(tmp_path, memory):
    pixels = np.random.default_rng(0).integers(1, 256, (7, 64, 64, 1), np.uint8)
    records.write(tmp_path, "train", [(str(number), encode_png(image), number) for number, image in enumerate(pixels)])

    def images(share):
        stream = input_pipeline.training(
            tmp_path, "train", input_pipeline.Shape((64, 64), 1), count=7, epochs=range(1), batch_size=4, seed=0,
            augment=augment.compose(["mirror"], size=(64, 64)), memory=memory, share=share,
        )  # fmt: skip
        return np.concatenate([pictures for pictures, _ in stream.as_numpy_iterator()])

    np.testing.assert_array_equal(np.maximum(images((0, 2)), images((1, 2))), images((0, 1)))
