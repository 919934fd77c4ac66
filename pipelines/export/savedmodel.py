"""Exported models: a SavedModel folder that carries everything a server needs, and the proof that it agrees.

The folder is `<name>/<version>/`, as TensorFlow Serving expects it. Decoding, the guard against pixel bombs, framing,
normalisation, softmax and the names of the classes are all in the graph, so that any engine gives the same answers.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

import cnn_keras
from cnn_keras import inference
from cnn_keras.data import array_dataset, input_pipeline, records
from cnn_keras.data.files import durable
from cnn_keras.data.files.durable import write_text
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile
from cnn_keras.ops import boxes, monte_carlo_dropout
from cnn_keras.ops.resize import resize_image
from pipelines.data import yaml_file
from pipelines.data.run_files import Run, versions

Signatures = Mapping[str, tuple[Callable[..., Any], list[tf.TensorSpec]]]  # functions, and what they take, by name
Answer = Callable[[keras.Model, Any], Any]  # images, uint8 (N, height, width, channels), to probabilities
Samples = Callable[[keras.Model, Any], monte_carlo_dropout.Sampled]  # the same with the spread of several answers
Decisions = Callable[[np.ndarray[Any, Any]], Any]  # probabilities (N, classes) to what is decided by them

COMPARED = 256  # images on which the exported model must agree
WARMUP = 4  # requests recorded beside the model
REJECTION = Path("assets.extra") / "rejection.json"  # beside a classifier: the confidence it is accepted from
IMAGES = (
    "Images are uint8, 0–255; an EXIF orientation is not applied by the graph: send pictures upright, or through "
    "`cnn serve`, which turns them."
)


def save_keras(model: keras.Model, path: Path) -> None:
    """Save without the optimiser, which is in the training state: the whole file or none."""
    plain = keras.Model(model.input, model.output, name=model.name)  # what was compiled is saved with its optimiser
    with durable.atomic_write(path, suffix=".keras") as temporary:
        plain.save(temporary)


def load_keras(path: Path) -> keras.Model:
    """A model that `save_keras` wrote."""
    cnn_keras.register()
    return keras.models.load_model(path, compile=False)


def next_version(folder: Path) -> int:
    """One more than the highest version below `folder`."""
    return 1 + max((int(inner.name) for inner in folder.glob("*") if inner.name.isdigit()), default=0)


def write(folder: Path, signatures: Signatures) -> None:
    """Write the SavedModel whose `signatures` these are, with every variable that they use.

    Models are not tracked: Keras 3.15 stores the variables of one that is a second time.
    """
    archive = keras.export.ExportArchive()
    for name, (function, specs) in signatures.items():
        archive.add_endpoint(name, function, input_signature=specs)
    archive.write_out(str(folder), verbose=False)


def probabilities(model: keras.Model, images: Any) -> Any:
    """What the model makes of images, uint8 (N, height, width, channels): float32 (N, classes)."""
    return tf.nn.softmax(tf.cast(model(images, training=False), tf.float32))


def write_classifier(
    model: keras.Model,
    folder: Path,
    *,
    shape: Shape,
    names: list[str],
    answer: Answer = probabilities,
    samples: Samples | None = None,
    decide: Callable[[Any], dict[str, Any]] | None = None,
    accepted_from: float | None = None,
) -> None:
    """Write the three signatures of a classifier, whose images of this `shape` are answered by `answer`.

    `serving_default` takes `image_bytes`, strings (N,); `serving_tensor` takes `image`, uint8 (N, height, width,
    channels); both give `probabilities` float32 (N, classes), and what `decide` makes of them: `class_id` int64 (N,)
    and `label` string (N,), the likeliest, unless told otherwise; with a confidence that answers are `accepted_from`,
    `accepted` bool (N,) as well, whether the largest probability reaches it.
    `serving_classify` takes `inputs`, serialized tf.Examples (N,) with the feature `image_bytes`, and gives `classes`
    and `scores` (N, classes), the likeliest first. With `samples` there is `serving_samples`, too, of the same inputs:
    it also gives `deviations` float32 (N, classes) and `mutual_information` float32 (N,), as `Sampled` has them.
    """
    labels = tf.constant(names)
    image = tf.TensorSpec((*shape.size, shape.channels), tf.uint8)

    def likeliest(outputs: Any) -> dict[str, Any]:
        return _likeliest(outputs, labels, accepted_from)

    def read_image(image_bytes: Any) -> Any:
        return resize_image(decode(image_bytes, channels=shape.channels), shape.size, fit=shape.fit)

    def read_images(image_bytes: Any) -> Any:
        return tf.map_fn(read_image, image_bytes, fn_output_signature=image)

    def read_examples(inputs: Any) -> Any:
        features = tf.io.parse_example(inputs, {"image_bytes": tf.io.FixedLenFeature((), tf.string)})
        return read_images(features["image_bytes"])

    def from_tensor(image: Any) -> dict[str, Any]:
        outputs = answer(model, image)
        return {"probabilities": outputs, **(decide or likeliest)(outputs)}

    def from_bytes(image_bytes: Any) -> dict[str, Any]:
        return from_tensor(read_images(image_bytes))

    def classify(inputs: Any) -> dict[str, Any]:
        return _ranked(answer(model, read_examples(inputs)), labels)

    def spread(inputs: Any) -> dict[str, Any]:
        return _ranked_samples(cast(Samples, samples)(model, read_examples(inputs)), labels)

    strings = {name: [tf.TensorSpec((None,), tf.string, name=name)] for name in ("image_bytes", "inputs")}
    tensor = [tf.TensorSpec((None, *image.shape), tf.uint8, name="image")]
    signatures = {
        "serving_default": (from_bytes, strings["image_bytes"]),
        "serving_tensor": (from_tensor, tensor),
        "serving_classify": (classify, strings["inputs"]),
    }
    write(folder, signatures | ({"serving_samples": (spread, strings["inputs"])} if samples else {}))


def _ranked(probabilities: Any, labels: Any) -> dict[str, Any]:
    """All classes, the likeliest first."""
    scores, order = tf.math.top_k(probabilities, k=len(labels))
    return {"classes": tf.gather(labels, order), "scores": scores}


def _ranked_samples(sampled: monte_carlo_dropout.Sampled, labels: Any) -> dict[str, Any]:
    """The same with how much the samples differ."""
    order = tf.math.top_k(sampled.probabilities, k=len(labels)).indices
    deviations = tf.gather(sampled.deviations, order, batch_dims=1)
    spread = {"deviations": deviations, "mutual_information": sampled.mutual_information}
    return _ranked(sampled.probabilities, labels) | spread


def _likeliest(probabilities: Any, labels: Any, accepted_from: float | None) -> dict[str, Any]:
    best = tf.argmax(probabilities, axis=-1)
    answer = {"class_id": best, "label": tf.gather(labels, best)}
    if accepted_from is not None:
        answer["accepted"] = tf.reduce_max(probabilities, axis=-1) >= accepted_from
    return answer


def write_tensor_classifier(
    model: keras.Model,
    folder: Path,
    *,
    tensor: str,
    shape: tuple[int, ...],
    fit: str,
    names: list[str],
    answer: Answer = probabilities,
    samples: Samples | None = None,
    accepted_from: float | None = None,
) -> None:
    """Write the two signatures of a classifier of signals or volumes.

    Both take `tensor`, float32 (N, any length along each axis, channels), which becomes the network's `shape` by
    `array_dataset.resize`. `serving_default` gives `probabilities` float32 (N, classes), `class_id` int64 (N,)
    and `label` string (N,), and `accepted` as `write_classifier` has it; `serving_ranked` gives `classes` and `scores`
    (N, classes), the likeliest first. With `samples` there is `serving_samples`, too, as `write_classifier` has it.
    """
    labels = tf.constant(names)

    def framed(values: Any) -> Any:
        return array_dataset.resize(values, shape[:-1], fit=fit)

    def from_tensor(values: Any) -> dict[str, Any]:
        outputs = answer(model, framed(values))
        return {"probabilities": outputs, **_likeliest(outputs, labels, accepted_from)}

    def ranked(values: Any) -> dict[str, Any]:
        return _ranked(answer(model, framed(values)), labels)

    def spread(values: Any) -> dict[str, Any]:
        return _ranked_samples(cast(Samples, samples)(model, framed(values)), labels)

    spec = [tf.TensorSpec((None,) * len(shape) + (shape[-1],), tf.float32, name=tensor)]
    signatures = {"serving_default": (from_tensor, spec), "serving_ranked": (ranked, spec)}
    write(folder, signatures | ({"serving_samples": (spread, spec)} if samples else {}))


def picture_signatures(
    *,
    shape: Shape,
    answer: Callable[..., dict[str, Any]],
    whole: bool = False,
    proposals: bool = False,
    others: Sequence[tf.TensorSpec] = (),
) -> Signatures:
    """The two signatures of a model that is told the size of each picture as it came.

    `serving_default` takes `image_bytes`, strings (N,); `serving_tensor` takes `image`, uint8 (N, height, width,
    channels) of any height and width.

    Args:
        answer: of framed pictures, uint8 (N, *shape.size, channels), and of their heights and widths before, int32
            (N, 2): what both signatures give.
        whole: pictures are not framed but given to `answer` as they are, one by one.
        proposals: both signatures take `proposals` too, float32 (N, P, 4), in [0, 1] of the picture as it came; those
            of the framed ones are given to `answer`.
        others: what both signatures take too and give to `answer` as it is, each with a row for each picture.
    """
    frame_specs = (tf.TensorSpec((*shape.size, shape.channels), tf.uint8), tf.TensorSpec((2,), tf.int32))
    anything = tf.TensorSpec((None, None, shape.channels), tf.uint8)

    def ready(image: Any) -> Any:
        return resize_image(image, shape.size, fit=shape.fit), tf.shape(image)[:2]

    def alone(image: Any) -> dict[str, Any]:
        return {name: value[0] for name, value in answer(image[None], tf.shape(image)[None, :2]).items()}

    def each(read: Callable[[Any], Any], pictures: Any, *more: Any) -> dict[str, Any]:
        if whole:
            kinds_of = tf.function(alone, autograph=False).get_concrete_function(anything).structured_outputs
            kinds = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in kinds_of.items()}
            outputs: dict[str, Any] = tf.map_fn(
                lambda encoded: alone(read(encoded)), pictures, fn_output_signature=kinds
            )
            return outputs
        images, sizes = tf.map_fn(lambda encoded: ready(read(encoded)), pictures, fn_output_signature=frame_specs)
        if proposals:
            more = (boxes.letterbox(more[0], sizes, shape.size, fit=shape.fit), *more[1:])
        return answer(images, sizes, *more)

    strings = tf.TensorSpec((None,), tf.string, name="image_bytes")
    tensor = tf.TensorSpec((None, None, None, shape.channels), tf.uint8, name="image")
    more = [*([tf.TensorSpec((None, None, 4), tf.float32, name="proposals")] if proposals else []), *others]
    decoded = partial(decode, channels=shape.channels)
    return {
        "serving_default": (partial(each, decoded), [strings, *more]),
        "serving_tensor": (partial(each, tf.identity), [tensor, *more]),
    }


def compare_classifier(
    model: keras.Model,
    folder: Path,
    prepared: Path,
    split: str,
    shape: Shape,
    *,
    tolerance: float,
    answer: Answer = probabilities,
    looks: int = 1,
    decisions: Decisions | None = None,
) -> dict[str, Any]:
    """Ask the trained and the exported model the same, by bytes and by tensor; raise a Fault if they disagree.

    Args:
        looks: how often `answer` asks the model about each image.
        decisions: what is decided by probabilities, (N, classes) to (N, …): the likeliest class unless told otherwise.
    """
    images = input_pipeline.arrays(prepared, split, shape, limit=COMPARED).images
    encoded = np.array(
        [row["image"] for row in records.read(prepared, split).take(COMPARED).as_numpy_iterator()], object
    )
    exported = tf.saved_model.load(str(folder))
    size = inference.batch_limit(model, looks=looks)
    answers = {
        "serving_default": call_signature(exported, "serving_default", size, image_bytes=encoded),
        "serving_tensor": call_signature(exported, "serving_tensor", size, image=images),
    }
    trained = inference.predictor(model, partial(answer, model), looks=looks)
    return _agreement(trained(images), answers, "images", tolerance, decisions)


def compare_tensor_classifier(
    model: keras.Model,
    folder: Path,
    tensor: str,
    values: Any,
    *,
    tolerance: float,
    answer: Answer = probabilities,
    looks: int = 1,
) -> dict[str, Any]:
    """Ask the trained and the exported model about `values`, float32 (N, *shape); raise a Fault if they disagree.

    `answer` and `looks` are those of `compare_classifier`.
    """
    exported, values = tf.saved_model.load(str(folder)), values[:COMPARED]
    answers = {
        "serving_default": call_signature(
            exported, "serving_default", inference.batch_limit(model, looks=looks), **{tensor: values}
        )
    }
    trained = inference.predictor(model, partial(answer, model), looks=looks)
    return _agreement(trained(values), answers, f"{tensor}s", tolerance)


def call_signature(exported: Any, signature: str, size: int, **inputs: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs, (N, …) by name, of a signature of a loaded SavedModel, called with `size` rows at a time."""
    serve, (names, columns) = exported.signatures[signature], zip(*inputs.items(), strict=True)

    def ask(*rows: Any) -> Any:
        return serve(**{name: tf.constant(value) for name, value in zip(names, rows, strict=True)})

    outputs: dict[str, np.ndarray[Any, Any]] = inference.predict_in_batches(ask, *columns, size=size)
    return outputs


