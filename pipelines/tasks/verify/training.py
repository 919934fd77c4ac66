"""How an embedder is trained: batches of some pictures of each of some people, watched for a collapse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.data import input_pipeline, pk_sampler
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from cnn_keras.models import siamese
from pipelines.data import image_dataset
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice, trainer
from pipelines.engine.training.task_training import Training, announce, fit, initial_model
from pipelines.engine.training.trainer import Row
from pipelines.export import savedmodel
from pipelines.plots import image_grid
from pipelines.tasks.verify import plots
from pipelines.tasks.verify.config import Train
from pipelines.tasks.verify.model import assemble, trainable

VALIDATED = 512  # pictures of one batch of validation, whose pairs are compared
COLLAPSED = 0.01  # a spread of embeddings below this is called a collapse,
PATIENCE = 5  # and after so many epochs of it in a row the training is stopped


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras`, pictures to embeddings, and `matcher.keras`, which compares two."""
    run = precision_choice.settled(run, folder)
    recipe, settings = run.recipe, run.recipe.train
    augmented = augment.compose(recipe.augment, size=recipe.data.size, on=recipe.train.augment_on)
    training = _inputs(run, augmented)
    network = initial_model(run, training)
    embedding = siamese.embedding(network, mirrored=recipe.model.mirrored)
    if recipe.untrained:
        savedmodel.save_keras(embedding, folder / "model.keras")
        savedmodel.save_keras(siamese.matcher(recipe.model.dimension), folder / "matcher.keras")
        run.console.print(f"          {recipe.model.builder}: given weights, no training")
        digest = trainer.weights_digest(network)
        return {"digest": digest, "epochs": 0, "best_epoch": 0, "parameters": network.count_params(), "metrics": {}}
    announce(run, training, network)
    model = training.compiled(network, settings)
    if augmented is not None:
        _draw_augmented(run, augmented, folder / "augmented.png")
    history = fit(run, training, model, settings, folder, extend_to=extend_to, on_epoch=watching(run))
    savedmodel.save_keras(embedding, folder / "model.keras")
    head = model.head if settings.loss == "siamese" else None
    savedmodel.save_keras(siamese.matcher(recipe.model.dimension, head), folder / "matcher.keras")
    best, digest = trainer.best_epoch(history, settings.monitor), trainer.weights_digest(model)
    plots.training(history, folder / "curves.png", best=best)
    run.console.print(f"          best epoch {best} of {len(history)}; weights {digest}")
    return {
        "digest": digest,
        "epochs": len(history),
        "best_epoch": best,
        "parameters": network.count_params(),
        "metrics": {f"best_{key}": value for key, value in history[best - 1].items() if key.startswith("val_")},
    }


def inputs(run: Run) -> Training:
    """What a training of the run needs."""
    recipe = run.recipe
    return _inputs(run, augment.compose(recipe.augment, size=recipe.data.size, on=recipe.train.augment_on))


def _inputs(run: Run, augmented: Any) -> Training:
    recipe, data = run.recipe, run.facts("prepare")
    size = recipe.train.batch_size
    steps = recipe.train.steps or -(-data["splits"]["train"] // size)

    def compiled(network: keras.Model, settings: Train) -> keras.Model:
        model = trainable(network, settings, len(data["classes"]) * (4 if settings.rotations else 1))
        trainer.compile_model(model, settings, loss=None, metrics=None, steps=steps)
        return model

    return Training(
        assembled=lambda: assemble(recipe, data, run.finished("prepare")),
        compiled=compiled,
        batches=lambda model, epochs: _batches(run, epochs, augmented, steps=steps),
        validation=lambda model: _validation(run),
        examples=steps * size,
        noun="picture",
    )


def watching(run: Run) -> Callable[[int, Row], None]:
    """What is told of every epoch: MLflow, and the user where the embeddings fall together.

    Raises:
        Fault: they have been together for several epochs (code DIVERGED).
    """
    settings: Train = run.recipe.train
    collapsed = 0

    def on_epoch(number: int, row: Row) -> None:
        nonlocal collapsed
        run.on_epoch(number, row)
        collapsed = collapsed + 1 if row["spread"] < COLLAPSED else 0
        if collapsed == 1:
            run.console.print(f"          [yellow]{collapse_hint(row, settings)}[/]")
        if collapsed == PATIENCE:
            raise Fault(
                f"training collapsed for {PATIENCE} epochs, up to epoch {number}: {collapse_hint(row, settings)}",
                code=Fault.DIVERGED,
            )

    return on_epoch


def collapse_hint(row: Row, settings: Train) -> str:
    """A hint where all embeddings are the same and the loss stands still: the cause, and what to change."""
    stands = f", and the loss stays at the margin, {settings.kept_margin:g}" if settings.loss == "triplet" else ""
    hard = settings.loss == "triplet" and settings.mining == "hard"
    other = "train.mining: semi-hard or random" if hard else "train.loss: arcface"
    return (
        f"all pictures get nearly the same embedding: their spread is {row['spread']:.4f} of 1{stands}. Take {other}, "
        f"a lower train.learning_rate (now {settings.learning_rate:g}) or train.warmup_epochs, and start again."
    )


def _draw_augmented(run: Run, augmented: Any, path: Path) -> None:
    """A sheet with one picture per row, as training may see it."""
    shape = image_dataset.shape_of(run.recipe.data)
    augmented_shape = shape._replace(size=augmented.source or shape.size)
    sample = input_pipeline.arrays(run.finished("prepare"), "train", augmented_shape, limit=6)
    rows = [
        (str(name), [augmented({"image": image}, [row, number])["image"].numpy() for number in range(9)])
        for row, (image, name) in enumerate(zip(sample.images, sample.ids, strict=True))
    ]
    image_grid.augmentation_sheet(rows, path)


def _batches(run: Run, epochs: range, augmented: Any, *, steps: int) -> tf.data.Dataset:
    """The training batches of these epochs, so many in each."""
    recipe, settings = run.recipe, run.recipe.train
    return pk_sampler.training(
        run.finished("prepare"),
        "train",
        image_dataset.shape_of(recipe.data),
        layout=pk_sampler.Layout(settings.batch_size // settings.each, settings.each),
        steps=steps,
        epochs=epochs,
        seed=recipe.seed,
        augment=augmented,
        rotations=settings.rotations,
        memory=int(recipe.data.memory_gb * 2**30),
        share=run.share,
    )


def _validation(run: Run) -> tf.data.Dataset:
    """The validation people's pictures, person after person, so that a batch holds many pairs."""
    data = run.facts("prepare")
    split = image_dataset.validation_split(data)
    return pk_sampler.ordered_batches(
        run.finished("prepare"),
        split,
        image_dataset.shape_of(run.recipe.data),
        count=data["splits"][split],
        batch_size=VALIDATED,
    )
