"""What the task localize is made of: the head's settings, its objective, one way to read its answers, its report.

Evaluation, prediction and the exported graph all read a network's vector through `Locator`, which tells where things
are in pixels of the picture as it was.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from cnn_keras.errors import Fault
from pipelines.data.schema import Fraction, Name, Positive, Section
from pipelines.engine import requirement
from pipelines.export import savedmodel

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from cnn_keras.models.localize import Located
    from pipelines.engine.stages import Run

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Metric = Literal["presence_accuracy", "class_accuracy", "mean_iou", "accuracy", "pck"]
ALPHA = 0.1  # of the longer side of a thing: a landmark missed by no more is found
OVERLAP = 0.5  # IoU from which a box is right
TAKES = (
    "Images are encoded JPEG or PNG of any size; the box comes back as left, top, right, bottom, landmarks as x, y, in "
    "pixels of the image as it was sent. An EXIF orientation is not applied by the graph: send pictures upright, or "
    "through `cnn serve`."
)


class Head(Section):
    """The layers behind the backbone, and what their answers are asked for; see `cnn_keras.models.localize`."""

    filters: Positive = 32  # of a 1×1 convolution that makes the backbone's map thin
    hidden: Positive = 128  # units of the dense layer behind it
    dropout: Fraction = 0.0  # behind that layer
    box: Literal["squared", "smooth_l1", "iou", "giou", "ciou"] = "smooth_l1"  # the loss of a box
    landmark: Literal["smooth_l1", "wing"] = "wing"  # the loss of a landmark
    box_weight: Weight = 5.0  # what a box counts beside p_c
    landmark_weight: Weight = 5.0  # what landmarks count beside p_c


class Evaluate(Section):
    """What is measured, and what must hold before the model is exported."""

    threshold: Share = 0.5  # of p_c, from which there is something
    shown: Positive = 12  # pictures drawn, and as many of the worst
    require: dict[Metric, float] = Field(default_factory=dict)  # metric: the least it must be


class Export(Section):
    """What the exported model is called, what it answers, and how far it may stray from the trained one."""

    name: Name | None = None  # the run's name unless given
    threshold: Share = 0.5  # of p_c, from which there is something
    tolerance: Annotated[float, Field(gt=0)] = 0.5  # pixels
    register_model: bool = True  # in MLflow's registry, as candidate


def assemble(recipe: Any, data: dict[str, Any]) -> "keras.Model":
    """The network of the recipe from pixels: `image`, uint8 (batch, *data.size, 3), 0–255, to y."""
    import keras

    from cnn_keras import models
    from cnn_keras.models import localize
    from cnn_keras.weights import pretrained

    builder, weights, head = recipe.model.builder, recipe.model.weights, recipe.head
    shape = (*recipe.data.size, recipe.data.channels)
    backbone = models.build(builder, input_shape=shape, classes=head.hidden, **recipe.model.arguments)
    if weights:
        pretrained.load(backbone, builder, weights)
    layers = {"filters": head.filters, "hidden": head.hidden, "dropout": head.dropout}
    network = localize.localizer(backbone, classes=len(data["classes"]), landmarks=len(data["landmarks"]), **layers)
    entry = keras.Input(shape, dtype="uint8", name="image")
    normalization = (weights and pretrained.normalization(builder, weights)) or {"mean": 127.5, "variance": 127.5**2}
    normalized = keras.layers.Normalization(**{"axis": None, **normalization}, name="normalization")(entry)
    return keras.Model(entry, network(normalized), name=recipe.name)


def objective(recipe: Any, data: dict[str, Any]) -> dict[str, Any]:
    """What `fit.compile_model` is to minimise and to measure."""
    import tensorflow as tf

    from cnn_keras.models import localize

    classes, head = len(data["classes"]), recipe.head
    settings = head.model_dump(include={"box", "landmark", "box_weight", "landmark_weight"})

    def loss(target: "tf.Tensor", y: "tf.Tensor") -> "tf.Tensor":
        return tf.add_n(list(localize.loss(target, y, classes=classes, **settings).values()))

    def presence(target: "tf.Tensor", y: "tf.Tensor") -> "tf.Tensor":
        return tf.cast((y[:, 0] > 0) == (target[:, 0] > 0), tf.float32)

    def named(target: "tf.Tensor", y: "tf.Tensor") -> "tf.Tensor":
        asked, said = (tf.argmax(values[:, 5 : 5 + classes], axis=-1) for values in (target, y))
        return tf.cast(asked == said, tf.float32)

    metrics = [_mean("presence_accuracy", presence, everywhere=True), _mean("mean_iou", localize.overlap)]
    if classes > 1:
        metrics.append(_mean("class_accuracy", named))
    return {"loss": loss, "metrics": metrics}


def _mean(name: str, measure: Any, *, everywhere: bool = False) -> "keras.metrics.Metric":
    """The mean of what is measured of each example, of those alone that show something unless `everywhere`."""
    import keras

    class Shown(keras.metrics.Mean):  # type: ignore[misc]  # Keras carries no types
        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            super().update_state(measure(y_true, y_pred), None if everywhere else y_true[:, 0])

    return Shown(name=name)


class Locator:
    """Reads a localizer's answers: where the one thing of a picture is, in pixels of the picture as it was."""

    def __init__(self, model: "keras.Model", data: dict[str, Any], *, fit: str) -> None:
        self.model = model
        self.names, self.landmarks = list(data["classes"]), list(data["landmarks"])
        self.fit = fit

    def __call__(self, images: "tf.Tensor", sizes: "tf.Tensor") -> "Located":
        """What is said of framed pictures, uint8 (batch, height, width, 3), of `sizes`, int32 (batch, 2), before."""
        import tensorflow as tf

        from cnn_keras.models import localize
        from cnn_keras.ops import boxes

        found = localize.decode(self.model(images, training=False), classes=len(self.names))
        found = self.pixels(found, sizes, tf.shape(images)[1:3])
        limits = self._scale(sizes)
        return found._replace(boxes=boxes.clip(found.boxes / limits) * limits)

    def truth(self, target: "tf.Tensor", sizes: "tf.Tensor", frame: Any) -> "Located":
        """What is true of them: of targets that `localize.encode` made."""
        from cnn_keras.models import localize

        return self.pixels(localize.truth(target, classes=len(self.names)), sizes, frame)

    def pixels(self, found: "Located", sizes: "tf.Tensor", frame: Any) -> "Located":
        """Coordinates in [0, 1] of the frame, in pixels of the pictures."""
        import tensorflow as tf

        from cnn_keras.ops import boxes, landmarks

        scale = self._scale(sizes)
        corners = boxes.unletterbox(found.boxes[:, None], sizes, frame, fit=self.fit)[:, 0]
        marks = landmarks.unletterbox(found.landmarks, sizes, frame, fit=self.fit)
        placed = tf.concat([marks[..., :2] * scale[:, None, :2], marks[..., 2:]], axis=-1)
        return found._replace(boxes=corners * scale, landmarks=placed)

    @staticmethod
    def _scale(sizes: "tf.Tensor") -> "tf.Tensor":
        """Width, height, width, height of each picture: float32 (batch, 4)."""
        import tensorflow as tf

        return tf.tile(tf.cast(sizes, tf.float32)[:, ::-1], [1, 2])

    def write(self, folder: Path, *, shape: Any, threshold: float) -> None:
        """Write the SavedModel: a detector's signatures, with at most one thing in a picture.

        They give `boxes` float32 (N, 1, 4), left, top, right, bottom in pixels of the picture as it came, `scores`
        float32 (N, 1), its p_c, `class_id` int64 and `label` string (N, 1), and `count` int32 (N,), 1 where p_c is at
        least `threshold`; the rows of others are zeros and empty names. `presence` float32 (N,) is p_c in any case,
        `probabilities` float32 (N, classes). Where there are landmarks, `landmarks` float32 (N, 1, L, 2) are x and y in
        pixels, `landmark_names` string (N, L).
        """
        import tensorflow as tf

        labels, names = tf.constant(self.names), tf.constant(self.landmarks, tf.string)

        def answer(images: Any, sizes: Any) -> dict[str, Any]:
            found = self(images, sizes)
            real = found.presence >= threshold
            best = tf.where(real, tf.argmax(found.classes, axis=-1), 0)
            said = {
                "boxes": tf.where(real[:, None], found.boxes, 0.0)[:, None],
                "scores": tf.where(real, found.presence, 0.0)[:, None],
                "class_id": best[:, None],
                "label": tf.where(real, tf.gather(labels, best), "")[:, None],
                "count": tf.cast(real, tf.int32),
                "presence": found.presence,
                "probabilities": found.classes,
            }
            if self.landmarks:
                said["landmarks"] = tf.where(real[:, None, None], found.landmarks, 0.0)[:, None]
                said["landmark_names"] = tf.tile(names[None], [tf.shape(images)[0], 1])
            return said

        savedmodel.write_seer(self.model, folder, shape=shape, answer=answer)

    def compare(
        self, folder: Path, examples: Iterable[dict[str, Any]], encoded: Sequence[bytes], *, tolerance: float
    ) -> dict[str, Any]:
        """Ask the trained and the exported model about the same pictures; raise a Fault if they disagree.

        `examples` are those of `encoded`, one by one: {"image", "extent"} in batches of one.
        """
        import numpy as np
        import tensorflow as tf

        from cnn_keras import inference

        exported = tf.saved_model.load(str(folder)).signatures["serving_default"]
        ask = inference.predictor(self.model, self)
        difference, changed = 0.0, 0
        for example, data in zip(examples, encoded, strict=True):
            wanted = ask(example["image"], example["extent"])
            got = exported(image_bytes=tf.constant([data]))
            changed += int(np.argmax(wanted.classes[0]) != np.argmax(got["probabilities"][0]))
            changed += int(abs(float(wanted.presence[0] - got["presence"][0])) > 1e-3)
            if got["count"][0]:
                pairs = [(wanted.boxes, got["boxes"][:, 0])]
                pairs += [(wanted.landmarks, got["landmarks"][:, 0])] if self.landmarks else []
                far = [float(np.abs(one - other.numpy()).max()) for one, other in pairs]
                difference = max(difference, *far)
        if difference > tolerance or changed:
            raise Fault(
                f"the exported model must agree with the trained one to export.tolerance {tolerance} pixels, got a "
                f"largest difference of {difference:.2f} and {changed} other answers on {len(encoded)} pictures",
                code=Fault.GATE,
            )
        return {"difference": difference, "changed": changed, "images": len(encoded)}


