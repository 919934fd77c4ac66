"""What the pictures of a run are like, and what its network says of them: what new pictures are compared with.

The reference is of the pictures that the network was not trained on, validation and test: a network is surer of what it
has learnt. It is measured once and kept in `reference.json` of the run's folder, until data or weights change.
"""

import importlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from cnn_keras import inference, plugins
from cnn_keras.data import records
from cnn_keras.data.files import input_file
from cnn_keras.data.files.image_file import normalize, reason
from cnn_keras.data.image_decoding import decode
from cnn_keras.errors import Fault, Unreadable
from cnn_keras.learn import visualization
from cnn_keras.learn.visualization import layer_selection, taps
from cnn_keras.metrics.image_statistics import image_statistics
from cnn_keras.ops.resize import resize_image
from pipelines.data import run_files
from pipelines.data import validation as data_validation
from pipelines.engine import answer_statistics, stages
from pipelines.engine.answer_statistics import Answers
from pipelines.engine.classification import ensemble, label_kind
from pipelines.export import savedmodel

FILE = "reference.json"
MOST = 1000  # pictures that are measured
EMBEDDED = 500  # of them whose features are kept
ANSWERED = 250  # of them that all but classifiers are asked about, one by one as when they are served
PROJECTED = 32  # numbers of the features of a picture
BATCH = 64
DIGITS = 5  # that are kept
LISTED = 8  # classes, at most, whose shares of the pixels are compared
SHARE = f"share{answer_statistics.OF}"
HELD_OUT = ("validation", "test")
ENCODED = {"image": tf.io.FixedLenFeature((), tf.string)}  # what records of pictures have, whatever the task

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Measured:
    """What was measured of N pictures.

    Attributes:
        count: N.
        quantities: N numbers by name: width and height in pixels of the picture as it came; brightness, contrast and
            sharpness of what the network is given, see `cnn_keras.metrics.image_statistics`; and those of the answers,
            see `pipelines.engine.answer_statistics`, of which some are of fewer pictures.
        answers: names of classes, of a classifier of one class, a detector or a localizer; [] of others.
        features: what the network makes of some of the pictures before its last layer, projected at random to PROJECTED
            numbers, which keeps their distances (Johnson and Lindenstrauss, 1984): (EMBEDDED or fewer, PROJECTED).
            None of a network that takes more than a picture.
    """

    count: int
    quantities: dict[str, list[float]]
    answers: list[str]
    features: list[list[float]] | None


class Network:
    """The trained network of a run: what it makes of pictures."""

    def __init__(self, run: stages.Run) -> None:
        data = run.recipe.data
        self.size, self.channels = data.size, data.channels
        self.fit = "crop" if data.fit == "patch" else data.fit
        self.names: list[str] = run.facts("prepare").get("classes", []) if is_classifier(run) else []
        self.activation = label_kind.of(run.recipe).activation if self.names else None
        self.many = label_kind.of(run.recipe) is label_kind.MULTI
        model = savedmodel.load_keras(run.finished("train") / "model.keras")
        members = ensemble.members(model)
        self.ask = self._asked(members[0] if members else model, model)
        self.serve = None if self.names else _served(run)

    def _asked(self, model: keras.Model, whole: keras.Model) -> Any:
        """What gives features (N, d) and answers (N, …) of framed pictures, uint8; None of other inputs."""
        if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
            return None
        shape = (*self.size, self.channels)
        rows = layer_selection.layer_rows(model, shape)
        names = list(rows)
        if self.names:
            logits = visualization.logits_layer(model)
            feature = names[names.index(logits) - 1]
        else:
            feature = visualization.bottleneck_layer(model, input_shape=shape)

        def answer(images: tf.Tensor) -> Any:
            outputs: dict[str, tf.Tensor] = {}
            taps.run_layers(model, [tf.cast(images, tf.float32)], outputs, {})
            features = outputs[rows[feature].name]
            places = tuple(range(1, len(features.shape) - 1))
            features = tf.reduce_mean(features, axis=places) if places else features
            if not self.activation:
                return features, tf.zeros((tf.shape(images)[0], 0))
            said = outputs[rows[logits].name] if whole is model else whole(images, training=False)
            return features, self.activation(said)

        graph, size = inference.compiled(answer), inference.batch_limit(model, input_shape=shape)
        return lambda images: inference.predict_in_batches(graph, images, size=size)

    def framed(self, encoded: bytes) -> tuple[tuple[int, int], Array]:
        """The height and width of an encoded picture, and the picture as the network takes it, uint8."""
        pixels = decode(tf.constant(encoded), channels=self.channels)
        return tuple(pixels.shape[:2]), resize_image(pixels, self.size, fit=self.fit).numpy()


