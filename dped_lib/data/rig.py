"""Four simulated cameras on one rig (paper, section 2, Table 1): the embedded default data of the companion.

The dataset's download is gone, so this module photographs the pictures of ``scenes.py`` with models of the four
cameras. Each frame passes, in linear light, through a viewpoint (the scene is a plane, so a homography), a lens
(distortion, lateral colour, blur that grows to the corners, vignetting), a sensor (exposure, saturation, shot and read
noise), and a processor (colour matrix and white balance, tone curve, sharpening, JPEG). Geometry is known exactly.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dped_lib import paper
from dped_lib.base.config import one_of
from dped_lib.base.errors import DpedError
from dped_lib.alignment.geometry import Lens, apply, corners, points
from dped_lib.data.rig_scenes import Scene, find, radiance, scenes

if TYPE_CHECKING:
    from dped_lib.alignment.aligner import Alignment

__all__ = ["Frame", "Geometry", "Scene", "homography", "map_error", "map_points", "position", "scenes", "shoot"]

_DISTANCE = 1.6  # from the rig to the scene plane; like every length in the scene, in heights of the scene


@dataclass(frozen=True)
class _Camera:
    """Constants of one camera. Blurs and distortions are relative, so that they do not depend on ``scale``."""

    # where it sits
    yaw: float  # degrees; it stands aside so that it still looks at the middle of the scene
    pitch: float
    roll: float
    field: float  # height of the scene that it sees
    # lens
    k1: float  # radial distortion at the corner (radius 1)
    k2: float
    lateral: float  # lateral colour: magnification of red, minus that of blue, relative
    blur: float  # standard deviation in heights of the frame, at the centre
    corner_blur: float  # the same at the corner
    vignette: float  # light lost at the corner
    # sensor: a diffuse white gives ``photons`` in the whole frame
    photons: float
    read_noise: float  # standard deviation in photons, relative to shot noise of middle grey
    chroma_noise: float  # strength of the coarse colour blotches left by demosaicing and denoising
    saturation_level: float  # light at which the sensor clips; diffuse white of a normal exposure is 1
    # automatic mode
    key: float  # the light it wants the scene to have on average
    metering: float  # standard deviation of its exposure error, in stops
    balance_error: float  # standard deviation of its white balance, relative
    # processor
    balance: tuple[float, float, float]
    vividness: float  # 1 keeps the scene's colours, 0 is grey
    black: float  # output of a black scene
    contrast: float  # 0 is the sRGB curve; positive is an S, negative is flat
    halo: float  # strength of the unsharp mask
    halo_radius: float  # in heights of the frame
    jpeg_quality: int


CAMERAS: Mapping[str, _Camera] = MappingProxyType(
    {
        "iphone": _Camera(  # dark, soft, washed out, greenish yellow; clips early
            yaw=-2.6, pitch=0.9, roll=-0.7, field=0.95,
            k1=-0.009, k2=0.004, lateral=0.0014, blur=0.0018, corner_blur=0.0031, vignette=0.38,
            photons=1.0e9, read_noise=0.32, chroma_noise=0.8, saturation_level=0.75,
            key=0.108, metering=0.12, balance_error=0.025, balance=(0.96, 1.02, 0.88),
            vividness=0.72, black=0.025, contrast=-0.2, halo=0.3, halo_radius=0.004, jpeg_quality=86,
        ),
        "blackberry": _Camera(  # many small pixels: noisy, then oversharpened; bluish
            yaw=1.8, pitch=-0.8, roll=0.6, field=0.94,
            k1=0.012, k2=-0.004, lateral=0.0008, blur=0.0016, corner_blur=0.0028, vignette=0.30,
            photons=5e9, read_noise=0.4, chroma_noise=0.7, saturation_level=1.0,
            key=0.15, metering=0.13, balance_error=0.025, balance=(0.92, 0.99, 1.06),
            vividness=0.84, black=0.02, contrast=-0.05, halo=0.9, halo_radius=0.0022, jpeg_quality=88,
        ),
        "sony": _Camera(  # close to the DSLR, a little soft, pale and pink
            yaw=-1.2, pitch=-1.1, roll=0.4, field=0.93,
            k1=-0.006, k2=0.004, lateral=0.0006, blur=0.0013, corner_blur=0.0021, vignette=0.22,
            photons=1.2e10, read_noise=0.3, chroma_noise=0.6, saturation_level=1.15,
            key=0.165, metering=0.1, balance_error=0.02, balance=(1.04, 0.98, 0.97),
            vividness=0.95, black=0.012, contrast=0.05, halo=0.6, halo_radius=0.0018, jpeg_quality=92,
        ),
        "dslr": _Camera(
            yaw=0.4, pitch=0.3, roll=0.0, field=0.91,
            k1=0.002, k2=0.0, lateral=0.0, blur=0.0003, corner_blur=0.0005, vignette=0.08,
            photons=4e10, read_noise=0.2, chroma_noise=0.3, saturation_level=2.2,
            key=0.215, metering=0.05, balance_error=0.006, balance=(1.0, 1.0, 1.0),
            vividness=1.05, black=0.0, contrast=0.3, halo=0.35, halo_radius=0.0014, jpeg_quality=97,
        ),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Geometry:
    """Scene plane <-> pixels of one frame.

    ``homography`` (3 x 3) takes scene coordinates (origin in the middle, x to the right and y down, unit one height of
    the scene) to pixels of the undistorted frame; the centre of the first pixel is (0, 0). ``lens`` bends that frame.
    """

    homography: np.ndarray
    lens: Lens

    def to_frame(self, xy) -> np.ndarray:
        """Scene coordinates (N x 2) -> pixels of the frame (N x 2 float64)."""
        return self.lens.distort(apply(self.homography, points(xy)))

    def to_scene(self, xy) -> np.ndarray:
        """Pixels of the frame (N x 2) -> scene coordinates (N x 2 float64)."""
        return apply(np.linalg.inv(self.homography), self.lens.undistort(xy))


@dataclass(frozen=True)
class Frame:
    """One photograph: ``image`` is H x W x 3 uint8 RGB, exactly what decoding ``jpeg`` gives."""

    camera: str
    scene: str
    image: np.ndarray
    jpeg: bytes
    geometry: Geometry


def shoot(scene: str, seed: int = 0, scale: float = 0.3, cameras: Iterable[str] = tuple(CAMERAS)) -> dict[str, Frame]:
    """Photograph ``scene`` with the four cameras at once, or only with some of them (section 2, Figure 3).

    ``scale`` multiplies the sizes of Table 1; the scenes hold detail for about 0.35. ``seed`` is another attempt: the
    rig stands slightly differently, exposure, white balance and noise are drawn anew. The same arguments give the same
    bytes in every process and for any number of threads; another version of OpenCV differs in the last bits. Keys:
    iphone, blackberry, sony, dslr. Raises DpedError for an unknown scene or camera, a negative seed, or a scale
    outside (0, 1].
    """
    find(scene)
    if seed != int(seed) or seed < 0:
        raise DpedError(f"seed is {seed}, but must be a whole number, 0 or more")
    if not 0 < scale <= 1:
        raise DpedError(f"scale is {scale}, but must be above 0 and at most 1 (1 is the full size of Table 1)")
    return {camera: _photograph(scene, one_of("camera", camera, CAMERAS), seed, scale) for camera in cameras}


def map_points(a: Frame, b: Frame, xy) -> np.ndarray:
    """Pixels of ``a`` -> pixels of ``b`` showing the same points (N x 2), with both lenses. Raises DpedError if the
    frames show different scenes."""
    _same_scene(a, b)
    return b.geometry.to_frame(a.geometry.to_scene(xy))


def homography(a: Frame, b: Frame) -> np.ndarray:
    """The part of ``map_points`` that ideal lenses would leave: 3 x 3, with a 1 in the corner."""
    _same_scene(a, b)
    h = b.geometry.homography @ np.linalg.inv(a.geometry.homography)
    return h / h[2, 2]


def map_error(alignment: "Alignment", phone: Frame, dslr: Frame) -> np.ndarray:
    """How far an alignment of two frames errs, judged by their known geometry: at the four corners of the aligned image,
    in its pixels (4)."""
    at = alignment.to_dslr(corners(*alignment.report.size))
    away = alignment.map.to_phone(at) - map_points(dslr, phone, at)
    return np.linalg.norm(away, axis=1) / (alignment.step * alignment.map.scale_at(at.mean(0)))


def _photograph(scene, camera, seed, scale):
    spec, model = paper.CAMERAS[camera], CAMERAS[camera]
    rng = np.random.default_rng([zlib.crc32(scene.encode()), zlib.crc32(camera.encode()), int(seed)])
    height, width = round(spec.height * scale), round(spec.width * scale)
    geometry = _mount(model, height, width, rng)
    light = radiance(scene)
    # automatic mode: exposes for the average, but only two thirds of the way, so that dark scenes stay darker
    average = float(cv2.resize(light, (24, 18), interpolation=cv2.INTER_AREA).mean())
    exposure = model.key / 0.18 * (0.18 / average) ** 0.65 * 2 ** rng.normal(0, model.metering)
    balance = np.array(model.balance) * (1 + rng.normal(0, model.balance_error, 3))
    optical = _optics(light, geometry, model, height, width)
    image = _develop(optical, model, exposure, balance, rng)
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if model.jpeg_quality > 95 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, model.jpeg_quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    jpeg = cv2.imencode(".jpg", image[..., ::-1], options)[1]
    image = np.ascontiguousarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
    return Frame(camera, scene, image, jpeg.tobytes(), geometry)


def position(camera: str) -> np.ndarray:
    """Where a camera stands (x, y, z), in heights of the scene from its middle; z is negative, before the scene."""
    model = CAMERAS[one_of("camera", camera, CAMERAS)]
    return np.array([*-_ahead(_turn(model.yaw, model.pitch, model.roll))[:2], -_DISTANCE])


def _turn(yaw, pitch, roll):
    """Rotation (3 x 3) by degrees."""
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    return cv2.Rodrigues(np.array([0, 0, roll]))[0] @ cv2.Rodrigues(np.array([pitch, yaw, 0]))[0]


def _ahead(turn):
    """The axis of a camera turned like this, up to the scene's plane."""
    return turn[2] / turn[2, 2] * _DISTANCE