def _agreement(
    expected: Any, answers: Mapping[str, Any], what: str, tolerance: float, decisions: Decisions | None = None
) -> dict[str, Any]:
    decide = decisions or (lambda probabilities: probabilities.argmax(-1))
    trained = np.asarray(expected)
    exported = [answer["probabilities"] for answer in answers.values()]
    difference = max(float(np.abs(trained - answer).max()) for answer in exported)
    changed = max(int((decide(trained) != decide(answer)).sum()) for answer in exported)
    if difference > tolerance or changed:
        raise Fault(
            f"the exported model must agree with the trained one to export.tolerance {tolerance}, got a largest "
            f"difference of {difference:.2e} and {changed} changed decisions on {len(trained)} {what}",
            code=Fault.GATE,
        )
    return {"difference": difference, "changed": changed, "images": len(trained)}


def write_warmup(folder: Path, prepared: Path, split: str, shape: Shape) -> None:
    """Record real requests for a classifier of images, some for each signature."""
    encoded = [row["image"] for row in records.read(prepared, split).take(WARMUP).as_numpy_iterator()]
    images = input_pipeline.arrays(prepared, split, shape, limit=WARMUP).images
    requests = {
        "serving_default": ("image_bytes", [[image] for image in encoded]),
        "serving_tensor": ("image", [image[None] for image in images]),
        "serving_classify": ("inputs", [[as_example(image)] for image in encoded]),
    }
    record_requests(folder, requests)


