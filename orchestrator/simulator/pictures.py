"""The pictures themselves: small, different for every prompt and index, pleasant enough for a demo.

A scene is drawn once and shared by many. What makes each picture another one is the label in its corner, and
its title: done in a hundredth of the time.

A picture's id says all that is needed to draw it, so nothing is kept, and a URL outlives its task and even
the server, as the real ones on their CDN do.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.simulator import font, png
from orchestrator.simulator.canvas import Canvas, Colour, mix

LONGER_SIDE = 320
MOST_PICTURES = 16
FILE_BYTES = 32_768
"""Every file is padded to this, so that `fileSize` is true without drawing anything."""
SCENES = 128
INK = bytes((255, 255, 255))
SCALE = 2  # pixels to a point of a glyph
MARGIN = 6  # from the label to the left and lower edge
LABEL_ROWS = SCALE * (font.HEIGHT + 4) + MARGIN

_ID = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-(\d{2,3})x(\d{2,3})")

Palette = tuple[Colour, Colour, Colour, Colour, Colour]

PALETTES: tuple[Palette, ...] = (
    # sky above, sky between, sky at the horizon, light, nearest hill
    ((38, 52, 96), (206, 112, 120), (250, 196, 140), (255, 236, 196), (36, 30, 62)),
    ((92, 164, 214), (160, 208, 232), (236, 240, 226), (255, 250, 224), (38, 92, 84)),
    ((18, 24, 58), (44, 62, 122), (118, 124, 180), (240, 240, 255), (12, 16, 40)),
    ((246, 206, 180), (244, 170, 160), (220, 130, 150), (255, 244, 220), (96, 50, 90)),
    ((66, 120, 130), (140, 190, 176), (240, 226, 180), (255, 252, 226), (30, 62, 66)),
    ((116, 98, 170), (190, 150, 200), (250, 208, 206), (255, 240, 236), (58, 44, 96)),
    ((30, 80, 110), (90, 160, 160), (246, 214, 150), (255, 240, 190), (22, 48, 66)),
    ((230, 214, 196), (222, 180, 148), (196, 130, 100), (255, 246, 226), (92, 50, 44)),
)


def picture_id(prompt: str, variation: int, width: int, height: int) -> str:
    """The id of the pictures of one task: `variation` has 32 bits, the size only gives the aspect."""
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    size = picture_size(width, height)
    return f"{digest}-{variation:08x}-{size[0]}x{size[1]}"


def picture_size(width: int, height: int) -> tuple[int, int]:
    """The pixels really drawn for a picture that claims to be `width` by `height`."""
    longer = max(width, height)
    return round(width * LONGER_SIDE / longer), round(height * LONGER_SIDE / longer)


def draw_picture(name: str, index: int) -> bytes:
    """The PNG file of one picture, the same for the same name and index. Raises: LookupError."""
    found = _ID.fullmatch(name)
    if found is None or not 0 <= index < MOST_PICTURES:
        raise LookupError(name)
    digest, variation, width, height = found.groups()
    if not 64 <= min(int(width), int(height)) <= max(int(width), int(height)) <= LONGER_SIDE:
        raise LookupError(name)
    scene = _draw_scene((int(variation, 16) + index) % SCENES, int(width), int(height))
    return png.finish(scene.begun, _sign(scene, digest), f"{name}/{index}", FILE_BYTES)


@dataclass(frozen=True, slots=True)
class Scene:
    """What pictures of one number and size have in common: all but the lowest rows is encoded."""

    begun: png.Begun
    rows: Sequence[bytes]
    ground: bytes


@lru_cache(maxsize=2 * SCENES)
def _draw_scene(number: int, width: int, height: int) -> Scene:
    dice = random.Random(f"{number}/{width}x{height}")
    canvas = Canvas(width, height)
    palette = dice.choice(PALETTES)
    if dice.random() < 0.7:
        _draw_hills(canvas, palette, dice)
    else:
        _draw_circles(canvas, palette, dice)
    rows = canvas.rows()
    begun = png.begin(width, height, rows[:-LABEL_ROWS])
    return Scene(begun, rows[-LABEL_ROWS:], bytes(mix(palette[-1], (0, 0, 0), 0.45)))


def _sign(scene: Scene, digest: str) -> list[bytes]:
    """The lowest rows, the first digits of the prompt's sha256 in a label on the left."""
    glyphs = font.letters(INK * SCALE, scene.ground * SCALE)
    blank = scene.ground * (SCALE * (len(digest) * (font.WIDTH + 1) + 3))
    label = [blank] * SCALE * 2
    for line in range(font.HEIGHT):
        text = b"".join([glyphs[letter][line] for letter in digest])
        label += [scene.ground * (SCALE * 2) + text + scene.ground * SCALE] * SCALE
    label += [blank] * SCALE * 2
    start, end = 3 * MARGIN, 3 * MARGIN + len(blank)
    signed = [row[:start] + ink + row[end:] for row, ink in zip(scene.rows, label, strict=False)]
    return [*signed, *scene.rows[len(label) :]]


def _draw_hills(canvas: Canvas, palette: Palette, dice: random.Random) -> None:
    width, height = canvas.width, canvas.height
    side = min(width, height)
    _, _, horizon, light, near = palette
    canvas.gradient((*palette[:3], horizon))
    x, y = dice.uniform(0.15, 0.85) * width, dice.uniform(0.2, 0.45) * height
    radius = dice.uniform(0.06, 0.12) * side
    canvas.soft_disc(x, y, radius, radius * 3.2, light, 0.5)
    canvas.soft_disc(x, y, radius - 0.8, radius + 0.8, light, 0.95)
    layers = dice.randint(3, 4)
    for layer in range(layers):
        depth = (layer + 1) / layers
        base = height * (0.5 + 0.36 * layer / (layers - 1))
        waves = [
            (dice.uniform(0.4, 1.0) * side * reach, dice.uniform(0.8, 1.4) * pace / width, dice.uniform(0, 7))
            for reach, pace in ((0.08, 6.0), (0.035, 15.0), (0.010, 40.0))
        ]
        line = [base + sum(a * math.sin(f * x + p) for a, f, p in waves) for x in range(width)]
        top = mix(horizon, near, 0.25 + 0.7 * depth)
        canvas.ridge(line, top, mix(top, near, 0.55))


def _draw_circles(canvas: Canvas, palette: Palette, dice: random.Random) -> None:
    side = min(canvas.width, canvas.height)
    canvas.gradient(palette[:3])
    for _ in range(dice.randint(6, 9)):
        x, y = dice.random() * canvas.width, dice.random() * canvas.height
        radius = dice.uniform(0.07, 0.3) * side
        colour = mix(palette[3], dice.choice(palette), dice.uniform(0.0, 0.6))
        canvas.soft_disc(x, y, radius, radius * dice.uniform(1.03, 1.3), colour, dice.uniform(0.25, 0.6))
