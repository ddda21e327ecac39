"""The shapes world: scenes of one to three objects on a plain background, and which of them are held out.

A picture is 64×64 pixels, split into four cells (a 2×2 grid). A cell holds at most one object, drawn near its middle.
"""

import random
from dataclasses import dataclass

SIZE = 64
CELL = 32

# Object colours and background colours are disjoint, so an object always shows.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 225, 50),
    "green": (40, 165, 70),
    "blue": (35, 80, 230),
    "purple": (150, 50, 200),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (245, 245, 245),
    "grey": (140, 140, 140),
    "black": (15, 15, 15),
    "pink": (255, 175, 205),
    "cyan": (150, 230, 240),
    "brown": (105, 65, 40),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
SIZES: dict[str, float] = {"small": 8.5, "large": 13.0}  # radius in pixels
CELLS = ("top left", "top right", "bottom left", "bottom right")
JITTER = 1.5  # an object's middle lies within this many pixels of its cell's

# Never drawn in any training set: a whole combination for every shape and for five of the six colours.
HELD_OUT = frozenset(
    {
        ("large", "red", "cross"),
        ("small", "orange", "circle"),
        ("large", "yellow", "diamond"),
        ("small", "green", "triangle"),
        ("large", "blue", "square"),
    }
)


@dataclass(frozen=True)
class Thing:
    """One object: shape, colour and size by name, its cell (0…3), and its middle's offset in pixels."""

    shape: str
    color: str
    size: str
    cell: int
    dx: float = 0.0
    dy: float = 0.0

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) in pixels from the top left of the picture."""
        return CELL * (self.cell % 2 + 0.5) + self.dx, CELL * (self.cell // 2 + 0.5) + self.dy


@dataclass(frozen=True)
class Scene:
    """A background and its objects, in the order of their cells; no two share both colour and shape."""

    background: str
    things: tuple[Thing, ...]

    @property
    def held_out(self) -> bool:
        """Whether some object is of a combination that no training picture shows."""
        return any((thing.size, thing.color, thing.shape) in HELD_OUT for thing in self.things)

    @property
    def free_cells(self) -> list[int]:
        """The cells without an object."""
        taken = {thing.cell for thing in self.things}
        return [cell for cell in range(len(CELLS)) if cell not in taken]


def make_scene(background: str, things: list[Thing]) -> Scene:
    """A scene with its objects in the order of their cells."""
    return Scene(background, tuple(sorted(things, key=lambda thing: thing.cell)))


def random_scene(rng: random.Random, held_out: bool = False) -> Scene:
    """A random scene; `held_out` says whether it must show a held-out combination or must not."""
    while True:
        count = rng.randint(1, 3)
        things = [
            Thing(
                shape=rng.choice(SHAPES),
                color=rng.choice(list(COLORS)),
                size=rng.choice(list(SIZES)),
                cell=cell,
                dx=rng.uniform(-JITTER, JITTER),
                dy=rng.uniform(-JITTER, JITTER),
            )
            for cell in rng.sample(range(len(CELLS)), count)
        ]
        scene = make_scene(rng.choice(list(BACKGROUNDS)), things)
        if is_unambiguous(scene) and scene.held_out == held_out:
            return scene


def is_unambiguous(scene: Scene) -> bool:
    """Whether colour and shape together name each object."""
    return len({(thing.color, thing.shape) for thing in scene.things}) == len(scene.things)
