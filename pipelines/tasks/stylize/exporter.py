"""Export: the paintings as files, or the SavedModel of a network that paints, the proof that it agrees, its card."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.data.files import durable
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.image_decoding import decode
from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.plots.image_grid import Array
from pipelines.tasks.stylize import dataset, distances
from pipelines.tasks.stylize.config import Recipe
from pipelines.tasks.stylize.model import load_trained, painter
from pipelines.tasks.stylize.optimization import runner

COMPARED = 3  # pictures on which the exported model must agree
PIXEL_LIMIT = 4_000_000  # of a picture that the exported model paints: about 4 GB of maps
SHORTEST = 16  # pixels of its shorter side
WARMUP = 2  # requests recorded beside the exported model
TAKES = (
    f"Images are encoded JPEG or PNG of any size from {SHORTEST} pixels a side to {PIXEL_LIMIT:,} in all; paintings "
    "come back as PNG of the same size. An EXIF orientation is not applied by the graph: send pictures upright, or "
    "through `cnn serve`."
)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the paintings, or write the SavedModel that paints; with a card."""
    name = run.recipe.export.name or run.recipe.name
    version = savedmodel.next_version(run.folder / "export" / name)
    target = folder / name / str(version)
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    if not run.recipe.learns:
        paintings_written = _write_paintings(run, target)
        write_paintings_card(target / "card.md", run.recipe, run.facts("prepare"), report)
        where = run.folder / "export" / name / str(version)
        run.console.print(f"          {name} version {version}: {paintings_written} in {where}")
        return {"name": name, "version": version, "pictures": str(where)}
    return _export_network(run, target, name, version, report)


def _write_paintings(run: Run, target: Path) -> str:
    """The paintings in their folder, those of a video as one; what was written, in words."""
    target.mkdir(parents=True)
    paintings, facts = runner.paintings(run.finished("train")), run.facts("prepare")
    shutil.copyfile(run.finished("evaluate") / "strip.png", target / "strip.png")
    if facts["kind"] == "video":
        frames = [picture.pixels for picture in paintings]
        runner.write_video(frames, target / "painting.mp4", rate=facts["frames_per_second"])
        return f"a video of {len(frames)} frames"
    unique = len({picture.name for picture in paintings}) == len(paintings)
    for number, picture in enumerate(paintings):
        dataset.save(picture.pixels, target / (f"{picture.name}.png" if unique else f"{number:05d}-{picture.name}.png"))
    return f"{len(paintings)} painting{'s' if len(paintings) > 1 else ''}"


