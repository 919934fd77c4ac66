"""SavedModels small enough for tests, a detector and a segmenter, whose answers follow from the size of a picture."""

from pathlib import Path

import tensorflow as tf

from cnn_keras.data.image_decoding import decode

CLASSES = ("mouse 2", "ant")  # not in order of the alphabet
BOXES = ((0.1, 0.2, 0.63, 0.71), (0.5, 0.05, 0.97, 0.4))  # left, top, right, bottom as shares of the picture
SCORES = (0.9, 0.4)


def detector(folder: Path) -> Path:
    """Write a model that finds a mouse and an ant in every picture, and in dark ones nothing."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def detect(image_bytes):
        def one(data):
            image = decode(data, channels=3)
            height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
            count = 2 * tf.cast(tf.reduce_mean(tf.cast(image, tf.float32)) > 20, tf.int32)
            return count, tf.constant(BOXES) * [width, height, width, height]

        count, boxes = tf.map_fn(
            one, image_bytes, fn_output_signature=(tf.TensorSpec((), tf.int32), tf.TensorSpec((2, 4), tf.float32))
        )
        label = tf.broadcast_to(tf.constant(CLASSES), (tf.size(count), 2))
        scores = tf.broadcast_to(tf.constant(SCORES), (tf.size(count), 2))
        return {"count": count, "label": label, "scores": scores, "boxes": boxes}

    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": detect})
    return folder


def segmenter(folder: Path) -> Path:
    """Write a model whose masks are background, but for the left half, which is ants, and a row at the top of mice."""
    names = ("background", *CLASSES)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def segment(image_bytes):
        def one(data):
            shape = tf.shape(decode(data, channels=3))
            left = tf.range(shape[1])[None, :, None] < shape[1] // 2
            top = tf.range(shape[0])[:, None, None] < 1
            mask = tf.where(top, tf.constant(1, tf.uint8), tf.where(left, tf.constant(2, tf.uint8), 0))
            return tf.io.encode_png(tf.cast(mask, tf.uint8))

        masks = tf.map_fn(one, image_bytes, fn_output_signature=tf.TensorSpec((), tf.string))
        rows = tf.size(masks)
        return {
            "mask_bytes": masks,
            "classes": tf.broadcast_to(tf.constant(names), (rows, 3)),
            "shares": tf.broadcast_to(tf.constant([0.4, 0.1, 0.5]), (rows, 3)),
            "confidence": tf.broadcast_to(tf.constant([0.5, 0.8, 0.9]), (rows, 3)),
        }

    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": segment})
    return folder
