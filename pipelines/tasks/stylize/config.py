"""A recipe of style transfer: what is painted, in which style, by optimising pixels or by a network."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.data.schema import Fraction, GivenWeights, Positive, RecipePath, Section
from pipelines.engine import recipe as recipes
from pipelines.engine.recipe import Model

Amount = Annotated[float, Field(ge=0)]


class Picture(Section):
    """A picture by the name of one that comes along, such as astronaut, or by its path."""

    name: str | None = None  # of a picture that comes along
    path: RecipePath | None = None  # of one's own

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.name is not None and self.path is not None:
            raise ValueError("give a name or a path, not both")
        return self


class Mask(Section):
    """A picture whose white is where a style goes."""

    path: RecipePath  # of a picture, which is resized to what is painted


class Painting(Picture):
    """A picture whose style is taken; several are blended by their weights, or each fills its mask."""

    weight: Annotated[float, Field(gt=0)] = 1.0  # beside other styles
    mask: Mask | None = None


class Data(Section):
    """What is painted, and in which style."""

    content: Picture = Picture()  # a picture, a folder of them or a video; `photographs` are all that are installed
    styles: Annotated[tuple[Painting, ...], Field(min_length=1)]
    size: Positive = 384  # pixels of the longer side of what is painted; smaller pictures stay as they are
    style_scale: Annotated[float, Field(gt=0)] = 1.0  # the longer side of a style against size: larger, broader strokes
    validation: Fraction = 0.1  # of the pictures that a network learns from; at least one
    test: Fraction = 0.2  # of the pictures that a network learns from, kept to measure it
    windows: Positive = 1  # cut at random from each picture that a network learns from
    window: Positive = 128  # pixels of their sides
    max_bad: Fraction = 0.1  # a larger share of unusable pictures is refused

    @model_validator(mode="after")
    def _masks_are_whole(self) -> Self:
        masked = sum(style.mask is not None for style in self.styles)
        if masked not in (0, len(self.styles)):
            raise ValueError("either all styles or none must have a mask")
        return self


class Loss(Section):
    """What a painting is judged by: J of `cnn_keras.losses.style`."""

    extractor: str = "auto"  # a builder of the catalogue, or the best that is at hand
    weights: GivenWeights | None = None  # the extractor's: imagenet, edges, or a file
    untrained: bool = False  # random weights: a control, from which no style is to be expected
    pooling: Literal["max", "average"] = "max"  # of the extractor: as trained, or averages, which paint smoother
    content_layers: dict[str, Amount] | None = None  # by layer what it counts; the extractor's own unless given
    style_layers: dict[str, Amount] | None = None  # the same of the style
    content: Amount = 1.0  # what the content counts
    style: Amount = 100.0  # what the style counts
    variation: Amount = 0.001  # what differences between neighbouring pixels count
    histogram: Amount = 0.0  # what histograms of features count


class Paint(Section):
    """How a picture is optimised."""

    method: Literal["picture"] = "picture"  # picture: one is optimised
    loss: Loss = Loss()
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"  # L-BFGS or Adam
    learning_rate: Annotated[float, Field(gt=0)] = 5.0  # of adam, in grey levels
    steps: Positive = 100  # at each scale
    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.5, 1.0)  # of size
    init: Literal["content", "noise", "blend"] = "content"  # what painting begins with
    colour: Literal["style", "keep", "match"] = "style"  # keep: the content's own; match: styles recoloured like it
    preview: Positive = 50  # steps between two previews, at which the state is saved
    precision: Literal["float32", "bfloat16"] = "float32"  # what the features are computed in
    xla: bool = False  # compile the graph; pays on a GPU
    # the same picture twice, which costs some speed on a GPU; auto: on a CPU, unless XLA compiles the graph
    deterministic: bool | Literal["auto"] = "auto"

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if sorted(self.scales) != list(self.scales) or self.scales[-1] != 1:
            raise ValueError(f"scales must grow and end with 1.0, got {list(self.scales)}")
        recipes.check_xla(self.xla, self.deterministic)
        return self


class Train(recipes.Train):
    """How the network learns to paint."""

    method: Literal["network"] = "network"  # network: one learns to paint in a single pass
    loss: Loss = Loss()


class Evaluate(Section):
    """What is measured, and what must hold before anything is exported."""

    compared: Annotated[int, Field(ge=0)] = 2  # of a network's test pictures, that are optimised as well
    steps: Positive = 60  # of that optimisation, at each of two scales
    # metric: the least it must be
    require: dict[Literal["style_fall", "content_lead"], float] = Field(default_factory=dict)


class Export(recipes.Export):
    """What is exported, and how far a SavedModel may stray from the trained network."""

    tolerance: Annotated[float, Field(ge=0)] = 1.0  # grey levels


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

    @property
    def learns(self) -> bool:
        """Whether a network is trained; otherwise pixels are optimised."""
        return isinstance(self.train, Train)

    @property
    def untrained(self) -> str | None:
        return None if self.learns else "train.method: picture optimises the pixels of one picture; network trains one"

    @property
    def undivided(self) -> str | None:
        return "a painting is measured by its own content and style, of which nothing is held out"

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if self.fold:
            raise ValueError(f"fold must be null: {self.undivided}")
        if isinstance(self.train, Paint):
            if self.model or self.augment:
                raise ValueError("model and augment require train.method: network")
            return self
        if self.model is None:
            raise ValueError("model is required with train.method: network, such as {builder: stylize.transformer}")
        if any(style.mask or style.weight != 1 for style in self.data.styles):
            raise ValueError(
                "data.styles must have neither masks nor weights for a network, which learns each style separately"
            )
        return self


def files_digest(data: Data) -> str:
    """Changes when a picture, a style or a mask is added, removed or written to.

    Raises:
        Fault: no content is given. Here, not in the section: such a recipe can still be shown.
    """
    if data.content.path is None and data.content.name is None:
        raise Fault("data.content is required; --set data.content.path=PATH names a picture, a folder or a video")
    paths = [data.content.path, *(style.path for style in data.styles)]
    paths += [style.mask.path for style in data.styles if style.mask]
    files = [
        file for path in paths if path is not None for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
    ]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    return run_files.digest([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
