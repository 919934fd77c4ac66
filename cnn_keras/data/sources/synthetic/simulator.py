"""A road that a seed draws, a camera on a car, its driver: frames with steering angles, and a loop that can be closed.

The road is flat and has two lanes, white edges, a dashed middle and grass beside it; its curves are as tight as
TIGHTEST. The car is the kinematic bicycle of textbooks, moved by its front wheel. Lengths are metres, headings and
wheel angles radians, counter-clockwise; a steering angle is −1 for the wheel full left to 1 for full right.

A frame is what a pinhole camera sees: the ground is looked up for each pixel, at the distance that its row has, and the
centre line is taken as straight within the width of the road. What is drawn is a function of the road's seed, the
place on it and the car's pose alone.

A road may fork, always into two branches that are each other's mirror image: no frame tells which of them is to be
driven, a patch of the map (`route_map`) does.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

SPACING = 0.5  # metres between the points of a centre line
LANE, EDGE = 3.6, 0.18  # width of a lane and of a painted line
DASH, GAP = 3.0, 3.0  # lengths of the middle line's dashes and of what is between them
TIGHTEST = 20.0  # radius of the tightest curve
VIEW = 60.0  # how far the road is drawn
WHITE, YELLOW = (np.array(colour, np.float32) for colour in ((230, 230, 225), (225, 190, 60)))
SIZE = (120, 160)  # pixels of a frame, height and width
HEIGHT, PITCH, FIELD = 1.3, math.radians(6), math.radians(80)  # of the camera: above the ground, down, across
WHEELBASE, FULL = 2.7, math.radians(25)  # between the axles; the front wheel's angle at full lock
CAR = 1.8  # width
STRIDE = 1.0  # metres that the car goes from frame to frame
AHEAD = 6.0  # metres before the rear axle of the point that the driver steers to
ROOM = (LANE - CAR) / 2  # how far the car's middle may be from the lane's before a wheel touches the paint
APPROACH, BEND, LEAVE = 15.0, 20.0, 20.0  # metres of a fork: straight, bent to the left or the right, and straight
BENT = 28.0  # radius of a branch of a fork
APART = 0.1  # of full lock: angles that differ by more are two answers
TAKEN = 8.0  # metres behind a fork from which the camera shows which branch was taken
MAP, CELL, BEHIND = (32, 32), 1.5, 8  # pixels of a patch of the map; metres a pixel; rows behind the car


class Road(NamedTuple):
    """A centre line by points, float64 (points,), SPACING apart; the right lane is driven on."""

    x: np.ndarray
    y: np.ndarray
    heading: np.ndarray
    seed: int
    forks: tuple["Fork", ...] = ()

    @property
    def length(self) -> float:
        """Metres that can be driven with the whole view drawn."""
        return (len(self.x) - 1) * SPACING - VIEW


class Fork(NamedTuple):
    """Where a road forks, and the road that one is on who takes the other branch, the route's mirror image."""

    along: float  # metres, where the branches begin to bend
    other: Road

    def is_near(self, along: float) -> bool:
        """Whether its other branch may be seen by a car so far along the road."""
        return -1.5 * VIEW < along - self.along < BEND + LEAVE


class Car(NamedTuple):
    """The middle of its rear axle, where it heads, and how far along the road it was last found."""

    x: float
    y: float
    heading: float
    along: float


class Place(NamedTuple):
    """Where a car is on the road: metres along it, left of the middle of its lane, and its heading against it."""

    along: float
    offset: float
    heading: float


def road(seed: int, length: float, *, forks: bool = False) -> Road:
    """A road of this length and the view behind its end: straights and curves of 15 to 60 m, blended into another.

    With `forks` the road forks behind each of them, and goes on to the left or to the right.
    """
    generator, points = np.random.default_rng([seed, 0]), int((length + 2 * VIEW) / SPACING)
    curvature, places = [np.zeros(int(30 / SPACING))], list[int]()
    while sum(map(len, curvature)) < points:
        bend = generator.uniform(-1, 1) / TIGHTEST if generator.random() < 0.75 else 0.0
        curvature.append(np.full(int(generator.uniform(15, 60) / SPACING), bend))
        if forks:
            places.append(sum(map(len, curvature)) + int(APPROACH / SPACING))
            curvature += [np.full(int(part / SPACING), 0.0) for part in (APPROACH, BEND, LEAVE)]
            curvature[-2] += generator.choice((-1, 1)) / BENT
    whole = np.concatenate(curvature)[:points]
    branches = []
    for place in (place for place in places if place + int(BEND / SPACING) < points):
        other = np.pad(whole, (0, points))[: place + int(3 * VIEW / SPACING)]
        other[place:] *= -1
        branches.append(Fork(place * SPACING, _line(other, seed)))
    return _line(whole, seed)._replace(forks=tuple(branches))


