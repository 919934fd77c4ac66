"""Classification: which of these classes does the picture show?"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from cnn_keras.fault import Fault
from pipelines import intake, savedmodel, stages
from pipelines import recipe as recipes
from pipelines.recipe import Fraction, Model, Name, Positive, Section, Train

if TYPE_CHECKING:
    import keras

    from cnn_keras.data.batch import Shape
    from pipelines.stages import Run

Baseline = Literal["majority", "logistic regression", "nearest neighbour"]
SAMPLES = 60  # pictures on a contact sheet


def _from_recipe(path: Path, info: ValidationInfo) -> Path:
    return (info.context["folder"] / path.expanduser()).resolve() if info.context else path


class Data(Section):
    """Where the images come from and what shape they are given."""

    source: str
    path: Annotated[Path, AfterValidator(_from_recipe)] | None = None
    classes: tuple[str, ...] | None = None  # names of integer labels, in their order
    group: str | None = None  # a regular expression; what its parenthesis finds in a path stays in one split
    size: tuple[Positive, Positive] = (224, 224)  # height, width
    channels: Literal[1, 3] = 3
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    validation: Fraction = 0.1
    test: Fraction = 0.2
    normalize: Literal["standardise", "mean_image", "rescale"] = "standardise"
    max_bad: Fraction = 0.1  # a larger share of unusable images is refused
    memory_gb: Annotated[float, Field(gt=0)] = 2.0  # a larger decoded training split is streamed


class Evaluate(Section):
    """What is measured, and what must hold before the model is exported."""

    baselines: bool = True
    worst: Positive = 24
    require: dict[str, float] = {}  # metric: the least it must be
    beat: tuple[Baseline, ...] = ()  # baselines whose accuracy it must reach


class Export(Section):
    """What the exported model is called and how far it may stray from the trained one."""

    name: Name | None = None  # the run's name unless given
    tolerance: Annotated[float, Field(gt=0)] = 1e-5
    register_model: bool = True


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe: the files of the source, and the code."""
    match stage:
        case "prepare":
            code = stages.code_digest("cnn_keras/data", "pipelines/intake.py")
            return {"code": code, "files": _files_digest(recipe.data)}
        case "train":
            family = f"cnn_keras/models/{recipe.model.builder.partition('.')[0]}.py"
            return {"code": stages.code_digest(family, "cnn_keras/layers.py", "cnn_keras/data/augment.py")}
        case "evaluate":
            return {"code": stages.code_digest("cnn_keras/metrics.py", "pipelines/report.py", "pipelines/baselines.py")}
        case _:
            return {"code": stages.code_digest("pipelines/savedmodel.py", "cnn_keras/data")}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from cnn_keras import models
    from cnn_keras.data import augment

    models.check(recipe.model.builder, **{"input_shape": (), "classes": 0, **recipe.model.arguments})
    augment.compose(recipe.augment)


def prepare(run: "Run", folder: Path) -> dict[str, Any]:
    """Validate, split and record the images; fit the normalisation on the training split."""
    from cnn_keras.data import read

    data: Data = run.recipe.data
    items = read.items(data.source, path=data.path, classes=data.classes, group=data.group)
    examined = intake.examine(items, console=run.console)
    problems = [problem for found in examined for problem in found.problems] + intake.duplicates(items, examined)
    intake.report(problems, len(items), path=folder / "problems.csv", max_bad=data.max_bad, console=run.console)
    kept = [(item, found.digest) for item, found in zip(items, examined, strict=True) if found.digest]
    classes = _class_names([item.label for item, _ in kept], data)
    splits = _splits(kept, data, run.recipe.seed)
    stages.write_text(folder / "split.csv", _split_csv(kept, splits))
    counts = _write_records(run, folder, kept, splits, classes)
    shape = _shape(data)
    facts = {
        "source": data.source,
        "location": str(data.path or data.source),
        "classes": classes,
        "splits": {split: sum(inner.values()) for split, inner in counts.items()},
        "normalization": _fit_normalization(folder, shape, data.normalize),
        "problems": {kind: len(group) for kind, group in intake.grouped(problems).items()},
    }
    facts["digest"] = stages.digest([facts, stages.file_digest(folder / "split.csv"), *shape])
    stages.write_json(folder / "data.json", facts)
    _draw_data(folder, shape, classes, counts)
    sizes = ", ".join(f"{count:,} {split}" for split, count in facts["splits"].items())
    run.console.print(f"          {len(kept):,} images of {len(classes)} classes: {sizes}")
    return facts


