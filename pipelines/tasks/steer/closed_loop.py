"""The closed loop: a network steers a car on a road that is drawn for it, until it leaves its lane."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras.data.sources.synthetic import simulator as road
from cnn_keras.data.sources.synthetic.simulator import Road
from cnn_keras.losses import mixture_density
from cnn_keras.ops.resize import resize_image
from pipelines.plots.image_grid import Array
from pipelines.tasks.steer.config import Data
from pipelines.tasks.steer.model import Steerer, seen

# Camera frames, uint8 (cars, height, width, 3), and maps of the route, float32 (cars, *MAP, 1), to steering angles
# (cars,)
Wheel = Callable[[Array, Array], Array]
UNSEEN = 1_000_000  # added to a run's seed: roads that nobody is trained on


class Driven(NamedTuple):
    """How a car went: the road, where it was, float64 (steps, 2), and how far left of its lane's middle (steps,)."""

    road: Road
    path: Array
    offsets: Array
    left: bool  # whether it left the lane, by touching its paint; then the last offset is beyond the room there is

    @property
    def steps(self) -> int:
        """How many it stayed in its lane."""
        return len(self.offsets) - int(self.left)

    @property
    def distance(self) -> float:
        """Metres driven in the lane."""
        return float(self.steps * road.STRIDE)


def roads(seed: int, count: int, steps: int, *, forks: bool = False) -> list[Road]:
    """Roads for as many steps, of seeds that no recording has."""
    return [road.road(UNSEEN + seed + number, steps * road.STRIDE + 10, forks=forks) for number in range(count)]


def drive(
    wheel: Wheel, tracks: Sequence[Road], steps: int, *, starts: Sequence[float] | None = None, room: float = road.ROOM
) -> list[Driven]:
    """Let `wheel` steer a car on each road from the middle of its lane, all at once, for at most so many steps.

    Args:
        starts: metres along each road where its car starts; None: where `simulator.start` says.
        room: metres from the lane's middle beyond which a car is stopped.
    """
    cars = [road.start(track, along) for track, along in zip(tracks, starts or [5.0] * len(tracks), strict=True)]
    paths: list[list[tuple[float, float]]] = [[] for _ in tracks]
    offsets: list[list[float]] = [[] for _ in tracks]
    driving = list(range(len(tracks)))
    for _ in range(steps):
        views = np.stack([road.frame(track, car) for track, car in zip(tracks, cars, strict=True)])
        routes = np.stack([road.route_map(track, car) for track, car in zip(tracks, cars, strict=True)])
        angles = wheel(views, routes)
        for number in list(driving):
            cars[number] = road.step(tracks[number], cars[number], float(angles[number]))
            paths[number].append((cars[number].x, cars[number].y))
            offsets[number].append(road.place(tracks[number], cars[number]).offset)
            if abs(offsets[number][-1]) > room:
                driving.remove(number)
        if not driving:
            break
    drives = zip(tracks, paths, offsets, strict=True)
    return [
        Driven(track, np.array(path), np.array(away), number not in driving)
        for number, (track, path, away) in enumerate(drives)
    ]


def steered_by(steerer: Steerer, data: Data, *, blank: bool = False) -> Wheel:
    """A network at the wheel: frames are framed as those of recordings are; with `blank` its map is empty."""

    @tf.function(autograph=False, reduce_retracing=True)
    def angles(views: tf.Tensor, routes: tf.Tensor) -> tf.Tensor:
        pictures = views if data.channels == 3 else tf.cast(tf.image.rgb_to_grayscale(views), tf.uint8)
        spec = tf.TensorSpec((*data.size, data.channels), tf.uint8)
        resized = tf.map_fn(
            lambda view: resize_image(view, data.size, fit=data.fit), pictures, fn_output_signature=spec
        )
        batch = {"image": resized, **({"route": routes} if data.route else {})}
        return mixture_density.quantile(steerer.mixtures(seen(batch))["angle"], 0.5)

    return lambda views, routes: np.asarray(angles(tf.constant(views), tf.constant(routes * (not blank), tf.float32)))
