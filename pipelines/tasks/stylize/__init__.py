"""Style transfer: paint one picture with the strokes of another – slowly, pixel by pixel, or in one pass.

Two ways share the four stages, and `train.method` says which. *picture* (Gatys et al., 2016) optimises the pixels.
There is nothing to learn for next time, so `train` is the painting itself: its state is the unfinished picture, and a
killed run goes on from its last round. `evaluate` has other eyes look at it, and `export` hangs it: the paintings as
PNG files, of a video one MP4, and a card. *network* (Johnson et al., 2016) trains a transformer on windows of
photographs; `evaluate` has it paint photographs it never saw, and `export` writes a SavedModel that takes any size and
gives it back.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.recipe import Model, Name, Positive, Section
from pipelines.export import savedmodel
from pipelines.tasks.stylize import dataset, feature_extractor, method_comparison, runner, transform_net
from pipelines.tasks.stylize import report as stylize_report
from pipelines.tasks.stylize.dataset import Data
from pipelines.tasks.stylize.painting import Paint
from pipelines.tasks.stylize.transform_net import Train

if TYPE_CHECKING:
    from pipelines.engine.stages import Run

COMPARED = 3  # pictures on which the exported model must agree


class Evaluate(Section):
    """What is measured, and what must hold before anything is exported."""

    compared: Annotated[int, Field(ge=0)] = 2  # of a network's test pictures, that are optimised as well
    steps: Positive = 60  # of that optimisation, at each of two scales
    # metric: the least it must be
    require: dict[Literal["style_fall", "content_lead"], float] = Field(default_factory=dict)


class Export(Section):
    """What is exported, and how far a SavedModel may stray from the trained network."""

    name: Name | None = None  # the run's name unless given
    tolerance: Annotated[float, Field(ge=0)] = 1.0  # grey levels
    register_model: bool = True  # in MLflow's registry, as candidate


Training = Annotated[
    Annotated[Paint, Tag("<picture>")] | Annotated[Train, Tag("<network>")],
    Discriminator(lambda given: f"<{given.get('method', 'picture') if isinstance(given, dict) else given.method}>"),
]


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()  # of a network's training windows
    model: Model | None = None  # of a network
    train: Training = Paint()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if isinstance(self.train, Paint):
            if self.model or self.augment:
                raise ValueError("model and augment go with train.method: network, and only with it")
            return self
        if self.model is None:
            raise ValueError("model is required with train.method: network, such as {builder: stylize.transformer}")
        for key in ("transfer", "ensemble", "class_weights", "focal_gamma", "label_smoothing"):
            if getattr(self.train, key):
                raise ValueError(f"train.{key} is for classification")
        if self.train.monitor != "val_loss":
            raise ValueError("train.monitor must be val_loss for style transfer, which has no accuracy")
        if any(style.mask or style.weight != 1 for style in self.data.styles):
            raise ValueError("data.styles must have neither masks nor weights for a network, which learns each")
        return self


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    match stage:
        case "prepare":
            return {"method": recipe.train.method, "files": dataset.files_digest(recipe.data)}
        case "train":
            return feature_extractor.fingerprint(feature_extractor.chosen(recipe.train.loss))
        case _:
            return {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from cnn_keras import models
    from cnn_keras.data.transforms import augment

    feature_extractor.check(recipe.train.loss)
    if recipe.model is None:
        return
    composed = augment.compose(recipe.augment, size=(recipe.data.window, recipe.data.window))
    if composed is not None and composed.mixes:
        raise Fault("augment must not mix pictures for style transfer")
    taken = models.signature(recipe.model.builder).parameters
    if "styles" not in taken:
        raise Fault(
            f"model.builder must be a network that paints, such as stylize.transformer, got {recipe.model.builder}"
        )
    arguments = {"input_shape": (64, 64, 3), "styles": len(recipe.data.styles), **recipe.model.arguments}
    models.check(recipe.model.builder, weights=recipe.model.weights, **arguments)


def prepare(run: "Run", folder: Path) -> dict[str, Any]:
    """Read, check and bring to size the pictures and styles; cut windows for a network."""
    recipe = run.recipe
    return dataset.prepare(recipe.data, folder, learns=not _paints(recipe), seed=recipe.seed, console=run.console)


def train(run: "Run", folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Paint the pictures, or train the network that will."""
    from pipelines.engine import trainer

    paints = _paints(run.recipe)
    trainer.set_up(run.recipe.seed, run.recipe.train, half="bfloat16" if paints else "float16")
    return _paint(run, folder) if paints else _learn(run, folder, extend_to)


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Have a network that had no say look at the paintings; say which requirements failed."""
    way = stylize_report.evaluate_paintings if _paints(run.recipe) else method_comparison.evaluate
    report = way(run, folder)
    measured = {f"test_{name}": report[name] for name in stylize_report.METRICS}
    return {"metrics": measured, "failed": stylize_report.failed(run.recipe.evaluate.require, report)}


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Hang the paintings, or write the SavedModel that paints; with a card."""
    name = run.recipe.export.name or run.recipe.name
    version = savedmodel.next_version(run.folder / "export" / name)
    target = folder / name / str(version)
    report = stages.read_json(run.finished("evaluate") / "report.json")
    if _paints(run.recipe):
        written = _hang(run, target)
        stylize_report.write_card(target / "card.md", run.recipe, run.facts("prepare"), report)
        where = run.folder / "export" / name / str(version)
        run.console.print(f"          {name} version {version}: {written} in {where}")
        return {"name": name, "version": version, "pictures": str(where)}
    return _export_network(run, target, name, version, report)