def record_requests(folder: Path, requests: Mapping[str, tuple[str, Any]]) -> None:
    """Record {signature: (input, batches)} where TensorFlow Serving, and ours, replays them before ready.

    Batches are mappings where a signature takes more inputs than this one.
    """
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, (name, values) in requests.items():
            for value in values:
                request = predict_pb2.PredictRequest()
                request.model_spec.signature_name = signature
                for key, tensor in (value if isinstance(value, Mapping) else {name: value}).items():
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(tensor))
                log = prediction_log_pb2.PredictLog(request=request)
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def as_example(image_bytes: bytes) -> bytes:
    """A serialized tf.Example with the one feature that `serving_classify` reads."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image_bytes]))
    features = tf.train.Features(feature={"image_bytes": feature})
    return bytes(tf.train.Example(features=features).SerializeToString())


def registration(run: Run, name: str, version: int, *, metric: str) -> dict[str, Any]:
    """What `stages.record` registers of an exported model; it must be as good as the recipe requires of the metric."""
    return {
        "name": name,
        "folder": f"export/{name}/{version}",
        "metrics": run.facts("evaluate")["metrics"],
        "requirement": f"test_{metric} >= {run.recipe.evaluate.require.get(metric, 0.0)}",
    }


def write_classifier_card(
    path: Path,
    model: keras.Model,
    *,
    recipe: Any,
    data: Mapping[str, Any],
    report: Mapping[str, Any],
    agreement: Any,
    gain: Sequence[str] = (),
    takes: str = IMAGES,
) -> None:
    """The card of a classifier; `gain` says what looking more than once gains, `takes` what it is given."""
    low, high = report["accuracy_interval"]
    rows = [
        f"| {name} | {accuracy:.2%} |" for name, accuracy in report.get("baselines", {}).get("accuracy", {}).items()
    ]
    ranked = []
    if "auc" in report:
        (least, most), precision = report["auc_interval"], report["average_precision"]
        ranked = [
            f"The probability of {report['positive']} ranks with an area under the ROC of {report['auc']:.4f} (95 % "
            f"interval {least:.4f} to {most:.4f}), an average precision of {precision:.4f}.",
            "",
        ]
    if "macro_auc" in report:
        least, most = report["macro_auc_interval"]
        ranked = [
            f"The area under the ROC, each class against the rest, is {report['macro_auc']:.4f} on average (95 % "
            f"interval {least:.4f} to {most:.4f}).",
            "",
        ]
    calibrated = []
    if "calibrated" in report:
        after = report["calibrated"]
        calibrated = [
            f"The logits are divided by a temperature of {after['temperature']:.4f}, fitted on {after['examples']:,} "
            f"examples of the validation split: log loss {after['log_loss']:.4f}, calibration error "
            f"{after['calibration_error']:.4f}.",
            "",
        ]
    metrics = [
        f"Accuracy on the {report['split']} split: **{report['accuracy']:.2%}** (95 % interval {low:.2%} to "
        f"{high:.2%}, {report['examples']:,} examples). Log loss {report['log_loss']:.4f}, calibration error "
        f"{report['calibration_error']:.4f}. The exported model differs from the trained one by at most "
        f"{agreement['difference']:.1e} on {agreement['images']} examples.",
        "",
        *calibrated,
        *ranked,
        *(f"{line[0].upper()}{line[1:]}.\n" for line in gain),
        *(["| on the same split | accuracy |", "|---|---|", *rows, ""] if rows else []),
        "| class | precision | recall | F1 | examples |",
        "|---|---|---|---|---|",
        *(
            f"| {row['name']} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['support']} |"
            for row in report["classes"]
        ),
    ]
    what = f"`{recipe.model.builder}` on `{data['source']}`; the classes are {', '.join(data['classes'])}."
    write_card(path, model, recipe=recipe, data=data, what=what, metrics=metrics, takes=takes)


def write_card(
    path: Path,
    model: keras.Model,
    *,
    recipe: Any,
    data: Mapping[str, Any],
    what: str,
    metrics: Sequence[str],
    takes: str,
    input_shape: tuple[int, ...] | None = None,
) -> None:
    """The model card: what it is, what it measured, what it saw and is given, how it is built.

    Args:
        metrics: lines of Markdown; they may open sections of their own.
        input_shape: for which the layers are listed, where the model leaves it open.
    """
    splits = ", ".join(f"{count:,} {split}" for split, count in data["splits"].items())
    lines = [
        f"# {recipe.name}",
        "",
        what,
        "",
        "## Measured",
        "",
        *metrics,
        "",
        "## Data",
        "",
        f"{splits}. Digest `{data['digest']}`. {takes}",
        "",
        "## Anatomy",
        "",
        model_profile.as_markdown(model_profile.rows(model, input_shape=input_shape)),
        "",
        *made_from(recipe),
    ]
    write_text(path, "\n".join(lines) + "\n")


def made_from(recipe: Any) -> list[str]:
    """The end of every card: the resolved recipe and the versions of what made it."""
    versions_text = ", ".join(f"{name} {version}" for name, version in versions().items())
    return ["## Recipe", "", "```yaml", yaml_file.dump(recipe).rstrip(), "```", "", f"Made with {versions_text}."]