class Answers(NamedTuple):
    """What is true and what was said of the pictures of a split, in their order; coordinates in pixels."""

    ids: list[str]
    truth: "Located"  # of NumPy arrays
    said: "Located"


def asked(locator: Locator, examples: "tf.data.Dataset", encode: Any, advance: Any) -> Answers:
    """One pass over a split: `examples` in batches with `image`, `extent` and `id`; `encode` makes their targets."""
    import numpy as np

    from cnn_keras import inference
    from cnn_keras.models.localize import Located

    ask = inference.predictor(locator.model, locator)
    ids: list[str] = []
    truths, answers = [], []
    for batch in examples:
        truths.append(locator.truth(encode(batch), batch["extent"], batch["image"].shape[1:3]))
        answers.append(ask(batch["image"], batch["extent"]))
        ids += [name.decode() for name in batch["id"].numpy()]
        advance(len(batch["id"]))
    joined = [Located(*(np.concatenate(column) for column in zip(*parts, strict=True))) for parts in (truths, answers)]
    return Answers(ids, *joined)


def measured(answers: Answers, names: Sequence[str], landmarks: Sequence[str], threshold: float) -> dict[str, Any]:
    """The report: of all pictures whether anything is there; of those that show something what and where.

    `accuracy` is the share of the things that are found: p_c from the threshold on, the right class, an IoU of at least
    OVERLAP. `mean_iou` and `class_accuracy` are over all things, whatever p_c is.
    """
    import numpy as np

    from cnn_keras.ops import boxes
    from cnn_keras.ops import landmarks as points
    from pipelines.engine.classification_report import wilson_interval

    truth, said = answers.truth, answers.said
    here, found = truth.presence > 0, said.presence >= threshold
    overlap = np.asarray(boxes.iou(truth.boxes, said.boxes))[here]
    named = (truth.classes.argmax(-1) == said.classes.argmax(-1))[here]
    right = named & found[here] & (overlap >= OVERLAP)
    report: dict[str, Any] = {
        "images": len(here),
        "things": int(here.sum()),
        "threshold": threshold,
        "presence_accuracy": float((here == found).mean()),
        "class_accuracy": float(named.mean()),
        "mean_iou": float(overlap.mean()),
        "accuracy": float(right.mean()),
        "accuracy_interval": list(wilson_interval(int(right.sum()), len(right))),
        "classes": [
            {"name": name, "things": int(own.sum()), "accuracy": float(right[own].mean()) if own.any() else None}
            for name, own in ((name, truth.classes[here].argmax(-1) == row) for row, name in enumerate(names))
        ],
    }
    if landmarks:
        far = points.distances(truth.landmarks[here], said.landmarks[here])
        report |= {
            "alpha": ALPHA,
            "pck": points.pck(far, truth.boxes[here], alpha=ALPHA),
            "nme": points.nme(far, truth.boxes[here]),
            "landmarks": [
                {
                    "name": name,
                    "seen": int((~np.isnan(far[:, row])).sum()),
                    "pck": points.pck(far[:, row : row + 1], truth.boxes[here], alpha=ALPHA),
                    "nme": points.nme(far[:, row : row + 1], truth.boxes[here]),
                }
                for row, name in enumerate(landmarks)
            ],
        }
    return report