def _mount(model, height, width, rng):
    """A pinhole at ``_DISTANCE`` turned by yaw, pitch and roll and moved aside so that it sees the middle."""
    turn = _turn(*(np.array([model.yaw, model.pitch, model.roll]) + rng.normal(0, 0.15, 3)))
    ahead = _ahead(turn)
    aim = rng.normal(0, 0.004, 2)
    focal = height * _DISTANCE / model.field
    centre = ((width - 1) / 2, (height - 1) / 2)
    lens = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    plane = np.array([[1, 0, ahead[0] - aim[0]], [0, 1, ahead[1] - aim[1]], [0, 0, _DISTANCE]])
    h = lens @ turn @ plane
    optical_centre = (centre[0] + 0.006 * width, centre[1] - 0.008 * height)  # lenses sit a little off the sensor
    lens = Lens(optical_centre, float(np.hypot(width, height) / 2), model.k1, model.k2)
    return Geometry(h / h[2, 2], lens)


def _optics(light, geometry, model, height, width):
    """What falls on the sensor: H x W x 3 float32 linear light, from the scene's in one resampling."""
    rows, columns = light.shape[:2]
    aspect = columns / rows
    shrink = rows * model.field / height
    if shrink > 1.05:  # one pixel covers several of the scene
        rows, columns = round(rows / shrink), round(columns / shrink)
        light = cv2.resize(light, (columns, rows), interpolation=cv2.INTER_AREA)
    to_array = np.array([[columns / aspect, 0, (columns - 1) / 2], [0, rows, (rows - 1) / 2], [0, 0, 1]])
    back = (to_array @ np.linalg.inv(geometry.homography)).astype(np.float32)
    # Geometry.to_scene for every pixel, in float32 and with little memory
    lens = geometry.lens
    cx, cy = lens.centre
    qx = ((np.arange(width) - cx) / lens.radius).astype(np.float32)[None, :]
    qy = ((np.arange(height) - cy) / lens.radius).astype(np.float32)[:, None]
    r2 = qx * qx + qy * qy
    pull = lens.radius * (1 + r2 * (np.float32(lens.k1) + np.float32(lens.k2) * r2))
    ux, uy = pull * qx + np.float32(cx), pull * qy + np.float32(cy)
    w = 1 / (back[2, 0] * ux + back[2, 1] * uy + back[2, 2])
    mx = (back[0, 0] * ux + back[0, 1] * uy + back[0, 2]) * w
    my = (back[1, 0] * ux + back[1, 1] * uy + back[1, 2]) * w
    ox, oy = mx[height // 2, width // 2], my[height // 2, width // 2]
    planes = []
    for plane, side in zip(cv2.split(light), (-0.5, 0.0, 0.5), strict=True):  # red is magnified: it looks further in
        grow = np.float32(1 + side * model.lateral)
        maps = (mx - ox) * grow + ox, (my - oy) * grow + oy
        planes.append(cv2.remap(plane, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))
    image = cv2.merge(planes)
    sharp = cv2.GaussianBlur(image, (0, 0), model.blur * height)
    soft = cv2.GaussianBlur(image, (0, 0), model.corner_blur * height)
    soft -= sharp
    soft *= np.minimum(r2, 1)[..., None]
    sharp += soft
    sharp *= (1 - model.vignette * r2 * (1 - 0.25 * r2))[..., None]
    return np.maximum(sharp, 0, out=sharp)


def _develop(optical, model, exposure, balance, rng):
    """Sensor and processor: light on the sensor (H x W x 3 float32) -> uint8 RGB before JPEG."""
    height = optical.shape[0]
    light = optical * np.float32(exposure)
    light += _noise(light, model, rng)
    np.clip(light, 0, model.saturation_level, out=light)
    light /= np.float32(model.saturation_level)
    # white balance, then colours pulled towards (or away from) their luminance
    luminance = np.array([0.2126, 0.7152, 0.0722])
    matrix = model.vividness * np.eye(3) + (1 - model.vividness) * luminance[None, :]
    light = cv2.transform(light, (matrix @ np.diag(balance)).astype(np.float32))
    np.clip(light, 0, 1, out=light)
    image = _tone(model)[(np.sqrt(light, out=light) * 4095 + 0.5).astype(np.uint16)]
    if model.halo:
        soft = cv2.GaussianBlur(image, (0, 0), model.halo_radius * height)
        image = cv2.addWeighted(image, 1 + model.halo, soft, -model.halo, 0)
    return cv2.convertScaleAbs(np.clip(image, 0, 1, out=image), alpha=255)


def _noise(light, model, rng):
    """Signal-dependent noise, H x W x 3: fine grain common to the channels, and coarse blotches of colour.

    A pixel of diffuse white collects ``photons / (H W)``, so a frame of more pixels is noisier in each of them.
    """
    height, width = light.shape[:2]
    grain = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (3, 3), 0.45)
    coarse = rng.standard_normal((height // 3 + 1, width // 3 + 1, 3), dtype=np.float32)
    noise = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise *= np.float32(model.chroma_noise)
    noise += grain[..., None]
    white = model.photons / (height * width)
    read = (model.read_noise**2) * 0.18
    noise *= np.sqrt((np.maximum(light, 0) + np.float32(read)) / np.float32(white))
    return noise


def _tone(model):
    """Tone curve as a table over the square root of light (1 is saturation): 4096 float32, 0 to 1."""
    light = np.linspace(0, 1, 4096) ** 2 * model.saturation_level
    # above the knee, what exceeds white is rolled off smoothly; a sensor that clips early has nothing to roll off
    knee, top = 0.6, model.saturation_level
    over = np.maximum(light - knee, 0)
    room = max(top - knee, 1e-6)
    rolled = np.where(light > knee, knee + (1 - knee) * (1 - np.exp(-over / (1 - knee))), light)
    rolled /= knee + (1 - knee) * (1 - np.exp(-room / (1 - knee)))
    value = np.where(rolled <= 0.0031308, rolled * 12.92, 1.055 * np.maximum(rolled, 1e-9) ** (1 / 2.4) - 0.055)
    bend = value * value * (3 - 2 * value)
    value = value + model.contrast * (bend - value)
    return (model.black + (1 - model.black) * value).astype(np.float32)


def _same_scene(a, b):
    if a.scene != b.scene:
        raise DpedError(f"frames of different scenes: {a.scene} and {b.scene}; shoot one scene with both cameras")
