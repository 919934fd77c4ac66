"""Verification: do these two pictures show the same person, one that was never trained on?"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn_keras.errors import Fault
from pipelines.data import image_dataset, run_files
from pipelines.engine import recipe as recipes
from pipelines.tasks.verify import dataset
from pipelines.tasks.verify import model as verify_model
from pipelines.tasks.verify.dataset import Data
from pipelines.tasks.verify.dataset import prepare as prepare  # the first of the four verbs
from pipelines.tasks.verify.model import Evaluate, Export, Model, Train

if TYPE_CHECKING:
    import tensorflow as tf

    from pipelines.engine.stages import Run

VALIDATED = 512  # pictures of one batch of validation, whose pairs are compared


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()  # what training does to each picture, in order
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    if stage == "export":
        return {"evaluate.far": recipe.evaluate.far}  # by which the exported threshold is calibrated
    if stage != "prepare":
        return {}
    if recipe.train.loss == "none" and not recipe.model.weights:  # here, so that such a recipe can still be shown
        raise Fault("model.weights is required with train.loss: none, which trains nothing; --set model.weights=FILE")
    if recipe.data.align and recipe.data.align.by != "opencv" and not recipe.data.align.found.exists():
        raise Fault(f"data.align.path must be there, got {recipe.data.align.path}")
    return {"files": dataset.files_digest(recipe.data)}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    import keras

    from cnn_keras.data.transforms import augment

    composed = augment.compose(recipe.augment, size=recipe.data.size)
    if composed is not None and composed.mixes:
        raise Fault("augment must not mix pictures for verification: a mixture shows nobody")
    verify_model.assemble(recipe, {"normalization": {"axis": None, "mean": 0.0, "variance": 1.0}}, loaded=False)
    keras.utils.clear_session()


def train(run: "Run", folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras`, pictures to embeddings, and `matcher.keras`, which compares two."""
    from cnn_keras.models import siamese
    from pipelines.engine import trainer
    from pipelines.export import savedmodel
    from pipelines.tasks.verify import plots

    recipe, data = run.recipe, run.facts("prepare")
    settings: Train = recipe.train
    trainer.set_up(recipe.seed, settings)
    network = verify_model.assemble(recipe, data)
    embedding = siamese.embedding(network, mirrored=recipe.model.mirrored)
    if settings.loss == "none":
        savedmodel.save_keras(embedding, folder / "model.keras")
        savedmodel.save_keras(siamese.matcher(recipe.model.dimension), folder / "matcher.keras")
        run.console.print(f"          {recipe.model.builder}: weights as given, nothing is trained")
        digest = trainer.weights_digest(network)
        return {"digest": digest, "epochs": 0, "best_epoch": 0, "parameters": network.count_params(), "metrics": {}}
    model = verify_model.trainable(network, settings, len(data["classes"]))
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
        on_epoch=verify_model.watching(run),
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


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Calibrate the threshold on the validation people, measure on the test people, say which requirements failed."""
    from pipelines.tasks.verify import report as verify_report

    return verify_report.evaluate(run, folder)


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: pictures to embeddings, pairs to answers; prove that it agrees."""
    from cnn_keras.data import input_pipeline, records
    from pipelines.export import savedmodel
    from pipelines.tasks.verify import model_card
    from pipelines.tasks.verify import report as verify_report

    recipe, data, prepared = run.recipe, run.facts("prepare"), run.finished("prepare")
    settings: Export = recipe.export
    name, shape, split = (
        settings.name or recipe.name,
        image_dataset.shape_of(recipe.data),
        image_dataset.test_split(data),
    )
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    models, align = verify_model.trained(run), recipe.data.align
    rates = verify_report.rates_of(report)
    landmarks = dataset.aligner_of(align) if align and align.by == "landmarks" else None
    verify_model.write_embedder(*models, saved, shape=shape, rates=rates, landmarks=landmarks)
    pictures = input_pipeline.arrays(prepared, split, shape, limit=verify_model.COMPARED)
    if landmarks:  # of the records the eyes have been aligned already
        encoded = dataset.originals(recipe.data, pictures.ids)
    else:
        encoded = [row["image"] for row in records.read(prepared, split).take(len(pictures.ids)).as_numpy_iterator()]
    agreement = verify_model.compare_embedder(models, saved, pictures.images, encoded, tolerance=settings.tolerance)
    verify_model.write_warmup(saved, pictures.images, encoded)
    facts = verify_model.facts(run, report)
    run_files.write_json(saved / verify_model.FACTS, facts)
    model_card.write(saved / "card.md", models[0], recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: largest difference {agreement['difference']:.1e}, "
        f"{agreement['changed']} changed decisions on {agreement['images']} pictures"
    )
    found = {"name": name, "version": version, "agreement": agreement, **facts}
    if settings.register_model:
        found["register"] = savedmodel.registration(run, name, version, metric="auc")
    return found


def _batches(run: "Run", folder: Path, steps: int) -> Any:
    """The training batches of the epochs in a range; a sheet of augmented samples is left in the folder."""
    from cnn_keras.data import input_pipeline, pk_sampler
    from cnn_keras.data.transforms import augment
    from pipelines.plots import image_grid as pictures

    recipe, prepared = run.recipe, run.finished("prepare")
    shape, settings = image_dataset.shape_of(recipe.data), recipe.train
    augmented = augment.compose(recipe.augment, size=recipe.data.size)
    if augmented is not None:
        sample = input_pipeline.arrays(prepared, "train", shape._replace(size=augmented.source or shape.size), limit=6)
        rows = [
            (str(name), [augmented({"image": image}, [row, number])["image"].numpy() for number in range(9)])
            for row, (image, name) in enumerate(zip(sample.images, sample.ids, strict=True))
        ]
        pictures.augmentation_sheet(rows, folder / "augmented.png")

    def batches(epochs: range) -> "tf.data.Dataset":
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


def _validation(run: "Run") -> "tf.data.Dataset":
    """The validation people's pictures, person after person, so that a batch holds many pairs."""
    from cnn_keras.data import pk_sampler

    data = run.facts("prepare")
    split = image_dataset.validation_split(data)
    return pk_sampler.ordered_batches(
        run.finished("prepare"),
        split,
        image_dataset.shape_of(run.recipe.data),
        count=data["splits"][split],
        batch_size=VALIDATED,
    )
