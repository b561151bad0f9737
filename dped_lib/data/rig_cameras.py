"""Model the four cameras of the simulated rig: the light on the sensor, and the photograph that each makes of it.

A lens distorts, has lateral colour, blurs more towards the corners, and darkens them. A sensor adds exposure,
saturation, shot and read noise. A processor applies the colour matrix and white balance, the tone curve and
sharpening. The constants rank the cameras as Table 1 of the paper does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from dped_lib.alignment.geometry import Lens
from dped_lib.data.color_profiles import encode_srgb


@dataclass(frozen=True)
class CameraModel:
    """Hold the constants of one camera. Blurs and distortions are relative, so they do not depend on ``scale``."""

    # pose
    yaw: float  # degrees; the camera is moved sideways so that it still looks at the centre of the scene
    pitch: float  # degrees
    roll: float  # degrees
    field: float  # visible height of the scene
    # lens
    k1: float  # radial distortion at the corner (radius 1), see ``geometry.Lens``
    k2: float
    lateral: float  # lateral colour: relative magnification of red minus that of blue
    blur: float  # standard deviation at the centre, in heights of the frame
    corner_blur: float  # standard deviation at the corner, in heights of the frame
    vignette: float  # fraction of the light that is lost at the corner
    # sensor
    photons: float  # that the whole frame collects from diffuse white
    read_noise: float  # standard deviation in photons, relative to the shot noise of middle gray
    chroma_noise: float  # strength of the coarse colour noise that demosaicing and denoising leave
    saturation_level: float  # light at which the sensor clips; diffuse white of a normal exposure is 1
    # automatic mode
    key: float  # mean light that the exposure aims at
    metering: float  # standard deviation of the exposure error, in stops
    balance_error: float  # relative standard deviation of the white balance
    # processor
    balance: tuple[float, float, float]  # gains of red, green and blue
    vividness: float  # 1 keeps the scene's colours, 0 removes them
    black: float  # output for a black scene
    contrast: float  # 0 is the sRGB curve, positive values make it an S, negative ones flatten it
    halo: float  # strength of the unsharp mask
    halo_radius: float  # in heights of the frame
    jpeg_quality: int


#: The model of each camera.
CAMERA_MODELS: Mapping[str, CameraModel] = MappingProxyType(
    {
        "iphone": CameraModel(  # dark, soft, pale, greenish yellow; clips early
            yaw=-2.6, pitch=0.9, roll=-0.7, field=0.95,
            k1=-0.009, k2=0.004, lateral=0.0014, blur=0.0018, corner_blur=0.0031, vignette=0.38,
            photons=1.0e9, read_noise=0.32, chroma_noise=0.8, saturation_level=0.75,
            key=0.108, metering=0.12, balance_error=0.025, balance=(0.96, 1.02, 0.88),
            vividness=0.72, black=0.025, contrast=-0.2, halo=0.3, halo_radius=0.004, jpeg_quality=86,
        ),
        "blackberry": CameraModel(  # many small pixels: noisy, then oversharpened; bluish
            yaw=1.8, pitch=-0.8, roll=0.6, field=0.94,
            k1=0.012, k2=-0.004, lateral=0.0008, blur=0.0016, corner_blur=0.0028, vignette=0.30,
            photons=5e9, read_noise=0.4, chroma_noise=0.7, saturation_level=1.0,
            key=0.15, metering=0.13, balance_error=0.025, balance=(0.92, 0.99, 1.06),
            vividness=0.84, black=0.02, contrast=-0.05, halo=0.9, halo_radius=0.0022, jpeg_quality=88,
        ),
        "sony": CameraModel(  # close to the DSLR, a little soft, pale and pink
            yaw=-1.2, pitch=-1.1, roll=0.4, field=0.93,
            k1=-0.006, k2=0.004, lateral=0.0006, blur=0.0013, corner_blur=0.0021, vignette=0.22,
            photons=1.2e10, read_noise=0.3, chroma_noise=0.6, saturation_level=1.15,
            key=0.165, metering=0.1, balance_error=0.02, balance=(1.04, 0.98, 0.97),
            vividness=0.95, black=0.012, contrast=0.05, halo=0.6, halo_radius=0.0018, jpeg_quality=92,
        ),
        "dslr": CameraModel(
            yaw=0.4, pitch=0.3, roll=0.0, field=0.91,
            k1=0.002, k2=0.0, lateral=0.0, blur=0.0003, corner_blur=0.0005, vignette=0.08,
            photons=4e10, read_noise=0.2, chroma_noise=0.3, saturation_level=2.2,
            key=0.215, metering=0.05, balance_error=0.006, balance=(1.0, 1.0, 1.0),
            vividness=1.05, black=0.0, contrast=0.3, halo=0.35, halo_radius=0.0014, jpeg_quality=97,
        ),
    }
)  # fmt: skip


def expose(
    light: np.ndarray, homography: np.ndarray, lens: Lens, model: CameraModel, height: int, width: int
) -> np.ndarray:
    """Return the light that falls on the sensor (H x W x 3 float32, linear): the viewpoint and the lens.

    The scene's ``light`` is resampled once. ``homography`` and ``lens`` are those of ``rig.Geometry``.
    """
    rows, columns = light.shape[:2]
    aspect = columns / rows
    shrink = rows * model.field / height
    if shrink > 1.05:  # a pixel of the frame covers several of the scene
        rows, columns = round(rows / shrink), round(columns / shrink)
        light = cv2.resize(light, (columns, rows), interpolation=cv2.INTER_AREA)
    to_array = np.array([[columns / aspect, 0, (columns - 1) / 2], [0, rows, (rows - 1) / 2], [0, 0, 1]])
    back = (to_array @ np.linalg.inv(homography)).astype(np.float32)
    # The next lines are rig.Geometry.to_scene for every pixel. They use float32 and little memory.
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
    # Red is magnified, so it reads closer to the centre.
    for plane, side in zip(cv2.split(light), (-0.5, 0.0, 0.5), strict=True):
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


def develop(
    sensor_light: np.ndarray, model: CameraModel, exposure: float, balance: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Turn the light on the sensor (H x W x 3 float32) into uint8 RGB before JPEG: the sensor and the processor."""
    height = sensor_light.shape[0]
    light = sensor_light * np.float32(exposure)
    light += sensor_noise(light, model, rng)
    np.clip(light, 0, model.saturation_level, out=light)
    light /= np.float32(model.saturation_level)
    # One matrix applies the white balance, then moves colours towards their luminance or away from it.
    luminance = np.array([0.2126, 0.7152, 0.0722])
    matrix = model.vividness * np.eye(3) + (1 - model.vividness) * luminance[None, :]
    light = cv2.transform(light, (matrix @ np.diag(balance)).astype(np.float32))
    np.clip(light, 0, 1, out=light)
    image = _tone(model)[(np.sqrt(light, out=light) * 4095 + 0.5).astype(np.uint16)]
    if model.halo:
        soft = cv2.GaussianBlur(image, (0, 0), model.halo_radius * height)
        image = cv2.addWeighted(image, 1 + model.halo, soft, -model.halo, 0)
    return cv2.convertScaleAbs(np.clip(image, 0, 1, out=image), alpha=255)