def _line(curvature: np.ndarray, seed: int) -> Road:
    blend = np.hanning(int(12 / SPACING))
    smooth = np.convolve(curvature, blend / blend.sum(), mode="same")
    heading = np.cumsum(smooth) * SPACING
    step = SPACING * np.exp(1j * (heading - smooth * SPACING / 2))  # along the chord between two points
    line = np.cumsum(step)
    return Road(line.real, line.imag, heading, seed)


def start(track: Road, along: float = 5.0, *, offset: float = 0.0, heading: float = 0.0) -> Car:
    """A car so far along the road, in its lane or `offset` left of its middle, turned by `heading`."""
    number = round(along / SPACING)
    middle = track.heading[number]
    left = offset - LANE / 2
    x, y = track.x[number] - left * math.sin(middle), track.y[number] + left * math.cos(middle)
    return Car(float(x), float(y), float(middle + heading), number * SPACING)


def place(track: Road, car: Car) -> Place:
    """Where the car is: the nearest point of the centre line, not far from where it was last found."""
    first = max(0, int((car.along - 3 * STRIDE) / SPACING))
    near = slice(first, first + int(8 * STRIDE / SPACING))
    number = first + int(np.argmin((track.x[near] - car.x) ** 2 + (track.y[near] - car.y) ** 2))
    away = complex(car.x - track.x[number], car.y - track.y[number]) * np.exp(-1j * track.heading[number])
    angle = (car.heading - track.heading[number] + math.pi) % (2 * math.pi) - math.pi
    return Place(number * SPACING + float(away.real), float(away.imag) + LANE / 2, float(angle))


def step(track: Road, car: Car, angle: float) -> Car:
    """The car a STRIDE later, its wheel held at this steering angle, −1 to 1; beyond them it stands at full lock."""
    wheel = -FULL * min(max(angle, -1.0), 1.0)
    turn = STRIDE * math.tan(wheel) / WHEELBASE
    middle = car.heading + turn / 2
    there = Car(
        car.x + STRIDE * math.cos(middle), car.y + STRIDE * math.sin(middle), car.heading + turn, car.along + STRIDE
    )
    return there._replace(along=place(track, there).along)


def pure_pursuit(track: Road, car: Car) -> float:
    """How the one who knows the road steers: towards the lane's middle AHEAD of the rear axle (pure pursuit)."""
    number = min(round((car.along + AHEAD) / SPACING), len(track.x) - 1)
    heading = track.heading[number]
    aim_x = track.x[number] + LANE / 2 * math.sin(heading)
    aim_y = track.y[number] - LANE / 2 * math.cos(heading)
    to = complex(aim_x - car.x, aim_y - car.y) * np.exp(-1j * car.heading)
    wheel = math.atan2(2 * WHEELBASE * float(to.imag), abs(to) ** 2)
    return -min(max(wheel / FULL, -1.0), 1.0)


def drive(
    track: Road, frames: int, *, wander: float, hand: float, seed: int, along: float = 5.0
) -> Iterator[tuple[Car, float]]:
    """Where a car is and what its driver does, from frame to frame, while something pushes it about.

    The push is added to the wheel and not recorded, so that a recording shows how one gets back into the lane.

    Args:
        wander: of the push, a slowly changing steering angle: its standard deviation.
        hand: standard deviation of what the driver's own hand trembles, which is recorded.
        seed: of both.
        along: metres along the road where the car starts.
    """
    generator = np.random.default_rng([seed, 1])
    car, push = start(track, along), 0.0
    for _ in range(frames):
        angle = min(max(pure_pursuit(track, car) + generator.normal(0, hand), -1.0), 1.0)
        yield car, angle
        push = 0.9 * push + math.sqrt(1 - 0.9**2) * generator.normal(0, wander)
        car = step(track, car, angle + push)


