"""A detector without a network, exported as one is: it finds one red, one green and one blue thing in a picture."""

import tensorflow as tf

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def write(folder, *, score=0.95):
    """Write the SavedModel into a folder, with the signatures and outputs of `cnn export detect/…`."""
    names = tf.constant(list(COLOURS))

    def found(images):
        """Boxes around the pixels that have much of one colour and little of the others."""
        values = tf.cast(images, tf.float32)
        others = tf.stack(
            [tf.reduce_max(tf.gather(values, rest, axis=-1), -1) for rest in ([1, 2], [0, 2], [0, 1])], -1
        )
        masks = (values > 150) & (others < 100)  # (batch, height, width, colour)
        columns, rows = tf.reduce_any(masks, 1), tf.reduce_any(masks, 2)

        def ends(along):
            size = tf.shape(along)[1]
            low = tf.argmax(along, axis=1, output_type=tf.int32)
            return low, size - tf.argmax(along[:, ::-1], axis=1, output_type=tf.int32)

        (left, right), (top, bottom) = (ends(tf.cast(along, tf.int32)) for along in (columns, rows))
        boxes = tf.cast(tf.stack([left, top, right, bottom], -1), tf.float32)
        there = tf.reduce_any(columns, 1)
        order = tf.argsort(tf.cast(there, tf.int32), direction="DESCENDING", stable=True)
        there = tf.gather(there, order, batch_dims=1)
        return {
            "boxes": tf.where(there[..., None], tf.gather(boxes, order, batch_dims=1), 0.0),
            "scores": tf.where(there, score, 0.0),
            "class_id": tf.where(there, tf.cast(order, tf.int64), 0),
            "label": tf.where(there, tf.gather(names, order), ""),
            "count": tf.reduce_sum(tf.cast(there, tf.int32), -1),
        }

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")])
    def encoded(image_bytes):
        return found(tf.stack([tf.io.decode_image(image_bytes[0], 3, expand_animations=False)]))

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "image")])
    def tensor(image):
        return found(image)

    tf.saved_model.save(module, str(folder), signatures={"serving_default": encoded, "serving_tensor": tensor})