def _export_network(run: Run, target: Path, name: str, version: int, report: dict[str, Any]) -> dict[str, Any]:
    recipe, data = run.recipe, run.facts("prepare")
    model, settings = load_trained(run), recipe.export
    write_transformer(model, target, styles=data["styles"])
    pictures = [picture.pixels for picture in dataset.contents(run.finished("prepare"))[:COMPARED]]
    agreement = compare_transformer(model, target, pictures, styles=len(data["styles"]), tolerance=settings.tolerance)
    write_warmup(target, pictures)
    card = target / "card.md"
    write_card(card, model, recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: paintings of {agreement['images']} pictures differ by at most "
        f"{agreement['difference']:g} grey levels"
    )
    facts = {"name": name, "version": version, "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric="style_fall")
    return facts


def write_transformer(model: keras.Model, folder: Path, *, styles: Sequence[str]) -> None:
    """Write the signatures of a network that paints.

    `serving_default` takes `image_bytes`, strings (N,), of any sizes, and gives `painting_bytes`, PNG files (N,) of the
    same sizes; `serving_tensor` takes `image`, uint8 (N, height, width, 3), and gives `painting`, uint8 of that shape.
    With several styles both are in the first, there is a signature of bytes for each by its name, and `blend` takes
    `style` too, float32 (N, styles): shares that are divided by their sum.
    """
    many = len(styles)

    def paint(images: Any, shares: Any) -> Any:
        least, pixels = tf.reduce_min(tf.shape(images)[1:3]), tf.reduce_prod(tf.shape(images)[1:3])
        is_allowed = (least >= SHORTEST) & (pixels <= PIXEL_LIMIT)
        message = f"the image must have sides of at least {SHORTEST} pixels and {PIXEL_LIMIT} pixels at most, got"
        with tf.control_dependencies([tf.debugging.Assert(is_allowed, [message, tf.shape(images)[1:3]])]):
            images = tf.identity(images)
        painted = model({"image": images, "style": shares} if many > 1 else images, training=False)
        return tf.saturate_cast(tf.round(tf.cast(painted, tf.float32)), tf.uint8)

    def paint_one(image_bytes: Any, shares: Any) -> Any:
        image = decode(image_bytes, channels=3, pixel_limit=PIXEL_LIMIT)
        return tf.io.encode_png(paint(image[None], shares[None])[0])

    def of(number: int) -> Any:
        def from_bytes(image_bytes: Any) -> dict[str, Any]:
            shares = tf.one_hot(number, many)
            files = tf.map_fn(lambda data: paint_one(data, shares), image_bytes, parallel_iterations=1)
            return {"painting_bytes": files}

        return from_bytes

    def from_tensor(image: Any) -> dict[str, Any]:
        return {"painting": paint(image, tf.one_hot(tf.zeros([tf.shape(image)[0]], tf.int32), many))}

    def blend(image_bytes: Any, style: Any) -> dict[str, Any]:
        shares = style / tf.reduce_sum(style, axis=1, keepdims=True)
        signature = tf.TensorSpec((), tf.string)
        inputs = (image_bytes, shares)
        files = tf.map_fn(lambda row: paint_one(*row), inputs, fn_output_signature=signature, parallel_iterations=1)
        return {"painting_bytes": files}

    strings = [tf.TensorSpec((None,), tf.string, name="image_bytes")]
    tensor = [tf.TensorSpec((None, None, None, 3), tf.uint8, name="image")]
    signatures = {"serving_default": (of(0), strings), "serving_tensor": (from_tensor, tensor)}
    if many > 1:
        signatures |= {name: (of(number), strings) for number, name in enumerate(styles)}
        signatures["blend"] = (blend, [*strings, tf.TensorSpec((None, many), tf.float32, name="style")])
    savedmodel.write(folder, signatures)


def compare_transformer(
    model: keras.Model, folder: Path, pictures: Sequence[Array], *, styles: int, tolerance: float
) -> dict[str, Any]:
    """Have the trained and the exported model paint the same pictures; raise a Fault where they differ."""
    exported, paint = tf.saved_model.load(str(folder)), painter(model, styles)
    difference = 0.0
    for picture in pictures:
        expected = paint(picture, 0).astype(np.int16)[None]
        files = exported.signatures["serving_default"](image_bytes=tf.constant([encode_png(picture)]))["painting_bytes"]
        answers = (
            tf.io.decode_png(files[0], channels=3)[None],
            exported.signatures["serving_tensor"](image=tf.constant(picture[None]))["painting"],
        )
        difference = max(
            difference, *(float(np.abs(np.asarray(actual, np.int16) - expected).max()) for actual in answers)
        )
    if difference > tolerance:
        raise Fault(
            f"the exported model must agree with the trained one to export.tolerance {tolerance:g} grey levels, got a "
            f"largest difference of {difference:g}",
            code=Fault.GATE,
        )
    return {"difference": difference, "images": len(pictures)}


def write_warmup(folder: Path, pictures: Sequence[Array]) -> None:
    """Record real requests, small ones, beside the exported model."""
    small = [dataset.scale_to(picture, 128) for picture in pictures[:WARMUP]]
    requests = {
        "serving_default": ("image_bytes", [[encode_png(picture)] for picture in small]),
        "serving_tensor": ("image", [picture[None] for picture in small]),
    }
    savedmodel.record_requests(folder, requests)


def write_card(
    path: Path, model: keras.Model, *, recipe: Recipe, data: dict[str, Any], report: dict[str, Any], agreement: Any
) -> None:
    """The card of a network that paints."""
    assert recipe.model is not None  # the recipe of a network has one
    metric_lines = [
        f"{distances.headline(report)}, on {report['pictures']} images that were not used for training. The exported "
        f"model's paintings differ from the trained network's by at most {agreement['difference']:g} grey levels.",
        "",
        *distances.table(report),
    ]
    if "terms" in report:
        terms = "; ".join(
            f"{who}: " + ", ".join(f"{name} {value:.3f}" for name, value in terms.items())
            for who, terms in report["terms"].items()
        )
        metric_lines += ["", f"Terms of J beside pictures optimised for {report['optimised']['steps']} steps: {terms}."]
    savedmodel.write_card(
        path,
        model,
        recipe=recipe,
        data=data,
        what=f"`{recipe.model.builder}`, {model.count_params():,} parameters, paints like {', '.join(data['styles'])}.",
        metrics=metric_lines,
        takes=TAKES,
        input_shape=(recipe.data.window, recipe.data.window, 3),
    )


def write_paintings_card(path: Path, recipe: Recipe, data: dict[str, Any], report: dict[str, Any]) -> None:
    """The card of paintings."""
    lines = [
        f"# {recipe.name}",
        "",
        f"{report['pictures']} painted in the style of {', '.join(data['styles'])}. Style and content are distances in "
        "the features of the judge; the independent one is not part of the loss.",
        "",
        *distances.table(report),
        "",
        *savedmodel.made_from(recipe),
    ]
    durable.write_text(path, "\n".join(lines) + "\n")