def frame(track: Road, car: Car, *, size: tuple[int, int] = SIZE) -> np.ndarray:
    """What the car's camera sees: uint8 (height, width, 3), RGB."""
    far, across, horizon = _rays(size)
    looks = np.random.default_rng([track.seed, 2])
    sky, light = looks.uniform((120, 150, 190), (180, 200, 240)).astype(np.float32), looks.uniform(0.75, 1.1)
    grey, grass = looks.uniform(70, 120), looks.uniform((60, 90, 40), (110, 130, 70)).astype(np.float32)
    dashes = WHITE if looks.random() < 0.5 else YELLOW
    along, beside = (part.astype(np.float32) for part in _on_roads(track, car, far, across))
    soft = (across[:, :1] - across[:, 1:2]) / 2  # metres, half of what a pixel of the row is wide

    def stripe(middle: float) -> np.ndarray:
        return np.clip((EDGE / 2 - np.abs(beside - middle)) / (2 * soft) + 0.5, 0, 1)[..., None]

    pixels = _speckle(along, beside, soft, track.seed)[..., None]
    paved = np.clip((LANE + 0.4 - np.abs(beside)) / (2 * soft) + 0.5, 0, 1)[..., None]
    ground = paved * (grey + 18 * pixels) + (1 - paved) * (grass + 40 * pixels)
    dashed = (np.mod(along, DASH + GAP) < DASH)[..., None] * stripe(0.0)
    edges = np.maximum(stripe(LANE), stripe(-LANE))
    ground += edges * (WHITE - ground)
    ground += dashed * (dashes - ground)
    ground *= (light * _shade(along, beside, track.seed))[..., None]
    haze = np.clip(far / VIEW - 0.3, 0, 0.7)[:, None, None]
    picture = np.empty((*size, 3), np.float32)
    picture[horizon:] = ground + haze * (sky - ground)
    picture[:horizon] = sky + np.linspace(-25, 15, horizon)[:, None, None]
    _hills(picture, car, horizon, track.seed)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def route_map(track: Road, car: Car) -> np.ndarray:
    """A patch of the map around the car, as a navigator shows it: float32 (*MAP, 1), the car's heading upwards.

    1 where the route is, 0.5 on the other branch of a fork, 0 elsewhere. A pixel is CELL metres wide, and the car is
    in the middle of the patch's width, BEHIND rows above its lower edge.
    """
    rows, columns = np.mgrid[: MAP[0], : MAP[1]] + 0.5
    cells = CELL * ((MAP[0] - BEHIND - rows) + 1j * (MAP[1] / 2 - columns))  # metres ahead, and left
    patch = np.zeros(MAP, np.float32)
    others = [fork.other for fork in track.forks if fork.is_near(car.along)]
    for line, value in [*((other, 0.5) for other in others), (track, 1.0)]:
        first, reach = int(car.along / SPACING), int(MAP[0] * CELL / SPACING)
        near = slice(max(0, first - reach), first + reach, 2)
        local = (line.x[near] - car.x + 1j * (line.y[near] - car.y)) * np.exp(-1j * car.heading)
        patch[np.abs(cells[..., None] - local).min(axis=-1) < CELL] = value
    return patch[..., None]


class Shot(NamedTuple):
    """A moment of a drive: called, it draws the camera's frame, uint8 (height, width, 3)."""

    track: Road
    car: Car
    angle: float  # of the driver

    def __call__(self) -> np.ndarray:
        return frame(self.track, self.car)

    def route(self) -> np.ndarray:
        """The patch of the map of `route_map`."""
        return route_map(self.track, self.car)

    @property
    def is_at_fork(self) -> bool:
        """Whether the branches of a fork ask for angles more than APART from another, and none is taken yet."""
        angle = pure_pursuit(self.track, self.car)
        ahead = (fork.other for fork in self.track.forks if self.car.along < fork.along + TAKEN)
        return any(abs(pure_pursuit(other, self.car) - angle) > APART for other in ahead)


def recording(seed: int, frames: int, *, wander: float, hand: float, forks: bool = False) -> Iterator[Shot]:
    """The moments of a drive on a road of its own."""
    track = road(seed, frames * STRIDE + 10, forks=forks)
    for car, angle in drive(track, frames, wander=wander, hand=hand, seed=seed):
        yield Shot(track, car, angle)