def train(run: "Run", folder: Path, extend: int = 0) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    import keras

    from cnn_keras.data import augment, batch
    from pipelines import charts, fit

    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    settings: Train = recipe.train
    fit.seed_everything(recipe.seed, deterministic=settings.deterministic)
    keras.config.set_dtype_policy("mixed_float16" if settings.mixed_precision else "float32")
    model = assemble(recipe, data)
    images = data["splits"]["train"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    steps = -(-images // settings.batch_size)
    fit.compile_model(model, settings, loss=loss, metrics=[accuracy], steps=steps)
    run.console.print(f"          {recipe.model.builder}: {model.count_params():,} parameters, {images:,} images")
    shape, augmented = _shape(recipe.data), augment.compose(recipe.augment)
    if augmented is not None:
        _draw_augmented(folder, prepared, shape, augmented, recipe.seed)

    def batches(epochs: range) -> Any:
        return batch.training(
            prepared,
            "train",
            shape,
            count=images,
            epochs=epochs,
            batch_size=settings.batch_size,
            seed=recipe.seed,
            augment=augmented,
            memory=int(recipe.data.memory_gb * 2**30),
        )

    def on_epoch(number: int, row: fit.Row) -> None:
        run.tracker.metrics(row, step=number)
        run.tracker.system()

    history = fit.fit(
        model,
        settings,
        folder,
        batches=batches,
        validation=batch.batches(prepared, _validation(data), shape, batch_size=settings.batch_size),
        images=images,
        console=run.console,
        on_epoch=on_epoch,
        extend=extend,
    )
    savedmodel.save_keras(model, folder / "model.keras")
    charts.curves(history, folder / "curves.png")
    best, digest = fit.best_epoch(history, settings.monitor), fit.weights_digest(model)
    run.console.print(f"          best epoch {best} of {len(history)}; weights {digest}")
    return {
        "digest": digest,
        "epochs": len(history),
        "best_epoch": best,
        "parameters": model.count_params(),
        "metrics": {f"best_{key}": value for key, value in history[best - 1].items() if key not in fit.TIMINGS},
    }


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed."""
    import numpy as np

    from cnn_keras import metrics
    from pipelines import charts, report

    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    names, shape, split = data["classes"], _shape(recipe.data), _test(data)
    probabilities, labels, ids = _answers(run, prepared, split, shape)
    found = report.classification_report(labels, probabilities, names)
    found["split"] = split
    if settings.baselines or settings.beat:
        found["baselines"] = _baselines(run, prepared, split, shape)
    stages.write_json(folder / "report.json", found)
    stages.write_text(folder / "predictions.csv", _predictions_csv(ids, labels, probabilities, names))
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (labels, probabilities.argmax(axis=1)), 1)
    charts.confusion_matrix(matrix, names, folder / "confusion_matrix.png")
    bins = metrics.reliability_bins(probabilities, labels)
    charts.reliability(bins, found["calibration_error"], folder / "reliability.png")
    _draw_worst(folder, prepared, split, shape, probabilities, labels, names, settings.worst)
    _say_report(run, found)
    measured = {f"test_{key}": value for key, value in found.items() if isinstance(value, float)}
    measured |= {f"baseline_{key}": value for key, value in found.get("baselines", {}).get("accuracy", {}).items()}
    return {"metrics": measured, "failed": _failed(settings, found)}


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, names and probabilities out; prove that it agrees."""
    import keras

    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    settings: Export = recipe.export
    name = settings.name or recipe.name
    shape, split = _shape(recipe.data), _test(data)
    model = keras.models.load_model(run.finished("train") / "model.keras", compile=False)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    savedmodel.write_classifier(model, saved, shape=shape, names=data["classes"])
    agreement = savedmodel.compare_classifier(model, saved, prepared, split, shape, tolerance=settings.tolerance)
    savedmodel.write_warmup(saved, prepared, split)
    report = stages.read_json(run.finished("evaluate") / "report.json")
    savedmodel.write_card(saved / "card.md", model, recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: largest difference {agreement['difference']:.1e}, "
        f"{agreement['changed']} changed decisions on {agreement['images']} images"
    )
    facts = {"name": name, "version": version, "classes": data["classes"], "agreement": agreement}
    if settings.register_model:
        metrics = run.facts("evaluate")["metrics"]
        facts["register"] = {"name": name, "folder": f"export/{name}/{version}", "metrics": metrics}
    return facts


def assemble(recipe: Recipe, data: dict[str, Any]) -> "keras.Model":
    """The network of the recipe behind its normalisation: uint8 (height, width, channels), 0–255, to logits."""
    import keras

    from cnn_keras import models

    shape = (*recipe.data.size, recipe.data.channels)
    classes = len(data["classes"])
    network = models.build(recipe.model.builder, input_shape=shape, classes=classes, **recipe.model.arguments)
    image = keras.Input(shape, dtype="uint8", name="image")
    logits = network(keras.layers.Normalization(**data["normalization"], name="normalization")(image))
    if recipe.train.mixed_precision:
        logits = keras.layers.Identity(dtype="float32", name="logits")(logits)
    return keras.Model(image, logits, name=recipe.name)


def _shape(data: Data) -> "Shape":
    from cnn_keras.data.batch import Shape

    return Shape(data.size, data.channels, data.fit)


def _validation(data: dict[str, Any]) -> str:
    """The split that chooses the best epoch."""
    return "validation" if "validation" in data["splits"] else "train"


def _test(data: dict[str, Any]) -> str:
    """The split that measures."""
    return "test" if "test" in data["splits"] else _validation(data)


def _files_digest(data: Data) -> str | None:
    """Changes when a file of the source is added, removed or written to; nothing is read but a CSV list."""
    if data.path is None or not data.path.exists():
        return None  # reading the source will say what is wrong
    files = sorted(data.path.rglob("*")) if data.path.is_dir() else [data.path]
    if data.path.is_file():
        with data.path.open(newline="", encoding="utf-8-sig") as file:
            files += [data.path.parent / row["path"] for row in csv.DictReader(file) if row.get("path")]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    return stages.digest([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def _class_names(labels: list[str], data: Data) -> list[str]:
    """The classes in natural order, or in the order in which the recipe names them."""
    from cnn_keras.data import read

    found = set(labels)
    names = [name for name in data.classes if name in found] if data.classes else sorted(found, key=read.natural)
    if len(names) < 2:
        raise Fault(f"{data.source} must hold at least two classes, got {', '.join(names) or 'none'}", code=Fault.DATA)
    return names


def _splits(kept: list[tuple[Any, str]], data: Data, seed: int) -> list[str]:
    """The split of each kept item: the source's own where it has one, else stratified with copies kept together."""
    from cnn_keras.data import split

    prescribed = [item.split for item, _ in kept]
    fractions = {"validation": data.validation, "test": data.test}
    fractions = {name: share for name, share in fractions.items() if name not in prescribed}
    free = [row for row, name in enumerate(prescribed) if name in (None, "train")]
    if "train" in prescribed or "test" in prescribed:
        fractions.pop("test", None)  # a source that prescribes a split decides what is tested
    labels = [kept[row][0].label for row in free]
    groups = [kept[row][0].group or kept[row][1] for row in free]
    drawn = split.stratified(labels, groups, fractions=fractions, seed=seed)
    splits = [name or "train" for name in prescribed]
    for row, name in zip(free, drawn, strict=True):
        splits[row] = str(name)
    return splits


def _split_csv(kept: list[tuple[Any, str]], splits: list[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "label", "split", "sha256"])
    writer.writerows((item.id, item.label, name, digest) for (item, digest), name in zip(kept, splits, strict=True))
    return out.getvalue()


def _write_records(
    run: "Run", folder: Path, kept: list[tuple[Any, str]], splits: list[str], classes: list[str]
) -> dict[str, Counter[str]]:
    """Write the shards of each split, the training examples shuffled; return how many of each class went where."""
    import numpy as np

    from cnn_keras.data import records

    numbers = {name: number for number, name in enumerate(classes)}
    counts: dict[str, Counter[str]] = {}
    with intake.progress(run.console) as bar:
        task = bar.add_task("writing records", total=len(kept))
        for split in ("train", "validation", "test"):
            items = [item for (item, _), name in zip(kept, splits, strict=True) if name == split]
            if split == "train":
                items = [items[row] for row in np.random.default_rng(run.recipe.seed).permutation(len(items))]
            if items:
                records.write(folder, split, intake.plain_rows(items, numbers, bar=bar, task=task))
                counts[split] = Counter(item.label for item in items)
    return counts


def _fit_normalization(folder: Path, shape: "Shape", kind: str) -> dict[str, Any]:
    """The arguments of Keras's Normalization layer, fitted on the training split in one pass."""
    import numpy as np

    from cnn_keras.data import batch

    if kind == "rescale":
        return {"axis": None, "mean": 0.0, "variance": 255.0**2}
    count, total, squares = 0, np.zeros((*shape.size, shape.channels)), np.zeros((*shape.size, shape.channels))
    for images, _ in batch.batches(folder, "train", shape, batch_size=256).as_numpy_iterator():
        exact = images.astype(np.float64)
        count += len(images)
        total += exact.sum(axis=0)
        squares += (exact**2).sum(axis=0)
    if kind == "mean_image":
        return {"axis": [1, 2, 3], "mean": (total / count).tolist(), "variance": np.ones_like(total).tolist()}
    mean = (total / count).mean(axis=(0, 1))
    variance = (squares / count).mean(axis=(0, 1)) - mean**2
    return {"axis": -1, "mean": mean.tolist(), "variance": np.maximum(variance, 1.0).tolist()}


def _draw_data(folder: Path, shape: "Shape", classes: list[str], counts: dict[str, Counter[str]]) -> None:
    from cnn_keras.data import batch
    from pipelines import charts, pictures

    sample = batch.arrays(folder, "train", shape, limit=SAMPLES)
    titles = [classes[label] for label in sample.labels]
    pictures.contact_sheet(list(sample.images), titles, folder / "contact_sheet.png")
    ordered = {split: {name: inner[name] for name in classes} for split, inner in counts.items()}
    charts.class_balance(ordered, folder / "class_balance.png")


def _draw_augmented(folder: Path, prepared: Path, shape: "Shape", augmented: Any, seed: int) -> None:
    """A sheet with one picture per row: as it is, then as training may see it."""
    from cnn_keras.data import batch
    from pipelines import pictures

    sample = batch.arrays(prepared, "train", shape, limit=6)
    rows = []
    for image, name in zip(sample.images, sample.ids, strict=True):
        drawn = [augmented({"image": image}, [seed, number])["image"].numpy() for number in range(9)]
        rows.append((str(name), [image, *drawn]))
    pictures.augmentation_sheet(rows, folder / "augmented.png")


def _answers(run: "Run", prepared: Path, split: str, shape: "Shape") -> tuple[Any, Any, list[str]]:
    """One pass over a split: probabilities (N, classes), labels (N,), ids."""
    import keras
    import numpy as np

    from cnn_keras.data import batch

    model = keras.models.load_model(run.finished("train") / "model.keras", compile=False)
    probabilities, labels, ids = [], [], []
    with intake.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=run.facts("prepare")["splits"][split])
        for examples in batch.decoded(prepared, split, shape).batch(128):
            logits = model(examples["image"], training=False)
            probabilities.append(keras.ops.convert_to_numpy(keras.ops.softmax(keras.ops.cast(logits, "float32"))))
            labels.append(examples["label"].numpy())
            ids += [name.decode() for name in examples["id"].numpy()]
            bar.advance(task, len(labels[-1]))
    return np.concatenate(probabilities), np.concatenate(labels), ids


def _baselines(run: "Run", prepared: Path, split: str, shape: "Shape") -> dict[str, Any]:
    from cnn_keras.data import batch
    from pipelines import baselines

    budget = int(run.recipe.data.memory_gb * 2**30 / (shape.size[0] * shape.size[1] * shape.channels))
    run.console.print("          fitting baselines")
    train, test = (batch.arrays(prepared, name, shape, limit=budget) for name in ("train", split))
    found = baselines.baselines(train.images, train.labels, test.images, test.labels, seed=run.recipe.seed)
    note = found.note + (f", tested on {len(test.labels):,} images" if len(test.labels) == budget else "")
    return {"accuracy": found.accuracy, "note": note}


def _predictions_csv(ids: list[str], labels: Any, probabilities: Any, names: list[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "truth", "prediction", "confidence"])
    for name, label, row in zip(ids, labels, probabilities, strict=True):
        writer.writerow([name, names[label], names[row.argmax()], f"{row.max():.6f}"])
    return out.getvalue()


def _draw_worst(
    folder: Path, prepared: Path, split: str, shape: "Shape", probabilities: Any, labels: Any, names: list[str], most: int
) -> None:
    """The most confident mistakes, read again by their rows."""
    from cnn_keras import metrics
    from cnn_keras.data import batch
    from pipelines import pictures

    rows = metrics.confident_mistakes(probabilities, labels, most)
    wanted = {int(row): None for row in rows}
    for row, example in enumerate(batch.decoded(prepared, split, shape)):
        if row in wanted:
            wanted[row] = (example["image"].numpy(), example["id"].numpy().decode())
        if row >= max(wanted, default=-1):
            break
    found = [wanted[int(row)] for row in rows]
    pictures.worst(
        [image for image, _ in found],
        [names[labels[row]] for row in rows],
        [names[probabilities[row].argmax()] for row in rows],
        [float(probabilities[row].max()) for row in rows],
        [name for _, name in found],
        folder / "worst.png",
    )


def _say_report(run: "Run", report: dict[str, Any]) -> None:
    low, high = report["accuracy_interval"]
    say = run.console.print
    say(
        f"          {report['split']} accuracy [bold]{report['accuracy']:.2%}[/] (95 % interval {low:.2%} to {high:.2%}, "
        f"{report['examples']:,} images), calibration error {report['calibration_error']:.3f}"
    )
    for name, accuracy in report.get("baselines", {}).get("accuracy", {}).items():
        say(f"          [dim]{name:>20} {accuracy:.2%}[/]")


def _failed(settings: Evaluate, report: dict[str, Any]) -> list[str]:
    """The requirements of the recipe that the model does not meet."""
    failed = []
    for metric, least in settings.require.items():
        if not isinstance(report.get(metric), float):
            known = ", ".join(key for key, value in report.items() if isinstance(value, float))
            raise Fault(f"evaluate.require must name measured metrics ({known}), got {metric!r}")
        if report[metric] < least:
            failed.append(f"evaluate.require.{metric} must be at least {least}, got {report[metric]:.4f}")
    for name in settings.beat:
        if report["accuracy"] < report["baselines"]["accuracy"][name]:
            figure = report["baselines"]["accuracy"][name]
            failed.append(f"evaluate.beat: accuracy {report['accuracy']:.4f} is below {name}'s {figure:.4f}")
    return failed
