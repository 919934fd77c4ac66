"""Forks: does the network take the branch that the map says, and what does it do with an empty map?

Each fork is driven on to the left and to the right, so that who does not know the route is right half the time.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras import inference
from cnn_keras.data.sources.synthetic import simulator
from cnn_keras.data.sources.synthetic.simulator import Road, Shot
from cnn_keras.metrics.classification import wilson_interval
from pipelines.engine.stages import Run
from pipelines.plots import annotate, image_grid
from pipelines.plots.image_grid import Array
from pipelines.tasks.steer import closed_loop
from pipelines.tasks.steer.closed_loop import UNSEEN, Wheel
from pipelines.tasks.steer.model import Steerer
from pipelines.tasks.steer.predictions import BATCH, bootstrap_interval

BEFORE, BEHIND = 30.0, 45.0  # metres before a fork where a car starts, and behind it where it must be on its branch


def measure(run: Run, steerer: Steerer, folder: Path) -> dict[str, Any]:
    """The errors on frames at forks that nobody was trained on, and how many forks the network takes rightly.

    Where it has a map of the route, `blank` has the same figures with an empty one. Draws some of the frames.
    """
    recipe = run.recipe
    tracks = roads(recipe.seed, recipe.evaluate.loop.forks)
    shots = [shot for track in tracks for shot in frames(track)]
    wheels = {"map": closed_loop.steered_by(steerer, recipe.data)}
    if recipe.data.route:
        wheels["blank"] = closed_loop.steered_by(steerer, recipe.data, blank=True)
    angles = {name: _angles(wheel, shots) for name, wheel in wheels.items()}
    truth = np.array([shot.angle for shot in shots])
    figures = {name: _figures(np.abs(angles[name] - truth), taken(wheel, tracks)) for name, wheel in wheels.items()}
    _draw(shots, angles, folder / "forks.png", count=recipe.evaluate.shown)
    blank = {"blank": figures["blank"]} if "blank" in figures else {}
    return {"frames": len(shots), "of": len(tracks), **figures["map"], **blank}


def roads(seed: int, count: int) -> list[Road]:
    """So many forks, of roads that no recording has, each twice: with the route to the left, and to the right."""
    pairs = []
    for number in range(count):
        one = simulator.road(UNSEEN + seed + number, 150, forks=True)
        fork = one.forks[0]
        one, other = one._replace(forks=(fork,)), fork.other._replace(forks=(fork._replace(other=one),))
        place = round((fork.along + simulator.BEND) / simulator.SPACING)
        pairs += sorted((one, other), key=lambda track: -track.heading[place])
    return pairs


def frames(track: Road) -> list[Shot]:
    """What a driver who knows the route sees and does at the fork of a road, pushed about as in recordings."""
    begin = track.forks[0].along - BEFORE
    driven = simulator.drive(track, round(2 * BEFORE), wander=0.25, hand=0.0, seed=track.seed, along=begin)
    return [shot for shot in (Shot(track, *moment) for moment in driven) if shot.is_at_fork]


def taken(wheel: Wheel, tracks: Sequence[Road]) -> Array:
    """Which forks are taken rightly, bool (tracks,): BEHIND the fork the car is in the lane of its route."""
    starts = [track.forks[0].along - BEFORE for track in tracks]
    steps = round((BEFORE + BEHIND) / simulator.STRIDE)
    driven = closed_loop.drive(wheel, tracks, steps, starts=starts, room=math.inf)
    return np.array([abs(car.offsets[-1]) < simulator.LANE / 2 for car in driven])


def told(figures: dict[str, Any]) -> str:
    """The figures of `measure`, for people."""
    blank = f"; with an empty map {_told(figures['blank'], figures['of'])}" if "blank" in figures else ""
    return f"at forks, {figures['frames']:,} frames: {_told(figures, figures['of'])}{blank}"


def _told(row: dict[str, Any], count: int) -> str:
    (low, high), (least, most) = row["mae_interval"], row["taken_interval"]
    return (
        f"mean absolute error {row['mae']:.4f} (95 % interval {low:.4f} to {high:.4f}), "
        f"{row['right']} of {count} forks taken rightly ({least:.0%} to {most:.0%})"
    )


def _angles(wheel: Wheel, shots: Sequence[Shot]) -> Array:
    views, routes = np.stack([shot() for shot in shots]), np.stack([shot.route() for shot in shots])
    angles: Array = inference.predict_in_batches(wheel, views, routes, size=BATCH)
    return angles


def _figures(errors: Array, right: Array) -> dict[str, Any]:
    count = int(right.sum())
    return {
        "mae": float(errors.mean()),
        "mae_interval": bootstrap_interval(errors),
        "right": count,
        "taken": float(right.mean()),
        "taken_interval": list(wilson_interval(count, len(right))),
    }


def _draw(shots: Sequence[Shot], angles: dict[str, Array], path: Path, *, count: int) -> None:
    """Frames at forks with their maps: the angle that is predicted, and the true one."""
    rows = np.linspace(0, len(shots) - 1, min(count, len(shots))).astype(int).tolist()
    pictures, titles = [], []
    for row in rows:
        shot, predicted = shots[row], float(angles["map"][row])
        frame = annotate.draw_steering(shot(), angle=predicted, truth=shot.angle)
        pictures.append(annotate.beside(frame, shot.route()) if "blank" in angles else frame)
        blank = f", empty map {angles['blank'][row]:+.2f}" if "blank" in angles else ""
        titles.append(f"{predicted:+.2f}, true {shot.angle:+.2f}{blank}")
    heading = f"{len(rows)} frames at forks: orange: predicted; white: true"
    image_grid.contact_sheet(pictures, titles, path, columns=4, size=2.6, heading=heading)