def sensor_noise(light: np.ndarray, model: CameraModel, rng: np.random.Generator) -> np.ndarray:
    """Return signal-dependent noise (H x W x 3): fine grain that all channels share, and coarse colour noise.

    A pixel of diffuse white collects ``photons / (H W)``, so each pixel is noisier in a frame of more pixels.
    """
    height, width = light.shape[:2]
    grain = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (3, 3), 0.45)
    coarse = rng.standard_normal((height // 3 + 1, width // 3 + 1, 3), dtype=np.float32)
    total = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    total *= np.float32(model.chroma_noise)
    total += grain[..., None]
    white = model.photons / (height * width)
    read = (model.read_noise**2) * 0.18
    total *= np.sqrt((np.maximum(light, 0) + np.float32(read)) / np.float32(white))
    return total


def _tone(model: CameraModel) -> np.ndarray:
    """Return the tone curve as a table over the square root of light (1 is saturation): 4096 float32 from 0 to 1."""
    light = np.linspace(0, 1, 4096) ** 2 * model.saturation_level
    # Above the knee, highlights are compressed smoothly. A sensor that clips early has none left to compress.
    knee, top = 0.6, model.saturation_level
    over = np.maximum(light - knee, 0)
    room = max(top - knee, 1e-6)
    rolled = np.where(light > knee, knee + (1 - knee) * (1 - np.exp(-over / (1 - knee))), light)
    rolled /= knee + (1 - knee) * (1 - np.exp(-room / (1 - knee)))
    value = encode_srgb(rolled)
    bend = value * value * (3 - 2 * value)
    value = value + model.contrast * (bend - value)
    return (model.black + (1 - model.black) * value).astype(np.float32)
