"""Segmentation: what does each pixel, or each voxel, show?"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine import requirement, stages
from pipelines.engine.recipe import Model, Name, Positive, Section
from pipelines.export import savedmodel
from pipelines.tasks.segment import dataset, records
from pipelines.tasks.segment import export as segment_export
from pipelines.tasks.segment import model as segment_model
from pipelines.tasks.segment import train as segment_train
from pipelines.tasks.segment.dataset import Data
from pipelines.tasks.segment.dataset import prepare as prepare  # the first of the four verbs
from pipelines.tasks.segment.model import Segmenter, Train

if TYPE_CHECKING:
    import numpy as np

    from pipelines.engine.stages import Run
    from pipelines.tasks.segment.report import Answer

    Array = np.ndarray[Any, np.dtype[Any]]

COMPARED = 16  # pictures on which the exported model must agree
WARMUP = 2  # requests recorded beside it
SIDE = 96  # voxels along each side of the part of a volume on which it must agree
SAMPLED = 50_000  # pixels of the training split that the baseline learns from
LISTED = 25  # classes whose Dice MLflow is told
MEASURED = ("pixel_accuracy", "mean_iou", "mean_dice", "boundary_f")  # of the report, for MLflow
Share = Annotated[float, Field(ge=0, le=1)]


class Evaluate(Section):
    """What is measured, and what must hold before the model is exported."""

    tolerance: Annotated[float, Field(ge=0)] | None = None  # pixels a border may be off; null is 0.75 % of the diagonal
    worst: Positive = 6  # the worst pictures that are drawn
    # metric: the least it must be
    require: dict[Literal["pixel_accuracy", "mean_iou", "mean_dice", "boundary_f"], Share] = Field(default_factory=dict)
    require_dice: dict[str, Share] = Field(default_factory=dict)  # class: the least its Dice must be


class Export(Section):
    """What the exported model is called and how far it may stray from the trained one."""

    name: Name | None = None  # the run's name unless given
    tolerance: Annotated[float, Field(ge=0)] = 1e-4  # the share of pixels that may be of another class
    register_model: bool = True  # in MLflow's registry, as candidate


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()  # what training does to each image and its mask, in order
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _fits_segmentation(self) -> Self:
        for key in ("transfer", "ensemble", "class_weights", "focal_gamma", "label_smoothing"):
            if getattr(self.train, key):
                raise ValueError(f"train.{key} is for classification; train.loss says what is minimised here")
        if self.train.monitor != "val_loss":
            raise ValueError("train.monitor must be val_loss for segmentation")
        loss = self.train.loss
        if not (loss.cross_entropy or loss.dice or loss.focal):
            raise ValueError("train.loss must have a term with a weight above 0")
        return self


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    return {"files": dataset.files_digest(recipe.data)} if stage == "prepare" else {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    segment_train.augmentation(recipe, lambda: [])
    segment_model.check(recipe)


def samples(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    """Pictures with masks for `cnn augment`."""
    return dataset.samples(recipe.data, count, seed=recipe.seed)


def train(run: "Run", folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    return segment_train.train(run, folder, extend_to=extend_to)


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Measure the segmenter on the test split, beside what a pixel's own value tells; say which requirements failed."""
    from cnn_keras.metrics import segmentation
    from pipelines.tasks.segment import report as segment_report

    recipe, data = run.recipe, run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    split, names = dataset.test_split(data), data["classes"]
    asked = Segmenter(segment_model.trained(run), recipe.data).asked()
    tally = segment_report.tally(_answers(run, split, asked), len(names), tolerance=settings.tolerance)
    before = {}
    for one in recipe.train.before:
        coarser = Segmenter(segment_model.trained(run, f"{one.builder}/model.keras"), recipe.data).asked()
        answers = _answers(run, split, coarser)
        before[one.builder] = sum(segmentation.confusion(a.truth, a.labels, len(names)) for a in answers)
    report = segment_report.report(
        folder, tally, names, baseline=_baseline(run, split), before=before, tolerance=settings.tolerance
    )

    def pictured(rows: list[int]) -> "list[tuple[Array, Array, Array]]":
        wanted = {row: one for row, one in enumerate(records.of_run(run, split)) if row in rows}
        return [(wanted[row].image, wanted[row].truth, asked(wanted[row].image).labels.numpy()) for row in rows]

    segment_report.draw(folder, tally, names, shown=settings.worst, pictured=pictured)
    segment_report.say(run.console, report)
    metrics = {f"test_{key}": report[key] for key in MEASURED if report[key] is not None}
    told = [row for row in report["classes"] if row["dice"] is not None]
    metrics |= {f"test_dice_{row['name']}": row["dice"] for row in told[:LISTED]}
    metrics |= {f"baseline_{key}": value for key, value in report["baseline"].items()}
    return {"metrics": metrics, "failed": failed(settings, report)}


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: a picture in, a mask of its size and its legend out; prove that it agrees."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Export = recipe.export
    name, split = settings.name or recipe.name, dataset.test_split(data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    asking = Segmenter(segment_model.trained(run), recipe.data)
    segment_export.write(asking, saved, names=data["classes"])
    pairs = list(_compared(run, split))
    agreement = segment_export.compare(asking, saved, pairs, tolerance=settings.tolerance)
    if recipe.data.axes == 2:
        requests = {"serving_default": ("image_bytes", [[sent] for _, sent in pairs[:WARMUP]])}
    else:
        requests = {"serving_default": ("volume", [sent[None] for _, sent in pairs])}
    savedmodel.record_requests(saved, requests)
    report = stages.read_json(run.finished("evaluate") / "report.json")
    told = {"recipe": recipe, "data": data, "report": report, "agreement": agreement}
    segment_export.write_card(saved / "card.md", asking.model, **told)
    run.console.print(
        f"          {name} version {version}: of {agreement['pixels']:,} pixels {agreement['changed']:,} are called "
        f"otherwise than by the trained model"
    )
    facts = {"name": name, "version": version, "classes": data["classes"], "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric="mean_iou")
    return facts


def _answers(run: "Run", split: str, asked: Any) -> "Iterator[Answer]":
    """What is said of each picture or volume of a split, as it came."""
    from pipelines.data import validation
    from pipelines.tasks.segment.report import Answer

    with validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=run.facts("prepare")["splits"][split])
        for one in records.of_run(run, split):
            said = asked(one.image)
            yield Answer(one.id, one.truth, said.labels.numpy(), float(said.confidence.numpy().mean()))
            bar.advance(task)


def _baseline(run: "Run", split: str) -> "Array":
    """The confusion of a small tree of decisions on the values of each pixel alone, learnt on the training split."""
    import numpy as np
    from sklearn.tree import DecisionTreeClassifier

    from cnn_keras.metrics import segmentation

    data, drawn = run.facts("prepare"), np.random.default_rng(run.recipe.seed)
    each = max(1, SAMPLED // data["splits"]["train"])
    values, labels = [], []
    for one in records.of_run(run, "train"):
        known = np.flatnonzero(one.truth >= 0)
        chosen = drawn.choice(known, min(each, len(known)), replace=False)
        values.append(one.image.reshape(-1, one.image.shape[-1])[chosen])
        labels.append(one.truth.ravel()[chosen])
    tree = DecisionTreeClassifier(max_leaf_nodes=32, random_state=0)
    tree.fit(np.concatenate(values), np.concatenate(labels))
    total = np.zeros((len(data["classes"]),) * 2, np.int64)
    for one in records.of_run(run, split):
        said = tree.predict(one.image.reshape(-1, one.image.shape[-1])).reshape(one.truth.shape)
        total += segmentation.confusion(one.truth, said, len(total))
    return total


def failed(settings: Evaluate, report: dict[str, Any]) -> list[str]:
    """The requirements of the recipe that the segmenter does not meet."""
    dice = {row["name"]: row["dice"] for row in report["classes"]}
    if unknown := settings.require_dice.keys() - dice.keys():
        raise Fault(f"evaluate.require_dice must name classes, {', '.join(dice)}, got {', '.join(sorted(unknown))}")
    wanted = {f"evaluate.require: {key}": (least, report[key]) for key, least in settings.require.items()}
    wanted |= {f"evaluate.require_dice: {key}": (least, dice[key]) for key, least in settings.require_dice.items()}
    return [
        f"{what} must be at least {least}, got {'nothing' if got is None else f'{got:.4f}'}"
        for what, (least, got) in wanted.items()
        if not requirement.reaches(got, least)
    ]


def _compared(run: "Run", split: str) -> "Iterator[tuple[Any, Any]]":
    """Pictures as the trained model takes them and as they are sent; of the first volume the middle."""
    if run.recipe.data.axes == 2:
        encoded = records.encoded(run.recipe, run.finished("prepare"), split, COMPARED)
        yield from ((one.image, sent) for one, sent in zip(records.of_run(run, split), encoded, strict=False))
        return
    first = next(records.of_run(run, split)).image
    edges = [max(0, length - SIDE) // 2 for length in first.shape[:3]]
    middle = first[tuple(slice(edge, edge + SIDE) for edge in edges)]
    yield middle, middle