def _paints(recipe: Recipe) -> bool:
    return isinstance(recipe.train, Paint)


def _paint(run: "Run", folder: Path) -> dict[str, Any]:
    recipe, prepared = run.recipe, run.finished("prepare")
    objective, _ = runner.objective_of(recipe.train.loss, prepared, console=run.console)
    painter = runner.painter_of(recipe.data, prepared, recipe.train, objective, seed=recipe.seed)
    pictures = dataset.motifs(prepared)
    video = run.facts("prepare")["kind"] == "video"
    rows = runner.paint(painter, pictures, folder, console=run.console, told=run.on_epoch, video=video)
    runner.write_history(rows, folder / "history.csv")
    runner.draw_history(rows, folder / "curves.png")
    written = sorted((folder / runner.PAINTINGS).glob("*.png"))
    return {"digest": stages.digest([stages.file_digest(path) for path in written]), "paintings": len(written)}


def _learn(run: "Run", folder: Path, extend_to: int | None) -> dict[str, Any]:
    from cnn_keras.data.transforms import augment
    from pipelines.engine import trainer

    recipe, prepared, count = run.recipe, run.finished("prepare"), run.facts("prepare")["splits"]["train"]
    objective, _ = runner.objective_of(recipe.train.loss, prepared, console=run.console)
    model = transform_net.assemble(recipe)
    run.console.print(f"          {recipe.model.builder}: {model.count_params():,} parameters, {count:,} windows")
    network = transform_net.trainable(model, objective, transform_net.wanted(objective, prepared))
    trainer.compile_model(network, recipe.train, loss=None, metrics=None, steps=-(-count // recipe.train.batch_size))
    augmented = augment.compose(recipe.augment, size=(recipe.data.window, recipe.data.window))
    history = trainer.fit(
        network,
        recipe.train,
        folder,
        batches=lambda epochs: transform_net.batches(run, epochs, augmented),
        validation=transform_net.validation(run),
        images=count,
        console=run.console,
        on_epoch=run.on_epoch,
        extend_to=extend_to,
    )
    return trainer.concluded(model, history, recipe.train, folder, console=run.console, metric="style")


def _hang(run: "Run", target: Path) -> str:
    """The paintings in their folder, those of a video as one; what was written, in words."""
    target.mkdir(parents=True)
    painted, facts = runner.paintings(run.finished("train")), run.facts("prepare")
    shutil.copyfile(run.finished("evaluate") / "strip.png", target / "strip.png")
    if facts["kind"] == "video":
        frames = [motif.pixels for motif in painted]
        runner.write_video(frames, target / "painting.mp4", rate=facts["frames_per_second"])
        return f"a video of {len(frames)} frames"
    unique = len({motif.name for motif in painted}) == len(painted)
    for number, motif in enumerate(painted):
        dataset.save(motif.pixels, target / (f"{motif.name}.png" if unique else f"{number:05d}-{motif.name}.png"))
    return f"{len(painted)} painting{'s' if len(painted) > 1 else ''}"


def _export_network(run: "Run", target: Path, name: str, version: int, report: dict[str, Any]) -> dict[str, Any]:
    recipe, data = run.recipe, run.facts("prepare")
    model, settings = transform_net.trained(run), recipe.export
    transform_net.write_transformer(model, target, styles=data["styles"])
    pictures = [motif.pixels for motif in dataset.motifs(run.finished("prepare"))[:COMPARED]]
    agreement = transform_net.compare_transformer(
        model, target, pictures, styles=len(data["styles"]), tolerance=settings.tolerance
    )
    transform_net.write_warmup(target, pictures)
    card = target / "card.md"
    transform_net.write_card(card, model, recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: paintings of {agreement['images']} pictures differ by at most "
        f"{agreement['difference']:g} grey levels"
    )
    facts = {"name": name, "version": version, "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric="style_fall")
    return facts
