"""What tests make photographs of, and the command that enhances them."""

import struct
import zlib

import cv2
import numpy as np
from typer.testing import CliRunner

from dped_lib.app import cli


def pixels(height: int = 90, width: int = 120, dtype=np.uint8) -> np.ndarray:
    """A smooth picture of random colours."""
    smooth = cv2.resize(np.random.default_rng(0).random((6, 8, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    return (smooth.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def enhance(*arguments) -> tuple[int, str, str]:
    """`dped enhance` in this process, which ends without a traceback: status, standard output, standard error."""
    done = CliRunner().invoke(cli.app, ["enhance", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr
