"""Segmenters of images and volumes: the class of each pixel or voxel, as a mask."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.markup import escape

from cnn_keras.data import resampling, run_length
from cnn_keras.data.files import nifti
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from cnn_keras.data.files.input_file import is_regular
from cnn_keras.data.formats.masks import mask_volumes
from pipelines.data import array_dataset, run_files
from pipelines.inference.prediction import DEFAULT, Prediction, Source, ask_array, ask_images, pixels
from pipelines.plots import overlays
from pipelines.plots.image_grid import Array

SPACING = Path("assets.extra") / "volumes.json"  # beside an exported model: the voxels that volumes are resampled to


class Segments(NamedTuple):
    """What a segmenter says: the class at each pixel or voxel by its number, the names, and how sure it is of each."""

    mask: Array  # uint8 (height, width) or (depth, height, width)
    names: list[str]
    shares: list[float]
    confidence: list[float]

    @property
    def there(self) -> list[tuple[str, float]]:
        """The classes that are there with their shares, the largest first."""
        present = [pair for pair in zip(self.names, self.shares, strict=True) if pair[1]]
        return sorted(present, key=lambda pair: -pair[1])

    @property
    def sureness(self) -> float:
        """The mean confidence over all pixels."""
        return sum(share * sure for share, sure in zip(self.shares, self.confidence, strict=True))

    def rows(self) -> list[list[str]]:
        """Name, share and confidence of each class, for a table."""
        columns = zip(self.names, self.shares, self.confidence, strict=True)
        return [[name, f"{share:.6f}", f"{sure:.6f}"] for name, share, sure in columns]

    def as_dict(self) -> dict[str, Any]:
        """Of each class the share, the mean confidence and, of a picture, COCO's run lengths."""
        rows: list[dict[str, Any]] = []
        for number, (name, share, sure) in enumerate(zip(self.names, self.shares, self.confidence, strict=True)):
            rows.append({"label": name, "share": round(share, 6), "confidence": round(sure, 6)})
            if self.mask.ndim == 2:
                rows[-1]["rle"] = run_length.encode(self.mask == number)
        return {"size": list(self.mask.shape), "segments": rows}


def mask_of(answer: Mapping[str, Any]) -> Array:
    """The numbers of the classes that one row of an exported model's answer says: uint8 (*sizes)."""
    if "mask" in answer:
        return np.asarray(answer["mask"])
    mask: Array = tf.io.decode_png(answer["mask_bytes"], channels=1).numpy()[..., 0]
    return mask


@dataclass(frozen=True, kw_only=True)
class Segmentation(Prediction):
    """The mask, and of each class how much of it there is and how sure the model is."""

    segments: Segments

    def _values(self) -> dict[str, Any]:
        return self.segments.as_dict()

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        shares = ", ".join(f"{share:.1%} [bold]{escape(label)}[/]" for label, share in self.segments.there)
        return shares, f"{self.segments.sureness:.1%}"

    def draw(self, path: Path, later: Sequence[Self] = ()) -> None:
        mask = self.segments.mask
        image = pixels(self.source) if mask.ndim == 2 else _voxels(self.source)
        Image.fromarray(overlays.draw_segmentation(image, mask, self.segments.names)).save(path)

    @classmethod
    def table(cls, predictions: Sequence[Prediction]) -> Iterator[Sequence[Any]]:
        """A row for each class of each file."""
        yield ["path", "label", "share", "confidence", "problem"]
        for prediction in predictions:
            rows = prediction.segments.rows() if isinstance(prediction, Segmentation) else [["", "", ""]]
            yield from ([prediction.path, *row, prediction.problem or ""] for row in rows)


class ImageSegmenter:
    """Asks a segmenter of images."""

    input, suffixes = "image", tuple(IMAGE_SUFFIXES)

    def __init__(self, loaded: Any) -> None:
        self.segment = loaded.signatures[DEFAULT]

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return ask_images(self._ask, sources)

    def _ask(self, sources: list[Source], encoded: list[bytes]) -> list[Segmentation]:
        outputs = self.segment(image_bytes=tf.constant(encoded, tf.string))
        rows = {key: value.numpy() for key, value in outputs.items()}
        return [_read(source, {key: values[row] for key, values in rows.items()}) for row, source in enumerate(sources)]


class VolumeSegmenter:
    """Asks a segmenter of volumes.

    Where it was trained on volumes at another spacing, it sees a file's at that one, and its mask is given as the
    file's own voxels are. A file `case_0000` stands for the volume whose further channels are in `case_0001` and so on.
    """

    input = "volume"

    def __init__(self, loaded: Any, folder: Path) -> None:
        self.segment = loaded.signatures[DEFAULT]
        self.suffixes: tuple[str, ...] = nifti.SUFFIXES
        facts = run_files.read_json(folder / SPACING) if is_regular(folder / SPACING) else {}
        self.spacing: list[float] | None = facts.get("spacing")
        self.channels: int = self.segment.structured_input_signature[1]["volume"].shape[-1]

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return [
            ask_array(source, self.segment, "volume", self._read, load=self._load)
            for source in sources
            if not isinstance(source, Path) or self._files(source)[0] == source
        ]

    def _files(self, file: Path) -> list[Path]:
        return mask_volumes.channel_files(file, self.channels)

    def _load(self, file: Path) -> Array:
        values: Array = mask_volumes.load(self._files(file), spacing=self.spacing)[0]
        return values

    def _read(self, source: Source, row: Mapping[str, Any]) -> Segmentation:
        volume = _read(source, row)
        if self.spacing is None or not isinstance(source, Path):  # an array is at the spacing already
            return volume
        image = nifti.open_volume(source)
        own, shape = nifti.spacing(image), nifti.upright_shape(image)
        mask = resampling.resample_labels(volume.segments.mask, self.spacing, own, shape)
        return dataclasses.replace(volume, segments=volume.segments._replace(mask=mask))


def _read(source: Source, row: Mapping[str, Any]) -> Segmentation:
    """What one row of an exported model's answer says."""
    names = [name.decode() for name in row["classes"]]
    segments = Segments(mask_of(row), names, row["shares"].tolist(), row["confidence"].tolist())
    return Segmentation(source=source, segments=segments)


def _voxels(source: Source) -> Array:
    """Of a volume: float32 (depth, height, width, channels)."""
    if isinstance(source, Path):
        source = array_dataset.library("volume").read(source)[0]
    return np.asarray(source)