@cache
def _rays(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int]:
    """Where the ground is that pixels below the horizon see: metres ahead (rows,) and left (rows, width); the horizon.

    The row of the horizon is the first whose ground is nearer than the VIEW.
    """
    height, width = size
    focal = width / 2 / math.tan(FIELD / 2)
    down = (np.arange(height) + 0.5 - height / 2) / focal
    falls = math.sin(PITCH) + down * math.cos(PITCH)
    reach = HEIGHT / np.maximum(falls, 1e-9)
    ahead = (math.cos(PITCH) - down * math.sin(PITCH)) * reach
    horizon = int(np.argmax((falls > 0) & (ahead < VIEW)))
    right = (np.arange(width) + 0.5 - width / 2) / focal
    across = -right[None] * reach[horizon:, None]
    return ahead[horizon:].astype(np.float32), across.astype(np.float32), horizon


def _on_roads(track: Road, car: Car, far: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres along the nearest road of a fork and left of its middle line; see `_on_road`."""
    along, beside = _on_road(track, car, far, across)
    for fork in (fork for fork in track.forks if fork.is_near(car.along)):
        other_along, other_beside = _on_road(fork.other, car, far, across)
        is_nearer = np.abs(other_beside) < np.abs(beside)
        along, beside = np.where(is_nearer, other_along, along), np.where(is_nearer, other_beside, beside)
    return along, beside


def _on_road(track: Road, car: Car, far: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres along the road and left of its middle line of ground so far ahead and left: (rows, width) each."""
    first = max(0, int((car.along - 5) / SPACING))
    window = slice(first, first + int((VIEW * 1.5 + 5) / SPACING))
    local = (track.x[window] - car.x + 1j * (track.y[window] - car.y)) * np.exp(-1j * car.heading)
    forward = np.maximum.accumulate(local.real)  # a road that turns back is not seen behind itself
    rows = np.interp(far, forward, np.arange(len(forward)))
    whole = np.minimum(rows.astype(int), len(forward) - 1)
    middle = np.interp(rows, np.arange(len(forward)), local.imag)
    angle = track.heading[window][whole] - car.heading
    sideways = across - middle[:, None]
    along = (first + rows)[:, None] * SPACING + sideways * np.sin(angle)[:, None]
    return along, sideways * np.cos(angle)[:, None]


@cache
def _cells(seed: int) -> np.ndarray:
    """Numbers in [0, 1) for the cells of a plane, which repeats after 256 of them."""
    return np.random.default_rng([seed, 4]).random((256, 256))


def _drawn(column: np.ndarray, row: np.ndarray, seed: int) -> np.ndarray:
    """The number of each cell, always the same."""
    return _cells(seed)[column.astype(int) & 255, row.astype(int) & 255]


def _speckle(along: np.ndarray, beside: np.ndarray, soft: np.ndarray, seed: int, cell: float = 0.25) -> np.ndarray:
    """The ground's grain, −0.5 to 0.5, in cells of a quarter of a metre; what a pixel cannot resolve is even."""
    grain = _drawn(np.floor(along / cell), np.floor(beside / cell), seed) - 0.5
    return grain * np.clip(cell / (4 * soft), 0, 1)


def _shade(along: np.ndarray, beside: np.ndarray, seed: int, cell: float = 9.0) -> np.ndarray:
    """Light on the ground: 1, or darker in soft patches as if trees stood there."""
    x, y = along / cell, beside / cell
    column, row = np.floor(x), np.floor(y)
    u, v = (t * t * (3 - 2 * t) for t in (x - column, y - row))
    corners = [_drawn(column + i, row + j, seed + 7) for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
    smooth = (corners[0] * (1 - u) + corners[1] * u) * (1 - v) + (corners[2] * (1 - u) + corners[3] * u) * v
    return 1 - 0.45 * np.clip((smooth - 0.55) * 8, 0, 1)


def _hills(picture: np.ndarray, car: Car, horizon: int, seed: int) -> None:
    """Hills behind the horizon, which turn by when the car does."""
    height, width = picture.shape[:2]
    focal = width / 2 / math.tan(FIELD / 2)
    azimuth = car.heading - np.arctan((np.arange(width) + 0.5 - width / 2) / focal)
    waves = np.random.default_rng([seed, 3]).uniform((2, 0), (5, 2 * math.pi), (4, 2))
    tall = sum(
        np.sin((number + 1) * azimuth * waves[number, 0] + waves[number, 1]) / (number + 2) for number in range(4)
    )
    top = horizon - height / 40 * (1.6 + tall)
    under = (np.arange(horizon)[:, None] >= top[None])[..., None]
    picture[:horizon] = np.where(under, picture[:horizon] * (0.55, 0.62, 0.6), picture[:horizon])
