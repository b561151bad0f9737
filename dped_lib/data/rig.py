"""Simulate four cameras on one rig (paper, section 2, Table 1): the embedded default data of the companion.

The paper's dataset can no longer be downloaded, so this module photographs the scenes of ``rig_scenes`` with the
cameras of ``rig_cameras``. It places the cameras and knows their geometry exactly: a scene is a plane, so each camera
sees it through a homography and a lens.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dped_lib import paper
from dped_lib.alignment.geometry import Lens, apply_homography, as_points, corners
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of
from dped_lib.data.rig_cameras import CAMERA_MODELS, develop, expose
from dped_lib.data.rig_scenes import RigScene, find_scene, radiance, scenes

if TYPE_CHECKING:
    from dped_lib.alignment.aligner import Alignment

__all__ = [
    "CAMERA_MODELS",
    "Frame",
    "Geometry",
    "RigScene",
    "alignment_error",
    "camera_position",
    "homography",
    "map_points",
    "scenes",
    "shoot",
]

_DISTANCE = 1.6  # from the rig to the scene plane; all lengths in the scene are in heights of the scene


@dataclass(frozen=True)
class Geometry:
    """Map the scene plane to pixels of one frame, and back.

    Scene coordinates start at the scene's centre, x to the right and y down. Their unit is the scene's height.

    Attributes:
        homography: 3 x 3, from scene coordinates to pixels of the undistorted frame.
        lens: distorts that frame.
    """

    homography: np.ndarray
    lens: Lens

    def to_frame(self, xy) -> np.ndarray:
        """Map scene coordinates (N x 2) to pixels of the frame (N x 2 float64)."""
        return self.lens.distort(apply_homography(self.homography, as_points(xy)))

    def to_scene(self, xy) -> np.ndarray:
        """Map pixels of the frame (N x 2) to scene coordinates (N x 2 float64)."""
        return apply_homography(np.linalg.inv(self.homography), self.lens.undistort(xy))


@dataclass(frozen=True)
class Frame:
    """Hold one photograph of one camera.

    Attributes:
        camera, scene: their names.
        image: H x W x 3 uint8 RGB, exactly what decoding ``jpeg`` gives.
        jpeg: the bytes of the photograph's file.
        geometry: the true map between scene and frame.
    """

    camera: str
    scene: str
    image: np.ndarray
    jpeg: bytes
    geometry: Geometry


def shoot(
    scene: str, seed: int = 0, scale: float = 0.3, cameras: Iterable[str] = tuple(CAMERA_MODELS)
) -> dict[str, Frame]:
    """Photograph a scene with all four cameras at once, or with some of them (section 2, Figure 3).

    The same arguments give the same bytes in every process and for any number of threads. Another version of OpenCV may
    differ in the last bits.

    Args:
        scene: name of the scene, see ``scenes``.
        seed: number of the attempt. Another attempt moves the rig slightly; exposure, white balance and noise change.
        scale: factor of the frame sizes of Table 1, in (0, 1]. Above about 0.35 a frame shows no finer detail, because
            the scenes have none.
        cameras: ``iphone``, ``blackberry``, ``sony``, ``dslr``: the keys of the result.

    Raises:
        DpedError: the scene or a camera is unknown, the seed is negative, or the scale is out of range.
    """
    find_scene(scene)
    if seed != int(seed) or seed < 0:
        raise DpedError(f"seed is {seed}, but must be a whole number, 0 or more")
    if not 0 < scale <= 1:
        raise DpedError(f"scale is {scale}, but must be above 0 and at most 1 (1 is the full size of Table 1)")
    return {camera: _photograph(scene, one_of("camera", camera, CAMERA_MODELS), seed, scale) for camera in cameras}


def map_points(a: Frame, b: Frame, xy) -> np.ndarray:
    """Map pixels of frame ``a`` (N x 2) to the pixels of ``b`` that show the same points, through both lenses.

    Raises:
        DpedError: the frames show different scenes.
    """
    _same_scene(a, b)
    return b.geometry.to_frame(a.geometry.to_scene(xy))


def homography(a: Frame, b: Frame) -> np.ndarray:
    """Return the homography (3 x 3, last element 1) that ``map_points`` would be if both lenses were ideal.

    Raises:
        DpedError: the frames show different scenes.
    """
    _same_scene(a, b)
    h = b.geometry.homography @ np.linalg.inv(a.geometry.homography)
    return h / h[2, 2]


def alignment_error(alignment: "Alignment", phone: Frame, dslr: Frame) -> np.ndarray:
    """Return the error of an alignment of two frames at the four corners of its images, in their pixels (4).

    The known geometry of the frames is the truth.
    """
    dslr_xy = alignment.to_dslr(corners(*alignment.report.size))
    residuals = alignment.map.to_phone(dslr_xy) - map_points(dslr, phone, dslr_xy)
    return np.linalg.norm(residuals, axis=1) / (alignment.step * alignment.map.scale_at(dslr_xy.mean(0)))


def _photograph(scene, camera, seed, scale):
    """Return the frame of one camera: viewpoint, lens, sensor, processor, JPEG."""
    spec, model = paper.CAMERAS[camera], CAMERA_MODELS[camera]
    rng = np.random.default_rng([zlib.crc32(scene.encode()), zlib.crc32(camera.encode()), int(seed)])
    height, width = round(spec.height * scale), round(spec.width * scale)
    geometry = _mount(model, height, width, rng)
    light = radiance(scene)
    # The automatic mode corrects about two thirds of the difference from the key, so dark scenes stay darker.
    average = float(cv2.resize(light, (24, 18), interpolation=cv2.INTER_AREA).mean())
    exposure = model.key / 0.18 * (0.18 / average) ** 0.65 * 2 ** rng.normal(0, model.metering)
    balance = np.array(model.balance) * (1 + rng.normal(0, model.balance_error, 3))
    sensor_light = expose(light, geometry.homography, geometry.lens, model, height, width)
    image = develop(sensor_light, model, exposure, balance, rng)
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if model.jpeg_quality > 95 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, model.jpeg_quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    jpeg = cv2.imencode(".jpg", image[..., ::-1], options)[1]
    image = np.ascontiguousarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
    return Frame(camera, scene, image, jpeg.tobytes(), geometry)


def camera_position(camera: str) -> np.ndarray:
    """Return where a camera stands (x, y, z), in heights of the scene from its centre; z is negative in front of it.

    Raises:
        DpedError: the camera is unknown.
    """
    model = CAMERA_MODELS[one_of("camera", camera, CAMERA_MODELS)]
    return np.array([*-_view_axis(_rotation(model.yaw, model.pitch, model.roll))[:2], -_DISTANCE])


def _rotation(yaw, pitch, roll):
    """Return the rotation matrix (3 x 3) for angles in degrees."""
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    return cv2.Rodrigues(np.array([0, 0, roll]))[0] @ cv2.Rodrigues(np.array([pitch, yaw, 0]))[0]


def _view_axis(rotation):
    """Return the vector from a camera of this rotation along its optical axis to the scene plane."""
    return rotation[2] / rotation[2, 2] * _DISTANCE


def _mount(model, height, width, rng):
    """Return the geometry of a pinhole camera at ``_DISTANCE`` that looks at the scene's centre."""
    rotation = _rotation(*(np.array([model.yaw, model.pitch, model.roll]) + rng.normal(0, 0.15, 3)))
    axis = _view_axis(rotation)
    aim = rng.normal(0, 0.004, 2)
    focal = height * _DISTANCE / model.field
    centre = ((width - 1) / 2, (height - 1) / 2)
    intrinsics = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    plane = np.array([[1, 0, axis[0] - aim[0]], [0, 1, axis[1] - aim[1]], [0, 0, _DISTANCE]])
    h = intrinsics @ rotation @ plane
    # The lens is slightly off the sensor's centre.
    optical_centre = (centre[0] + 0.006 * width, centre[1] - 0.008 * height)
    lens = Lens(optical_centre, float(np.hypot(width, height) / 2), model.k1, model.k2)
    return Geometry(h / h[2, 2], lens)


def _same_scene(a, b):
    if a.scene != b.scene:
        raise DpedError(f"frames of different scenes: {a.scene} and {b.scene}; shoot one scene with both cameras")
