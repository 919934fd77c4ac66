"""The network that paints in one pass: assembled, trained on a style's loss, measured, exported.

Johnson, Alahi and Fei-Fei, 2016, for one style; Dumoulin, Shlens and Kudlur, 2017, for several, of which every training
picture is shown one. The exported model takes pictures of any size and gives back the same size.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.export import savedmodel
from pipelines.tasks.stylize import dataset
from pipelines.tasks.stylize import report as stylize_report
from pipelines.tasks.stylize.feature_extractor import Loss

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from cnn_keras.losses.style import Objective, Style
    from pipelines.engine.stages import Run
    from pipelines.plots.image_grid import Array

TERMS = ("content", "style", "variation", "histogram")
PIXEL_LIMIT = 4_000_000  # of a picture that the exported model paints: about 4 GB of maps
SHORTEST = 16  # pixels of its shorter side
WARMUP = 2  # requests recorded beside the exported model
TAKES = (
    f"Images are encoded JPEG or PNG of any size from {SHORTEST} pixels a side to {PIXEL_LIMIT:,} in all; paintings "
    "come back as PNG of the same size. An EXIF orientation is not applied by the graph: send pictures upright, or "
    "through `cnn serve`."
)


class Train(recipes.Train):
    """How the network learns to paint."""

    method: Literal["network"] = "network"  # network: one learns to paint in a single pass
    loss: Loss = Loss()


def assemble(recipe: Any) -> "keras.Model":
    """The network of the recipe from pixels.

    `image`, uint8 (batch, height, width, 3), RGB 0–255, of any size, and where there are several styles `style`,
    float32 (batch, styles), to `painting`, float32 (batch, height, width, 3), 0–255.
    """
    import keras

    from cnn_keras import models

    count = len(recipe.data.styles)
    arguments = {"input_shape": (None, None, 3), "styles": count, **recipe.model.arguments}
    network = models.build(recipe.model.builder, weights=recipe.model.weights, **arguments)
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    floats = keras.layers.Rescaling(1.0, name="floats")(image)
    if count == 1:
        return keras.Model(image, network(floats), name=recipe.name)
    style = keras.Input((count,), name="style")
    return keras.Model({"image": image, "style": style}, network([floats, style]), name=recipe.name)


def trainable(model: "keras.Model", objective: "Objective", wanted: "Sequence[Style]") -> "keras.Model":
    """The same layers as a model whose loss is J, each of its terms a metric of the epoch; the truth is the picture."""
    import keras
    import tensorflow as tf

    from cnn_keras.losses.style import Style

    tables = [
        {
            layer: tf.concat([getattr(style, kind)[layer] for style in wanted], axis=0)
            for layer in getattr(wanted[0], kind)
        }
        for kind in ("grams", "quantiles")
    ]
    weights = objective.weights._asdict()

    class Training(keras.Model):  # type: ignore[misc]  # Keras carries no types
        """Inputs and outputs of the network."""

        def __init__(self) -> None:
            super().__init__(model.input, model.output, name=model.name)
            self.terms = {name: keras.metrics.Mean(name=name) for name in TERMS if weights[name]}

        def compute_loss(
            self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            shares = x["style"] if isinstance(x, dict) else tf.ones([tf.shape(y)[0], 1])
            style = Style(*({layer: tf.tensordot(shares, table[layer], 1) for layer in table} for table in tables))
            kept = objective.content_of(tf.cast(y, tf.float32))
            terms = objective.terms(tf.cast(y_pred, tf.float32), kept, style)
            for name, term in terms.items():
                self.terms[name].update_state(term)
            return tf.reduce_mean(tf.add_n(list(terms.values())))

    return Training()


def wanted(objective: "Objective", prepared: Path) -> "list[Style]":
    """The styles as the objective sees them."""
    import numpy as np

    return [objective.style_of(style.pixels[None].astype(np.float32)) for style in dataset.styles(prepared)]


def batches(run: "Run", epochs: range, augmented: Any) -> "tf.data.Dataset":
    """The training batches of these epochs: (inputs, pictures)."""
    from cnn_keras.data import input_pipeline

    recipe, count = run.recipe, run.facts("prepare")["splits"]["train"]
    stream = input_pipeline.training(
        run.finished("prepare"),
        "train",
        _shape(recipe),
        count=count,
        epochs=epochs,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        augment=augmented,
        example=_pictures(),
    )
    return _with_styles(stream, recipe, first=epochs.start * -(-count // recipe.train.batch_size))


def validation(run: "Run") -> "tf.data.Dataset":
    """The validation pictures, the same with the same styles each time."""
    from cnn_keras.data import input_pipeline

    recipe, count = run.recipe, run.facts("prepare")["splits"]["validation"]
    size = recipe.train.batch_size
    found = input_pipeline.batches(
        run.finished("prepare"), "validation", _shape(recipe), count=count, batch_size=size, example=_pictures()
    )
    return _with_styles(found, recipe, first=0)


def _shape(recipe: Any) -> Any:
    from cnn_keras.data.input_pipeline import Shape

    return Shape((recipe.data.window, recipe.data.window), 3)


def _pictures() -> Any:
    from cnn_keras.data import input_pipeline, records

    return input_pipeline.Example(records.FEATURES, ("image",), lambda found: found["image"])


def _with_styles(stream: "tf.data.Dataset", recipe: Any, *, first: int) -> "tf.data.Dataset":
    """(inputs, pictures): with several styles each picture is given one, drawn for its place in the training."""
    import tensorflow as tf

    count = len(recipe.data.styles)
    if count == 1:
        return stream.map(lambda images: (images, images))

    def chosen(place: Any, images: Any) -> tuple[dict[str, Any], Any]:
        key = tf.random.experimental.stateless_fold_in(
            tf.constant([recipe.seed, 2], tf.int32), tf.cast(place, tf.int32)
        )
        drawn = tf.random.stateless_uniform([tf.shape(images)[0]], key, 0, count, tf.int32)
        return {"image": images, "style": tf.one_hot(drawn, count)}, images

    return stream.enumerate(first).map(chosen)


def trained(run: "Run") -> "keras.Model":
    """The model that the stage train left."""
    return savedmodel.load_keras(run.finished("train") / "model.keras")


def painter(model: "keras.Model", styles: int) -> "Callable[[Array, int], Array]":
    """What paints a picture, uint8 (height, width, 3), of any size in one of the styles: uint8 of the same shape."""
    import tensorflow as tf

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int32)], autograph=False
    )
    def painting(picture: Any, style: Any) -> Any:
        given = {"image": picture[None], "style": tf.one_hot([style], styles)} if styles > 1 else picture[None]
        return tf.saturate_cast(tf.round(tf.cast(model(given, training=False)[0], tf.float32)), tf.uint8)

    return lambda picture, style: painting(tf.constant(picture), tf.constant(style)).numpy()


def write_transformer(model: "keras.Model", folder: Path, *, styles: Sequence[str]) -> None:
    """Write the signatures of a network that paints.

    `serving_default` takes `image_bytes`, strings (N,), of any sizes, and gives `painting_bytes`, PNG files (N,) of the
    same sizes; `serving_tensor` takes `image`, uint8 (N, height, width, 3), and gives `painting`, uint8 of that shape.
    With several styles both are in the first, there is a signature of bytes for each by its name, and `blend` takes
    `style` too, float32 (N, styles): shares that are divided by their sum.
    """
    import tensorflow as tf

    from cnn_keras.data.image_file import decode

    many = len(styles)

    def paint(images: Any, shares: Any) -> Any:
        least, pixels = tf.reduce_min(tf.shape(images)[1:3]), tf.reduce_prod(tf.shape(images)[1:3])
        bearable = (least >= SHORTEST) & (pixels <= PIXEL_LIMIT)
        said = f"the image must have sides of at least {SHORTEST} pixels and {PIXEL_LIMIT} pixels at most, got"
        with tf.control_dependencies([tf.debugging.Assert(bearable, [said, tf.shape(images)[1:3]])]):
            images = tf.identity(images)
        found = model({"image": images, "style": shares} if many > 1 else images, training=False)
        return tf.saturate_cast(tf.round(tf.cast(found, tf.float32)), tf.uint8)

    def one(image_bytes: Any, shares: Any) -> Any:
        image = decode(image_bytes, channels=3, pixel_limit=PIXEL_LIMIT)
        return tf.io.encode_png(paint(image[None], shares[None])[0])

    def of(number: int) -> Any:
        def from_bytes(image_bytes: Any) -> dict[str, Any]:
            shares = tf.one_hot(number, many)
            files = tf.map_fn(lambda data: one(data, shares), image_bytes, parallel_iterations=1)
            return {"painting_bytes": files}

        return from_bytes

    def from_tensor(image: Any) -> dict[str, Any]:
        return {"painting": paint(image, tf.one_hot(tf.zeros([tf.shape(image)[0]], tf.int32), many))}

    def blend(image_bytes: Any, style: Any) -> dict[str, Any]:
        shares = style / tf.reduce_sum(style, axis=1, keepdims=True)
        signature = tf.TensorSpec((), tf.string)
        given = (image_bytes, shares)
        files = tf.map_fn(lambda row: one(*row), given, fn_output_signature=signature, parallel_iterations=1)
        return {"painting_bytes": files}

    strings = [tf.TensorSpec((None,), tf.string, name="image_bytes")]
    tensor = [tf.TensorSpec((None, None, None, 3), tf.uint8, name="image")]
    signatures = {"serving_default": (of(0), strings), "serving_tensor": (from_tensor, tensor)}
    if many > 1:
        signatures |= {name: (of(number), strings) for number, name in enumerate(styles)}
        signatures["blend"] = (blend, [*strings, tf.TensorSpec((None, many), tf.float32, name="style")])
    savedmodel.write(folder, signatures)


def compare_transformer(
    model: "keras.Model", folder: Path, pictures: "Sequence[Array]", *, styles: int, tolerance: float
) -> dict[str, Any]:
    """Have the trained and the exported model paint the same pictures; raise a Fault where they differ."""
    import numpy as np
    import tensorflow as tf

    from cnn_keras.data.image_file import png

    exported, paint = tf.saved_model.load(str(folder)), painter(model, styles)
    difference = 0.0
    for picture in pictures:
        wanted = paint(picture, 0).astype(np.int16)[None]
        files = exported.signatures["serving_default"](image_bytes=tf.constant([png(picture)]))["painting_bytes"]
        answers = (
            tf.io.decode_png(files[0], channels=3)[None],
            exported.signatures["serving_tensor"](image=tf.constant(picture[None]))["painting"],
        )
        difference = max(difference, *(float(np.abs(np.asarray(one, np.int16) - wanted).max()) for one in answers))
    if difference > tolerance:
        raise Fault(
            f"the exported model must agree with the trained one to export.tolerance {tolerance:g} grey levels, got a "
            f"largest difference of {difference:g}",
            code=Fault.GATE,
        )
    return {"difference": difference, "images": len(pictures)}


def write_warmup(folder: Path, pictures: "Sequence[Array]") -> None:
    """Record real requests, small ones, beside the exported model."""
    from cnn_keras.data.image_file import png

    small = [dataset.scaled(picture, 128) for picture in pictures[:WARMUP]]
    requests = {
        "serving_default": ("image_bytes", [[png(picture)] for picture in small]),
        "serving_tensor": ("image", [picture[None] for picture in small]),
    }
    savedmodel.record_requests(folder, requests)


def write_card(
    path: Path, model: "keras.Model", *, recipe: Any, data: dict[str, Any], report: dict[str, Any], agreement: Any
) -> None:
    """The card of a network that paints."""
    measured = [
        f"{stylize_report.headline(report)}, on {report['pictures']} pictures that it never saw. The exported model's "
        f"paintings differ from the trained network's by at most {agreement['difference']:g} grey levels.",
        "",
        *stylize_report.table(report),
    ]
    if "terms" in report:
        terms = "; ".join(
            f"{who}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items())
            for who, found in report["terms"].items()
        )
        measured += ["", f"Terms of J beside pictures optimised for {report['optimised']['steps']} steps: {terms}."]
    savedmodel.write_card(
        path,
        model,
        recipe=recipe,
        data=data,
        what=f"`{recipe.model.builder}`, {model.count_params():,} parameters, paints like {', '.join(data['styles'])}.",
        measured=measured,
        takes=TAKES,
        input_shape=(recipe.data.window, recipe.data.window, 3),
    )
