"""Supply the scenes of the simulated rig: photographs that installed packages contain, and dead-leaves images.

A scene is a flat picture in linear light. Photographs are converted to linear light, and their highlights are
expanded. Dead-leaves images are piles of occluding shapes whose sizes follow a power law (after Lee, Mumford and
Huang 2001). They have the statistics of natural pictures, and we can make any number of them. Nothing is downloaded.
"""

import importlib.util
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np

from dped_lib.base.errors import DpedError, pip_install
from dped_lib.base.validation import one_of
from dped_lib.data import image_decoding
from dped_lib.data.color_profiles import decode_srgb

#: Size of a dead-leaves scene in pixels, height x width.
LEAVES_SIZE = (960, 1280)
LEAVES_PER_FAMILY = 3


@dataclass(frozen=True)
class RigScene:
    """Describe one scene.

    Attributes:
        name: the scene's name.
        photograph: what it shows. Takes of one photograph share it, so datasets are split by it, never by ``name``.
        kind: ``photo`` or ``leaves``.
    """

    name: str
    photograph: str
    kind: str


@dataclass(frozen=True)
class _Take:
    """Hold one take of a photograph."""

    package: str
    path: str
    crop: float  # place of the 4:3 crop: 0 is the upper or left end, 1 the lower or right end
    warmth: float  # colour of the light: positive is evening, negative is shade


def _photo(package, path, crops, second=None):
    return (_Take(package, path, crops[0], 0.0), _Take(package, second or path, crops[1], crops[2]))