def constant(target: "np.ndarray[Any, Any]", classes: int) -> "np.ndarray[Any, Any]":
    """The vector that says the same of every picture: the mean box and landmarks of these targets, their usual class.

    What a network must beat: float32 (5 + classes + 2 · landmarks,), before any sigmoid.
    """
    import numpy as np

    here = target[target[:, 0] > 0]
    marks = here[:, 5 + classes :].reshape(len(here), -1, 3)
    seen = marks[..., 2:]
    middle = (marks[..., :2] * seen).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    places = np.clip(np.concatenate([here[:, 1:5].mean(axis=0), middle.ravel()]), 1e-6, 1 - 1e-6)
    logits = np.log(places / (1 - places))
    presence = [20.0 if 2 * len(here) >= len(target) else -20.0]
    return np.concatenate([presence, logits[:4], here[:, 5 : 5 + classes].sum(axis=0), logits[4:]]).astype(np.float32)


def failed(settings: Evaluate, report: dict[str, Any]) -> list[str]:
    """The requirements of the recipe that the model does not meet."""
    return [
        f"evaluate.require: {metric} must be at least {least}, got {report.get(metric, 'nothing')}"
        for metric, least in settings.require.items()
        if not requirement.reaches(report.get(metric), least)
    ]


def say(run: "Run", report: dict[str, Any]) -> None:
    """The figures, for people."""
    low, high = report["accuracy_interval"]
    told = (
        f"          {report['split']}: something or nothing [bold]{report['presence_accuracy']:.2%}[/] right at p_c "
        f"{report['threshold']:g} ({report['images']:,} images); mean IoU {report['mean_iou']:.3f}; class, box and "
        f"presence [bold]{report['accuracy']:.2%}[/] right at IoU {OVERLAP:g} (95 % interval {low:.2%} to {high:.2%}, "
        f"{report['things']:,} things)"
    )
    run.console.print(told)
    if "pck" in report:
        run.console.print(
            f"          landmarks: {report['pck']:.2%} within {ALPHA:g} of the longer side (PCK@{ALPHA:g}), mean error "
            f"{report['nme']:.2%} of √(width · height) (NME)"
        )
    same = report["baseline"]
    told = f"always the mean box and the usual class: mean IoU {same['mean_iou']:.3f}, right {same['accuracy']:.2%}"
    told += f", PCK@{ALPHA:g} {same['pck']:.2%}" if "pck" in same else ""
    run.console.print(f"          [dim]{told}[/]")


