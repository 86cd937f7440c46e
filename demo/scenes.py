"""The demo's little world: one coloured shape moves in front of a plain background.

Half of the scenes also hold a second shape of another form and colour that stands still, so a model
has to look at several frames to tell which one is meant. Training, the generated videos and the
reference answers all come from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHAPES: Final = ("circle", "square", "triangle", "cross")
COLOURS: Final = MappingProxyType(
    {
        "red": (220, 40, 40),
        "green": (40, 190, 60),
        "blue": (50, 80, 230),
        "yellow": (235, 215, 50),
        "purple": (160, 50, 200),
        "white": (240, 240, 240),
    }
)
COLOUR_NAMES: Final = tuple(COLOURS)
DIRECTIONS: Final = MappingProxyType(
    {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
)
DIRECTION_NAMES: Final = tuple(DIRECTIONS)

# What `owner_map` writes into a pixel.
BACKGROUND, MOVER, BYSTANDER = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Body:
    """One shape; lengths are in picture sides.

    Attributes:
        shape, colour: indices into SHAPES and COLOUR_NAMES.
        rgb: the colour as painted, near the named one.
        x, y: the centre at half time.
        radius: half the extent.
    """

    shape: int
    colour: int
    rgb: tuple[float, float, float]
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens in one clip.

    Attributes:
        direction: index into DIRECTION_NAMES.
        travel: way of the mover from first to last frame, in picture sides.
        background: RGB in the middle of the picture.
        slope: by how much the background brightens from the left edge to the right one.
    """

    mover: Body
    bystander: Body | None
    direction: int
    travel: float
    background: tuple[float, float, float]
    slope: float

    def mover_at(self, time: float) -> tuple[float, float]:
        """Centre of the mover; time runs from 0 (first frame) to 1 (last frame)."""
        way_x, way_y = DIRECTIONS[DIRECTION_NAMES[self.direction]]
        covered = self.travel * (time - 0.5)
        return self.mover.x + way_x * covered, self.mover.y + way_y * covered


def random_scene(rng: np.random.Generator, bystander_share: float = 0.5) -> Scene:
    """A scene drawn evenly over shapes, colours and directions."""
    shape, colour = int(rng.integers(len(SHAPES))), int(rng.integers(len(COLOURS)))
    direction = int(rng.integers(len(DIRECTIONS)))
    radius = float(rng.uniform(0.13, 0.19))
    along, across = float(rng.uniform(0.44, 0.56)), float(rng.uniform(0.25, 0.75))
    horizontal = DIRECTION_NAMES[direction] in ("left", "right")
    mover = Body(
        shape=shape,
        colour=colour,
        rgb=_painted(rng, colour),
        x=along if horizontal else across,
        y=across if horizontal else along,
        radius=radius,
    )
    bystander = None
    if rng.random() < bystander_share:
        other = (colour + int(rng.integers(1, len(COLOURS)))) % len(COLOURS)
        bystander = Body(
            shape=(shape + int(rng.integers(1, len(SHAPES)))) % len(SHAPES),
            colour=other,
            rgb=_painted(rng, other),
            x=float(rng.uniform(0.15, 0.85)),
            y=float(rng.uniform(0.15, 0.85)),
            radius=0.9 * radius,
        )
    red, green, blue = rng.uniform(0, 90, 3)
    return Scene(
        mover=mover,
        bystander=bystander,
        direction=direction,
        travel=float(rng.uniform(0.42, 0.66)),
        background=(float(red), float(green), float(blue)),
        slope=float(rng.uniform(-12, 12)),
    )


def render(scene: Scene, times: Sequence[float], size: int) -> NDArray[np.uint8]:
    """Frames (len(times), size, size, 3), uint8 RGB."""
    pixel_x = (np.arange(size) + 0.5) / size - 0.5
    row = np.asarray(scene.background)[None, :] + scene.slope * pixel_x[:, None]
    backdrop = np.clip(np.rint(row), 0, 255).astype(np.uint8)  # (size, 3), the same in every line
    frames = np.empty((len(times), size, size, 3), np.uint8)
    frames[:] = backdrop
    owners = owner_map(scene, times, size)
    if scene.bystander is not None:
        frames[owners == BYSTANDER] = np.asarray(scene.bystander.rgb, np.uint8)
    frames[owners == MOVER] = np.asarray(scene.mover.rgb, np.uint8)
    return frames


def owner_map(scene: Scene, times: Sequence[float], size: int) -> NDArray[np.uint8]:
    """Which body each pixel shows, (len(times), size, size); the mover is in front."""
    owners = np.zeros((len(times), size, size), np.uint8)
    for frame, time in zip(owners, times, strict=True):
        if scene.bystander is not None:
            _stamp(frame, scene.bystander, scene.bystander.x, scene.bystander.y, BYSTANDER)
        _stamp(frame, scene.mover, *scene.mover_at(time), MOVER)
    return owners


def _stamp(frame: NDArray[np.uint8], body: Body, x: float, y: float, owner: int) -> None:
    """Write `owner` where the body covers the frame (size, size)."""
    size = len(frame)
    radius = body.radius * size
    columns = _covered(x * size, radius, size)
    rows = _covered(y * size, radius, size)
    right = (np.arange(size)[columns] + 0.5 - x * size)[None, :]
    down = (np.arange(size)[rows] + 0.5 - y * size)[:, None]
    match SHAPES[body.shape]:
        case "circle":
            inside = right**2 + down**2 < radius**2
        case "square":
            inside = np.maximum(abs(right), abs(down)) < 0.88 * radius
        case "triangle":
            inside = (down < 0.8 * radius) & (down > 2 * abs(right) - radius)
        case _:
            near, far = np.minimum(abs(right), abs(down)), np.maximum(abs(right), abs(down))
            inside = (near < 0.33 * radius) & (far < radius)
    frame[rows, columns][inside] = owner


def _covered(centre: float, radius: float, size: int) -> slice:
    low, high = int(centre - radius) - 1, int(centre + radius) + 2
    return slice(min(max(low, 0), size), min(max(high, 0), size))


def _painted(rng: np.random.Generator, colour: int) -> tuple[float, float, float]:
    """The named colour, a little off."""
    red, green, blue = np.clip(
        np.asarray(COLOURS[COLOUR_NAMES[colour]]) + rng.uniform(-14, 14, 3), 0, 255
    )
    return float(red), float(green), float(blue)