def measure(network: Network, pictures: Iterable[bytes], *, count: int, console: Console) -> Measured:
    """Measure encoded pictures that can be read, `count` of them."""
    columns: dict[str, list[float]] = {name: [] for name in ("width", "height", "brightness", "contrast", "sharpness")}
    features: list[Array] = []
    answers: list[Answers] = []
    batch: list[Array] = []

    def ask() -> None:
        if network.ask and batch:
            made, said = network.ask(np.stack(batch))
            features.append(made)
            if network.names:
                answers.append(answer_statistics.measure({"probabilities": said}, network.names))
        batch.clear()

    with data_validation.progress(console) as bar:
        rows = enumerate(bar.track(pictures, total=count, description="measuring pictures"))
        for place, encoded in rows:
            (height, width), image = network.framed(encoded)
            values = (width, height, *image_statistics(image))
            for column, value in zip(columns.values(), values, strict=True):
                column.append(float(value))
            batch.append(image)
            if network.serve and place % -(-count // ANSWERED) == 0:
                outputs = network.serve(tf.constant([encoded]))
                answers.append(answer_statistics.measure({name: value.numpy() for name, value in outputs.items()}))
            if len(batch) == BATCH:
                ask()
        ask()
    quantities, classes = answer_statistics.joined(answers)
    columns |= {name: column for name, column in quantities.items() if column}
    kept = _projected(np.concatenate(features)[:: -(-len(columns["width"]) // EMBEDDED)]) if features else None
    rounded = {name: [float(f"{value:.{DIGITS}g}") for value in column] for name, column in columns.items()}
    return Measured(len(columns["width"]), rounded, [] if network.many else classes, kept)


def reference(run: stages.Run, network: Network | None = None) -> Measured:
    """What the held-out pictures of a run are like; measured where it is not known yet."""
    path = run.folder / FILE
    inputs = [run_files.read_json(run.finished(stage) / run_files.MANIFEST)["digest"] for stage in ("prepare", "train")]
    if not is_classifier(run) and (settings := getattr(run.recipe, "export", None)):
        answered = {"export": settings.model_dump(mode="json"), **run.task.depends("export", run.recipe)}
        inputs.append(run_files.digest(answered))  # such as the least score of an object
    known = run_files.kept_json(path)
    if known is None or known["inputs"] != inputs:
        run.console.print("          measuring the pictures that the network was not trained on, once")
        splits = run.facts("prepare")["splits"]
        chosen = [split for split in HELD_OUT if split in splits] or ["train"]
        total = sum(splits[split] for split in chosen)
        step = -(-total // MOST)
        rows = (row for split in chosen for row in records.read(run.finished("prepare"), split, features=ENCODED))
        pictures = (row["image"].numpy() for place, row in enumerate(rows) if place % step == 0)
        measured = _largest(measure(network or Network(run), pictures, count=-(-total // step), console=run.console))
        known = {"inputs": inputs, "splits": chosen, **asdict(measured)}
        run_files.write_json(path, known)
    return Measured(**{key: known[key] for key in Measured.__dataclass_fields__})


def export(run: stages.Run, folder: Path) -> None:
    """Write the reference of a run of pictures beside its exported version, whose folder it is, for who serves it."""
    run_files.write_json(folder / run_files.REFERENCE, summary(reference(run), run))


def summary(measured: Measured, run: stages.Run) -> dict[str, Any]:
    """What the server compares with: histograms whose bounds are the deciles, as plain JSON.

    The first bound lies just below the least value. `counts` are those up to each bound and, last, above the last.
    """
    histograms = {}
    for name, column in measured.quantities.items():
        values = np.array(column)
        least = values.min() - 1e-3 * max(1.0, abs(values.min()))
        bounds = np.unique([float(f"{value:.6g}") for value in (least, *np.quantile(values, np.linspace(0, 1, 11)))])
        counts = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)
        histograms[name] = {"bounds": bounds.tolist(), "counts": counts.tolist(), "sum": float(values.sum())}
    data, counted = run.recipe.data, Counter(measured.answers)
    names = run.facts("prepare").get("classes", [])
    known = [*names, *([] if is_classifier(run) else [answer_statistics.NOTHING])]
    answers = {name: counted[name] for name in known} if measured.answers else {}
    return {
        "size": data.size,
        "channels": data.channels,
        "fit": data.fit,
        "classes": names,
        "pictures": measured.count,
        "histograms": histograms,
        "answers": answers,
    }


def read(files: Sequence[Path]) -> tuple[list[bytes], dict[str, str]]:
    """The files that can be decoded, upright, and what is wrong with each other one by its path."""
    pictures, problems = [], {}
    for file in files:
        try:
            encoded = normalize(input_file.read_bytes(file))[0]
            decode(tf.constant(encoded), channels=3)
            pictures.append(encoded)
        except (Unreadable, OSError, UnicodeDecodeError, tf.errors.InvalidArgumentError) as error:
            problems[str(file)] = reason(error)
    return pictures, problems


def is_classifier(run: stages.Run) -> bool:
    return bool(run.recipe.task == "classify")


def check(run: stages.Run) -> None:
    """Raise a Fault unless the run is of pictures and leaves one network."""
    data = getattr(run.recipe, "data", None)
    if not hasattr(data, "fit") or getattr(data, "axes", 2) != 2 or len(getattr(data, "size", None) or ()) != 2:
        raise Fault(f"RUN must be a run of pictures, got one of the task {run.recipe.task}")
    if not (run.finished("train") / "model.keras").is_file():
        raise Fault(f"RUN must be a run that leaves a trained network, got {run.recipe.task}/{run.recipe.name}")


def _served(run: stages.Run) -> Any:
    """What the exported model answers to encoded pictures, strings (1,); None of a task without such answers."""
    module = f"{run.task.__name__}.exporter"
    exporter: Any = importlib.import_module(module) if plugins.source(module) else None
    if not hasattr(exporter, "served"):
        return None
    function, specs = exporter.served(run)["serving_default"]
    return tf.function(function, input_signature=specs, autograph=False) if len(specs) == 1 else None


def _largest(measured: Measured) -> Measured:
    """Without the shares of all but the LISTED largest classes: each quantity more makes all tests less sensitive."""
    shares = {name: np.mean(column) for name, column in measured.quantities.items() if name.startswith(SHARE)}
    small = sorted(shares, key=shares.__getitem__, reverse=True)[LISTED:]
    kept = {name: column for name, column in measured.quantities.items() if name not in small}
    return replace(measured, quantities=kept)


def _projected(features: Array) -> list[list[float]]:
    """Features (N, d) as (N, min(d, PROJECTED)) numbers, by a random projection that is the same for every network."""
    width = features.shape[1]
    if width > PROJECTED:
        generator = np.random.default_rng(width)
        features = features @ generator.normal(size=(width, PROJECTED)) / np.sqrt(PROJECTED)
    return [[float(f"{value:.{DIGITS}g}") for value in row] for row in features.tolist()]