def answers_csv(answers: Answers, names: Sequence[str], landmarks: Sequence[str]) -> str:
    """One row for each picture: what is true, what was said, in pixels."""
    import numpy as np

    from cnn_keras.ops import boxes

    overlap = np.asarray(boxes.iou(answers.truth.boxes, answers.said.boxes))
    edges = ("left", "top", "right", "bottom")
    marks = [f"{name}_{axis}" for name in landmarks for axis in ("x", "y")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "truth", "prediction", "presence", "iou", *edges, *marks])
    for row, name in enumerate(answers.ids):
        real = names[answers.truth.classes[row].argmax()] if answers.truth.presence[row] else ""
        said = names[answers.said.classes[row].argmax()]
        numbers = [*answers.said.boxes[row], *answers.said.landmarks[row].ravel()]
        figures = [f"{answers.said.presence[row]:.6f}", f"{overlap[row]:.4f}", *(f"{value:.2f}" for value in numbers)]
        writer.writerow([name, real, said, *figures])
    return out.getvalue()


def worst(answers: Answers, threshold: float, count: int) -> list[int]:
    """Rows of the pictures that were answered worst: wrong about whether anything is there, then by IoU."""
    import numpy as np

    from cnn_keras.ops import boxes

    here, found = answers.truth.presence > 0, answers.said.presence >= threshold
    overlap = np.asarray(boxes.iou(answers.truth.boxes, answers.said.boxes))
    badness = np.where(here != found, 2 + np.abs(answers.said.presence - 0.5), np.where(here, 1 - overlap, -1.0))
    order = np.argsort(-badness, kind="stable")[:count]
    return [int(row) for row in order if badness[row] > 0]


