"""Trains a small network on logical CPU devices: `python -m tests.replicas DEVICES FOLDER NAME [EPOCH]`.

Leaves weights.npz and order.txt in FOLDER, or kills itself at the end of EPOCH. NAME may be several names with commas,
each with a folder of its own in FOLDER.
"""

import hashlib
import math
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from cnn_keras.data.transforms import augment
from cnn_keras.layers import BatchNormalization
from pipelines.engine import startup
from pipelines.engine.recipe import Train
from pipelines.engine.training import trainer

EXAMPLES = 48
SETTINGS = {
    "adam": {"synchronize_batch_norm": True},
    "clipped": {
        "synchronize_batch_norm": True,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "clip_norm": 0.5,
        "accumulate": 2,
        "weight_decay": 1e-3,
    },
    "average": {"synchronize_batch_norm": True, "optimizer": "adamw", "ema": 0.8, "schedule": "cosine"},
    "single": {"synchronize_batch_norm": True, "batch_size": 47},  # the last batch is one example
    "own-loss": {"synchronize_batch_norm": True, "batch_size": 12},
    "float16": {"synchronize_batch_norm": True, "precision": "float16", "batch_size": 12},
    "apart": {},  # each device has its own statistics
}


class OwnLoss(keras.Model):
    """A model that computes its loss itself, as those of detection and segmentation do."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True))


def network(name):
    image = keras.Input((8, 8, 1))
    x = BatchNormalization()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return (OwnLoss if name == "own-loss" else keras.Model)(image, keras.layers.Dense(2, dtype="float32")(x))


def train(name, folder, killed):
    keras.backend.clear_session()
    settings = Train(**{"epochs": 3, "batch_size": 10, "learning_rate": 1e-2, **SETTINGS[name]})
    trainer.set_up(0, settings)
    images, labels = np.random.default_rng(0).random((EXAMPLES, 8, 8, 1), np.float32), np.arange(EXAMPLES) % 2
    images[labels == 1, :4] += 0.5
    model, order, moved = network(name), hashlib.sha256(), augment.compose(["mirror"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    compiled = {"loss": None, "metrics": None} if name == "own-loss" else {"loss": loss, "metrics": metrics}
    trainer.compile_model(model, settings, steps=math.ceil(EXAMPLES / settings.batch_size), **compiled)

    def noted(rows):
        order.update(rows.tobytes())
        return rows

    def drawn(row, number):
        seen = moved({"image": tf.cast(255 * tf.gather(images, row) / 1.5, tf.uint8)}, tf.stack([row, number]))
        return tf.cast(seen["image"], tf.float32) / 170, tf.gather(labels, row)

    def epoch(number):
        number = tf.cast(number, tf.int32)
        rows = tf.random.experimental.stateless_shuffle(tf.range(EXAMPLES), tf.stack([0, number]))
        rows = tf.ensure_shape(tf.numpy_function(noted, [rows], tf.int32), [EXAMPLES])
        return tf.data.Dataset.from_tensor_slices(rows).map(lambda row: drawn(row, number)).batch(settings.batch_size)

    def on_epoch(number, row):
        if number == killed:
            os.kill(os.getpid(), signal.SIGKILL)

    folder.mkdir(parents=True, exist_ok=True)
    trainer.fit(
        model,
        settings,
        folder,
        batches=lambda epochs: tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(epoch),
        validation=tf.data.Dataset.from_tensor_slices((images[:21], labels[:21])).batch(20),
        images=EXAMPLES,
        console=Console(width=200),
        on_epoch=on_epoch,
    )
    np.savez(folder / "weights.npz", *[weight.numpy() for weight in model.weights])
    (folder / "order.txt").write_text(order.hexdigest())


def main(devices, folder, names, killed=0):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices))
    for name in names.split(","):
        with startup.numerics():
            train(name, Path(folder) / name, int(killed))


if __name__ == "__main__":
    main(*sys.argv[1:])
