"""Verification: do these two pictures show the same person, one that was never trained on?"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn_keras.fault import Fault
from pipelines import embedder, labelled, people
from pipelines import recipe as recipes
from pipelines.embedder import Evaluate, Export, Model, Train
from pipelines.people import Data
from pipelines.people import prepare as prepare  # the first of the four verbs

if TYPE_CHECKING:
    import tensorflow as tf

    from pipelines.stages import Run

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
    """What a stage's result depends on besides the recipe: the files of the source, and the code."""
    code = embedder.depends(stage, recipe)
    if stage != "prepare":
        return code
    if recipe.train.loss == "none" and not recipe.model.weights:  # here, so that such a recipe can still be shown
        raise Fault("model.weights is required with train.loss: none, which trains nothing; --set model.weights=FILE")
    if recipe.data.align and recipe.data.align.by != "opencv" and not recipe.data.align.found.exists():
        raise Fault(f"data.align.path must be there, got {recipe.data.align.path}")
    return {**code, "files": people.files_digest(recipe.data)}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    import keras

    from cnn_keras.data import augment

    composed = augment.compose(recipe.augment, size=recipe.data.size)
    if composed is not None and composed.mixes:
        raise Fault("augment must not mix pictures for verification: a mixture shows nobody")
    embedder.assemble(recipe, {"normalization": {"axis": None, "mean": 0.0, "variance": 1.0}}, loaded=False)
    keras.utils.clear_session()


def train(run: "Run", folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras`, pictures to embeddings, and `matcher.keras`, which compares two."""
    from cnn_keras.models import siamese
    from pipelines import fit, savedmodel, verification_charts

    recipe, data = run.recipe, run.facts("prepare")
    settings: Train = recipe.train
    fit.set_up(recipe.seed, settings)
    network = embedder.assemble(recipe, data)
    embedding = siamese.embedding(network, mirrored=recipe.model.mirrored)
    if settings.loss == "none":
        savedmodel.save_keras(embedding, folder / "model.keras")
        savedmodel.save_keras(siamese.matcher(recipe.model.dimension), folder / "matcher.keras")
        run.console.print(f"          {recipe.model.builder}: weights as given, nothing is trained")
        digest = fit.weights_digest(network)
        return {"digest": digest, "epochs": 0, "best_epoch": 0, "parameters": network.count_params(), "metrics": {}}
    model = embedder.trainable(network, settings, len(data["classes"]))
    examples = data["splits"]["train"]
    steps = settings.steps or -(-examples // settings.batch_size)
    run.console.print(f"          {recipe.model.builder}: {network.count_params():,} parameters, {examples:,} pictures")
    fit.compile_model(model, settings, loss=None, metrics=None, steps=steps)
    history = fit.fit(
        model,
        settings,
        folder,
        batches=_batches(run, folder, steps),
        validation=_validation(run),
        images=steps * settings.batch_size,
        console=run.console,
        on_epoch=embedder.watching(run),
        extend_to=extend_to,
    )
    savedmodel.save_keras(embedding, folder / "model.keras")
    head = model.head if settings.loss == "siamese" else None
    savedmodel.save_keras(siamese.matcher(recipe.model.dimension, head), folder / "matcher.keras")
    best, digest = fit.best_epoch(history, settings.monitor), fit.weights_digest(model)
    verification_charts.training(history, folder / "curves.png", best=best)
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
    from pipelines import verification_report

    return verification_report.evaluate(run, folder)


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: pictures to embeddings, pairs to answers; prove that it agrees."""
    from cnn_keras.data import batch, records
    from pipelines import savedmodel, stages, verification_card, verification_report

    recipe, data, prepared = run.recipe, run.facts("prepare"), run.finished("prepare")
    settings: Export = recipe.export
    name, shape, split = settings.name or recipe.name, labelled.shape_of(recipe.data), labelled.test_split(data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    report = stages.read_json(run.finished("evaluate") / "report.json")
    models, align = embedder.trained(run), recipe.data.align
    rates = verification_report.rates_of(report)
    landmarks = people.aligner_of(align) if align and align.by == "landmarks" else None
    embedder.write_embedder(*models, saved, shape=shape, rates=rates, landmarks=landmarks)
    pictures = batch.arrays(prepared, split, shape, limit=embedder.COMPARED)
    if landmarks:  # of the records the eyes have been aligned already
        encoded = people.originals(recipe.data, pictures.ids)
    else:
        encoded = [row["image"] for row in records.read(prepared, split).take(len(pictures.ids)).as_numpy_iterator()]
    agreement = embedder.compare_embedder(models, saved, pictures.images, encoded, tolerance=settings.tolerance)
    embedder.write_warmup(saved, pictures.images, encoded)
    facts = embedder.facts(run, report)
    stages.write_json(saved / embedder.FACTS, facts)
    verification_card.write(saved / "card.md", models[0], recipe=recipe, data=data, report=report, agreement=agreement)
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
    from cnn_keras.data import augment, batch, identities
    from pipelines import pictures

    recipe, prepared = run.recipe, run.finished("prepare")
    shape, settings = labelled.shape_of(recipe.data), recipe.train
    augmented = augment.compose(recipe.augment, size=recipe.data.size)
    if augmented is not None:
        sample = batch.arrays(prepared, "train", shape._replace(size=augmented.source or shape.size), limit=6)
        rows = [
            (str(name), [augmented({"image": image}, [row, number])["image"].numpy() for number in range(9)])
            for row, (image, name) in enumerate(zip(sample.images, sample.ids, strict=True))
        ]
        pictures.augmentation_sheet(rows, folder / "augmented.png")

    def batches(epochs: range) -> "tf.data.Dataset":
        return identities.training(
            prepared,
            "train",
            shape,
            layout=identities.Layout(settings.batch_size // settings.each, settings.each),
            steps=steps,
            epochs=epochs,
            seed=recipe.seed,
            augment=augmented,
            memory=int(recipe.data.memory_gb * 2**30),
        )

    return batches


def _validation(run: "Run") -> "tf.data.Dataset":
    """The validation people's pictures, person after person, so that a batch holds many pairs."""
    from cnn_keras.data import identities

    data = run.facts("prepare")
    split = labelled.validation_split(data)
    return identities.ordered(
        run.finished("prepare"),
        split,
        labelled.shape_of(run.recipe.data),
        count=data["splits"][split],
        batch_size=VALIDATED,
    )
