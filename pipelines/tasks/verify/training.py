"""How an embedder is trained: batches of some pictures of each of some people, watched for a collapse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from cnn_keras.data import input_pipeline, pk_sampler
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from cnn_keras.models import siamese
from pipelines.data import image_dataset
from pipelines.engine.stages import Run
from pipelines.engine.training import trainer
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
    recipe, data = run.recipe, run.facts("prepare")
    settings: Train = recipe.train
    trainer.set_up(recipe.seed, settings)
    network = assemble(recipe, data)
    embedding = siamese.embedding(network, mirrored=recipe.model.mirrored)
    if settings.loss == "none":
        savedmodel.save_keras(embedding, folder / "model.keras")
        savedmodel.save_keras(siamese.matcher(recipe.model.dimension), folder / "matcher.keras")
        run.console.print(f"          {recipe.model.builder}: given weights, no training")
        digest = trainer.weights_digest(network)
        return {"digest": digest, "epochs": 0, "best_epoch": 0, "parameters": network.count_params(), "metrics": {}}
    model = trainable(network, settings, len(data["classes"]))
    examples = data["splits"]["train"]
    steps = settings.steps or -(-examples // settings.batch_size)
    run.console.print(f"          {recipe.model.builder}: {network.count_params():,} parameters, {examples:,} pictures")
    trainer.compile_model(model, settings, loss=None, metrics=None, steps=steps)
    history = trainer.fit(
        model,
        settings,
        folder,
        batches=_batches(run, folder, steps),
        validation=_validation(run),
        images=steps * settings.batch_size,
        console=run.console,
        on_epoch=watching(run),
        extend_to=extend_to,
    )
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
            run.console.print(f"          [yellow]{explained(row, settings)}[/]")
        if collapsed == PATIENCE:
            raise Fault(
                f"training collapsed for {PATIENCE} epochs, up to epoch {number}: {explained(row, settings)}",
                code=Fault.DIVERGED,
            )

    return on_epoch


def explained(row: Row, settings: Train) -> str:
    """Why a training whose embeddings are all the same does not move, and what to do."""
    stands = f", and the loss stays at the margin, {settings.kept_margin:g}" if settings.loss == "triplet" else ""
    hard = settings.loss == "triplet" and settings.mining == "hard"
    other = "train.mining: semi-hard or random" if hard else "train.loss: arcface"
    return (
        f"all pictures get nearly the same embedding: their spread is {row['spread']:.4f} of 1{stands}. Take {other}, "
        f"a lower train.learning_rate (now {settings.learning_rate:g}) or train.warmup_epochs, and start again."
    )


def _batches(run: Run, folder: Path, steps: int) -> Any:
    """The training batches of the epochs in a range; a sheet of augmented samples is left in the folder."""
    recipe, prepared = run.recipe, run.finished("prepare")
    shape, settings = image_dataset.shape_of(recipe.data), recipe.train
    augmented = augment.compose(recipe.augment, size=recipe.data.size)
    if augmented is not None:
        sample = input_pipeline.arrays(prepared, "train", shape._replace(size=augmented.source or shape.size), limit=6)
        rows = [
            (str(name), [augmented({"image": image}, [row, number])["image"].numpy() for number in range(9)])
            for row, (image, name) in enumerate(zip(sample.images, sample.ids, strict=True))
        ]
        image_grid.augmentation_sheet(rows, folder / "augmented.png")

    def batches(epochs: range) -> tf.data.Dataset:
        return pk_sampler.training(
            prepared,
            "train",
            shape,
            layout=pk_sampler.Layout(settings.batch_size // settings.each, settings.each),
            steps=steps,
            epochs=epochs,
            seed=recipe.seed,
            augment=augmented,
            memory=int(recipe.data.memory_gb * 2**30),
        )

    return batches


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