#: Files of the packages. The numbers are the crop of each take, and the warmth of the second one.
_PHOTOS = MappingProxyType(
    {
        "astronaut": _photo("skimage", "data/astronaut.png", (0.0, 1.0, 0.3)),
        "chelsea": _photo("skimage", "data/chelsea.png", (0.3, 0.7, -0.3)),
        "coffee": _photo("skimage", "data/coffee.png", (0.2, 0.9, -0.5)),
        "motorcycle": _photo("skimage", "data/motorcycle_left.png", (0.9, 0.1, 0.4), "data/motorcycle_right.png"),
        "rocket": _photo("skimage", "data/rocket.jpg", (0.1, 0.9, 0.3)),
        "hopper": _photo("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (0.1, 1.0, -0.3)),
        "china": _photo("sklearn", "datasets/images/china.jpg", (0.0, 1.0, 0.5)),
        "flower": _photo("sklearn", "datasets/images/flower.jpg", (0.3, 1.0, 0.3)),
    }
)
_DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


@dataclass(frozen=True)
class _Family:
    """Describe one kind of dead-leaves image."""

    colors: str  # sRGB colours of the shapes
    shape: str  # leaf | stone | disc | block
    texture: str  # veins | grain | windows
    horizon: float = 0.0  # fraction of the height that is sky
    largest: float = 0.24  # radius of the largest shape, relative to the height
    ground: str = "2c2822"  # sRGB colour where there is no shape


_FAMILIES = MappingProxyType(
    {
        "foliage": _Family("4a6330 66803f 83995a 3d5230 9aa872 55684a 747d50 b0b57c", "leaf", "veins"),
        "autumn": _Family("9a5238 b57a46 c89c56 713a2e 86703f a24236 5f5036 95965a", "leaf", "veins"),
        "pebbles": _Family("8d8a82 a59c8c 6f6a66 b9ae9a 57595c 9a7f6a c9c4b8 7d8a90", "disc", "grain", largest=0.15),
        "wall": _Family("a08e76 b7a58a 8b7964 c2b49c 75695a 9c8a80 a89a90 6a5c4c", "stone", "grain", largest=0.17),
        "town": _Family(
            "b5644a c9a27a d8c8aa 9a8f86 8a4a3a 6f7880 e0d4bc a8b0ae c98f5a", "block", "windows", 0.34, 0.2, "77746a"
        ),
        "meadow": _Family(
            "55753c 71904c 8ca35e 446034 d8c65a e6e2d6 c06a84 8fa377 627f46", "leaf", "veins", 0.36, 0.12, "465a34"
        ),
        "market": _Family(
            "b8403a d09a3c d8c66a 4f7f4a 3f659a 744470 c87a48 ece6da 8a5e40 6a9ea4", "disc", "grain", largest=0.16
        ),
        "coast": _Family(
            "c9b48c d8c8a4 a8906a 8a7a66 6a7a80 b8a890 5a6a6a e0d8c4", "stone", "grain", 0.42, 0.2, "b09c78"
        ),
    }
)


@lru_cache(maxsize=1)
def scenes() -> tuple[RigScene, ...]:
    """Return every scene of the ``rig`` dataset: 8 photographs in two takes each, then 24 dead-leaves images.

    The order is fixed.
    """
    photos = [RigScene(f"{p}-{take}", p, "photo") for p in _PHOTOS for take in "ab"]
    names = [f"{family}-{i + 1}" for family in _FAMILIES for i in range(LEAVES_PER_FAMILY)]
    return tuple(photos + [RigScene(name, name, "leaves") for name in names])


def find_scene(name: str) -> RigScene:
    """Return the scene of this name.

    Raises:
        DpedError: there is no such scene; the message lists the names and the nearest one.
    """
    known = {scene.name: scene for scene in scenes()}
    return known[one_of("scene", name, known)]


@lru_cache(maxsize=2)
def radiance(name: str) -> np.ndarray:
    """Return the linear light of a scene: H x W x 3 float32 RGB, read-only.

    Diffuse white is 1, and highlights reach about 2.

    Raises:
        DpedError: the scene is unknown, or a package is missing or lacks its photograph.
    """
    scene = find_scene(name)
    light = _photograph(scene) if scene.kind == "photo" else _dead_leaves(name)
    light.setflags(write=False)
    return light


def _photograph(scene: RigScene) -> np.ndarray:
    """Return a 4:3 crop of a photograph at twice or three times its size, in linear light, lit as in its take."""
    take = _PHOTOS[scene.photograph]["ab".index(scene.name[-1])]
    image = _read(take.package, take.path)
    height, width = image.shape[:2]
    if width * 3 > height * 4:
        crop = height * 4 // 3
        left = round((width - crop) * take.crop)
        image = image[:, left : left + crop]
    else:
        crop = width * 3 // 4
        top = round((height - crop) * take.crop)
        image = image[top : top + crop]
    times = 3 if image.shape[0] < 340 else 2
    image = cv2.resize(image, None, fx=times, fy=times, interpolation=cv2.INTER_LANCZOS4)
    soft = cv2.GaussianBlur(image, (0, 0), 0.8 * times)
    image = np.clip(cv2.addWeighted(image, 1.7, soft, -0.7, 0), 0, 255)
    light = decode_srgb(np.arange(256, dtype=np.float32) / 255)[image]
    light *= 1 + light**3  # expand highlights: the file's white becomes twice diffuse white
    return light * _lamp(light.shape[:2], take.warmth)


def _read(package, path):
    """Return a photograph that a package contains, uint8 H x W x 3 RGB."""
    spec = importlib.util.find_spec(package)
    name = _DISTRIBUTIONS[package]
    if spec is None:
        raise DpedError(f"the rig needs a photograph of the package {name}, which is missing. Run: {pip_install(name)}")
    file = Path(spec.origin).parent / path
    try:
        return image_decoding.decode(file).pixels
    except DpedError as error:
        raise DpedError(
            f"{name} lacks its photograph {file}. Run: {pip_install(f'--force-reinstall {name}')}"
        ) from error


def _lamp(size, warmth):
    """Return colour and fall-off of the light: H x W x 3. Warmth 0 is even white light."""
    tint = np.exp2(np.array([0.4, 0.0, -0.7], np.float32) * warmth)
    across = np.linspace(-warmth, warmth, size[1], dtype=np.float32)
    return np.exp2(0.9 * across)[None, :, None] * tint


def _dead_leaves(name: str) -> np.ndarray:
    """Return the linear light of a dead-leaves scene. Its name seeds the random numbers."""
    family = _FAMILIES[name.rsplit("-", 1)[0]]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    height, width = LEAVES_SIZE
    shapes = _scatter(family, rng)
    label = np.zeros((height, width), np.uint16)
    for number, outline in enumerate(shapes["outline"], 1):
        cv2.fillPoly(label, [outline], number, lineType=cv2.LINE_8, shift=3)

    def inside(values, background=0.0):
        """Give each pixel the value of its shape."""
        first = np.full((1, *values.shape[1:]), background, np.float32)
        return np.concatenate([first, values.astype(np.float32)])[label]

    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - inside(shapes["x"]), y - inside(shapes["y"])
    cos, sin, size = inside(shapes["cos"], 1), inside(shapes["sin"]), inside(shapes["radius"], height)
    u, v = (x * cos + y * sin) / size, (y * cos - x * sin) / size
    # All shapes read their texture from one fractal noise, each from another part of it.
    spare = 200
    noise = _fractal((height + spare, width + spare), rng, 8, first=2)
    jump = (rng.integers(0, spare, (len(shapes["x"]) + 1, 2)) @ [width + spare, 1]).astype(np.int32)
    place = np.arange(noise.size, dtype=np.int32).reshape(noise.shape)[:height, :width]
    grain = noise.ravel()[place + jump[label]]
    shade = 1 + inside(shapes["slope"]) * u + inside(shapes["contrast"], 0.25) * grain
    if family.texture == "veins":
        side = np.abs(v)
        shade += 0.2 * np.sin((u - 0.8 * side) * 26) * (size > 20) - 0.08 + 0.5 * np.exp(-((side * 24) ** 2))
    elif family.texture == "windows":
        panes = inside(shapes["panes"], 1.0)
        pane = ((u * panes) % 1 < 0.5) & ((v * panes * 0.7) % 1 < 0.6) & (size > 40)
        shade *= np.where(pane, 0.3 + 0.2 * (grain > 0.9), 1)
    ground = decode_srgb(_rgb(family.ground))
    light = inside(shapes["color"], 0.0)
    light[label == 0] = ground[0]
    light *= np.maximum(shade, 0.08)[..., None]
    # Each shape casts a soft shadow on those below it, down and to the right. This makes the pile look deep.
    reach = 14
    shadowed = np.roll(label, (reach, reach // 2), (0, 1)) > label
    shadow = cv2.GaussianBlur(shadowed.astype(np.float32), (0, 0), 7)
    light *= (1 - 0.65 * shadow)[..., None]
    light *= np.exp2(0.4 * _fractal((height, width), rng, 2))[..., None]  # patches of sun and shade
    light *= _lamp(label.shape, rng.uniform(-0.35, 0.45))
    if family.horizon:
        _paint_sky(light, label, family.horizon, rng)
    return cv2.GaussianBlur(light, (0, 0), 0.7)


def _scatter(family, rng):
    """Draw the shapes at random, from back to front: arrays of their properties by name.

    Radii follow a power law of exponent -3, which makes the image scale invariant.
    """
    height, width = LEAVES_SIZE
    count = 3200 if family.horizon else 1500
    smallest, largest = (0.02 if family.shape == "block" else 0.011) * height, family.largest * height
    radius = smallest / np.sqrt(1 - rng.random(count) * (1 - (smallest / largest) ** 2))
    radius = np.concatenate([radius, rng.uniform(0.4, 1, count // 9) * largest])
    n = radius.size
    x = rng.uniform(0, width, n)
    nearness = 1.05 * rng.random(n)
    if family.horizon:  # distant shapes are smaller, more numerous, and hidden by nearer ones
        nearness **= 2
        radius *= 0.25 + 0.95 * nearness
    y = height * (family.horizon + (1 - family.horizon) * nearness)
    order = np.argsort(-np.log(radius) + 6 * nearness * (family.horizon > 0) + rng.normal(0, 0.9, n))
    radius, x, y = radius[order], x[order], y[order]
    upright = family.shape == "block"
    angle = rng.normal(0, 0.02, n) if upright else rng.uniform(0, 2 * np.pi, n)
    phase = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    if family.shape == "leaf":
        profile = np.stack([np.cos(phase), 0.42 * np.sin(phase) * np.abs(np.sin(phase)) ** 0.6])
    elif family.shape == "block":
        profile = np.array([[-0.6, 0.6, 0.6, 0, -0.6], [1, 1, -0.9, -1.15, -0.9]])
    else:
        profile = np.stack([np.cos(phase), np.sin(phase)])
    outline = np.repeat(profile[None], n, 0)
    if family.shape == "stone":
        corners = rng.uniform(0.7, 1.05, (n, 9))
        outline = np.repeat(profile[None, :, ::3][:, :, :9], n, 0) * corners[:, None, :]
    stretch = rng.uniform(0.65, 1.0, n) if family.shape != "block" else rng.uniform(0.6, 1.8, n)
    cos, sin = np.cos(angle), np.sin(angle)
    px, py = outline[:, 0] * radius[:, None], outline[:, 1] * (radius * stretch)[:, None]
    points = np.stack(
        [px * cos[:, None] - py * sin[:, None] + x[:, None], px * sin[:, None] + py * cos[:, None] + y[:, None]], -1
    )
    colors = decode_srgb(_rgb(family.colors))
    color = colors[rng.integers(0, len(colors), n)] * np.exp(rng.normal(0, 0.3, (n, 1)) + rng.normal(0, 0.07, (n, 3)))
    return {
        "outline": np.round(points * 8).astype(np.int32),
        "x": x,
        "y": y,
        "radius": radius,
        "cos": cos,
        "sin": sin,
        "color": color,
        "slope": rng.uniform(-0.45, 0.45, n),
        "contrast": rng.uniform(0.08, 0.34, n) * (1.3 if family.texture == "grain" else 0.7),
        "panes": rng.uniform(3, 7, n),
    }


def _paint_sky(light, label, horizon, rng):
    """Add haze in the distance, and a blue sky with clouds above the shapes. This changes ``light`` in place."""
    height, width = label.shape
    rows = int(horizon * height)
    down = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    sky = (1 - down) * np.array([0.16, 0.34, 0.75], np.float32) + down * np.array([0.62, 0.78, 0.95], np.float32)
    cloud = np.clip(_fractal((rows, width), rng, 6)[..., None] * 0.55 + rng.uniform(0, 0.35), 0, 1)
    sky = sky * (1 - cloud) + np.array([1.55, 1.55, 1.6], np.float32) * cloud * (0.65 + 0.35 * cloud)
    far = np.exp(-np.abs(np.arange(height) / height - horizon) / 0.12).astype(np.float32)[:, None, None]
    light += 0.4 * far * (np.array([0.6, 0.72, 0.85], np.float32) - light)  # haze, thickest at the horizon
    open_sky = label[:rows] == 0
    light[:rows][open_sky] = np.broadcast_to(sky, (rows, width, 3))[open_sky]


def _fractal(size, rng, octaves, first=0):
    """Return noise with a spectrum of about 1/f, H x W float32, of mean 0 and standard deviation 1.

    It is the sum of octaves of upsampled white noise.
    """
    total = np.zeros(size, np.float32)
    for octave in range(first, octaves):
        cells = (3 * 2**octave + 2, 4 * 2**octave + 2)
        field = rng.standard_normal(cells, dtype=np.float32)
        total += cv2.resize(field, size[::-1], interpolation=cv2.INTER_CUBIC) * 0.78**octave
    if first:
        total += 0.12 * rng.standard_normal(size, dtype=np.float32)
    return (total - total.mean()) / total.std()


def _rgb(codes):
    """Return hexadecimal sRGB colours as N x 3 float32 from 0 to 1."""
    return np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in codes.split()], np.float32) / 255