def drawn(image: Any, answers: Answers, row: int, names: Sequence[str], threshold: float) -> Any:
    """A picture, uint8 (height, width, 3), with what was said of it and, white and dashed, what is true."""
    import numpy as np

    from pipelines.plots import annotate

    truth, said = answers.truth, answers.said
    here, found = truth.presence[row] > 0, said.presence[row] >= threshold
    number = int(said.classes[row].argmax())
    real = truth.boxes[row : row + 1] if here else np.zeros((0, 4))
    shown = said.boxes[row : row + 1] if found else np.zeros((0, 4))
    label, scores = ([names[number]], [float(said.presence[row])]) if found else ([], [])
    asked = annotate.Truth(real, [names[int(truth.classes[row].argmax())]] if here else [])
    picture = annotate.boxed(image, shown, label, scores, classes=[number] if found else [], truth=asked, side=320)
    scale = picture.shape[0] / image.shape[0]
    if here:
        marks = truth.landmarks[row]
        picture = annotate.dotted(picture, marks[:, :2] * scale, seen=marks[:, 2] > 0, ring=True)
    return annotate.dotted(picture, said.landmarks[row] * scale) if found else picture


def write_card(
    path: Path, model: "keras.Model", *, recipe: Any, data: dict[str, Any], report: dict[str, Any], agreement: Any
) -> None:
    """The card of a network that says where one thing is."""
    low, high = report["accuracy_interval"]
    classes = [f"| {row['name']} | {row['things']} | {_figure(row['accuracy'])} |" for row in report["classes"]]
    marks = [
        f"| {row['name']} | {row['seen']} | {_figure(row['pck'])} | {_figure(row['nme'])} |"
        for row in report.get("landmarks", [])
    ]
    if marks:
        marks = ["", f"| landmark | seen | PCK@{ALPHA:g} | NME |", "|---|---|---|---|", *marks]
    measured = [
        f"On the {report['split']} split, {report['images']:,} images with {report['things']:,} things: whether there "
        f"is one {report['presence_accuracy']:.2%} right at p_c {report['threshold']:g}; mean IoU "
        f"{report['mean_iou']:.3f}; class, box and presence **{report['accuracy']:.2%}** right at IoU {OVERLAP:g} "
        f"(95 % interval {low:.2%} to {high:.2%}). It answers from p_c {recipe.export.threshold:g} on. The exported "
        f"model differs from the trained one by at most {agreement['difference']:.1e} pixels on "
        f"{agreement['images']} images.",
        "",
        f"| class | things | right at IoU {OVERLAP:g} |",
        "|---|---|---|",
        *classes,
        *marks,
    ]
    what = (
        f"`{recipe.model.builder}` with a head for one thing in a picture, {model.count_params():,} parameters, on "
        f"`{data['source']}`; the classes are {', '.join(data['classes'])}."
    )
    savedmodel.write_card(path, model, recipe=recipe, data=data, what=what, measured=measured, takes=TAKES)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
