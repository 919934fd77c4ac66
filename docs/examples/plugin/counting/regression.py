"""Counting by regression: any builder of a recipe with one output, fit to the number of dots by mean squared error."""

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference, models
from cnn_keras.data import input_pipeline
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.transforms import augment
from cnn_keras.ops.resize import resize_image
from pipelines.data import image_dataset, run_files
from pipelines.engine.training import task_training, trainer
from pipelines.engine.training.task_training import Training
from pipelines.export import savedmodel

NUMBERS = {"one": 1.0, "two": 2.0, "three": 3.0}  # by the class that the source says
COMPARED = 32  # images on which the exported model must agree with the trained one
TOLERANCE = 1e-4  # dots


def check(recipe):
    """Refuse augmentations and arguments of the builder that are not there."""
    augment.compose(recipe.augment, size=recipe.data.size)
    models.check(recipe.model.builder, **network(recipe))


def network(recipe):
    """The arguments of the recipe's builder."""
    return {"input_shape": (*recipe.data.size, recipe.data.channels), "classes": 1, **recipe.model.arguments}


def assemble(recipe, data):
    """The network behind its normalisation: uint8 (batch, height, width, channels), 0–255, to counts (batch, 1)."""
    image = keras.Input((*recipe.data.size, recipe.data.channels), dtype="uint8", name="image")
    x = keras.layers.Normalization(**data["normalization"], name="normalization")(image)
    return keras.Model(image, models.build(recipe.model.builder, **network(recipe))(x), name=recipe.name)


def training(run):
    """What a training needs: the model, compiled, and its batches."""
    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    shape, size, count = image_dataset.shape_of(recipe.data), recipe.train.batch_size, data["splits"]["train"]
    numbers = tf.constant([NUMBERS[name] for name in data["classes"]])
    augmented = augment.compose(recipe.augment, size=recipe.data.size)

    def counted(images, labels):
        return images, tf.gather(numbers, labels)[:, None]

    def compiled(model, settings):
        trainer.compile_model(model, settings, loss="mse", metrics=["mae"], steps=-(-count // settings.batch_size))
        return model

    def batches(model, epochs):
        return input_pipeline.training(
            prepared, "train", shape,
            count=count, epochs=epochs, batch_size=size, seed=recipe.seed, augment=augmented,
        ).map(counted)  # fmt: skip

    def validation(model):
        split = image_dataset.validation_split(data)
        held = data["splits"][split]
        return input_pipeline.batches(prepared, split, shape, count=held, batch_size=size).map(counted)

    return Training(
        assembled=lambda: assemble(recipe, data),
        compiled=compiled,
        batches=batches,
        validation=validation,
        examples=count,
    )


def train(run, folder, extend_to):
    """Fit; the trainer keeps the best epoch, and resumes after an interruption."""
    inputs, settings = training(run), run.recipe.train
    model = task_training.initial_model(run, inputs)
    compiled = inputs.compiled(model, settings)
    history = task_training.fit(run, inputs, compiled, settings, folder, extend_to=extend_to)
    return trainer.conclude(model, history, settings, folder, console=run.console, metric="mae")


def evaluate(run, folder):
    """The mean absolute error, in dots."""
    model, test = trained(run), images(run)
    truth = np.array([NUMBERS[run.facts("prepare")["classes"][label]] for label in test.labels])
    error = float(np.abs(inference.predictor(model)(test.images)[:, 0] - truth).mean())
    run_files.write_json(folder / "report.json", {"mae": error, "images": len(truth)})
    run.console.print(f"          mean absolute error {error:.2f} dots on {len(truth)} images")
    most = run.recipe.evaluate.at_most
    failed = [] if most is None or error <= most else [f"evaluate.at_most: must be at most {most}, got {error:.3f}"]
    return {"metrics": {"test_mae": error}, "failed": failed}


def export(run, folder):
    """A SavedModel from encoded images, `image_bytes`, to `count`, float32 (batch,); it must agree with the model."""
    name, model, shape = run.recipe.name, trained(run), image_dataset.shape_of(run.recipe.data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    spec = tf.TensorSpec((*shape.size, shape.channels), tf.uint8)

    def read(encoded):
        return resize_image(decode(encoded, channels=shape.channels), shape.size, fit=shape.fit)

    def count(image_bytes):
        return {"count": model(tf.map_fn(read, image_bytes, fn_output_signature=spec), training=False)[:, 0]}

    strings = [tf.TensorSpec((None,), tf.string, name="image_bytes")]
    savedmodel.write(saved, {"serving_default": (count, strings)})
    test = images(run)
    encoded = [tf.io.encode_png(image).numpy() for image in test.images[:COMPARED]]
    served = tf.saved_model.load(str(saved)).signatures["serving_default"](image_bytes=tf.constant(encoded))["count"]
    np.testing.assert_allclose(served, model.predict(test.images[:COMPARED], verbose=0)[:, 0], atol=TOLERANCE)
    return {"name": name, "version": version}


def trained(run):
    """The model that training left."""
    return savedmodel.load_keras(run.finished("train") / "model.keras")


def images(run):
    """The test split in memory."""
    split = image_dataset.test_split(run.facts("prepare"))
    return input_pipeline.arrays(run.finished("prepare"), split, image_dataset.shape_of(run.recipe.data))
