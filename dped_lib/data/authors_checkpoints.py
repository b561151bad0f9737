"""Read the authors' TensorFlow checkpoints without TensorFlow.

A checkpoint is a pair of files. ``NAME.index`` is a sorted-string table (the LevelDB format: prefix-compressed
blocks, each followed by its type and checksum) that maps variable names to a small protobuf: dtype, shape, offset,
size, checksum. ``NAME.data-00000-of-00001`` holds the bytes. Every checksum (CRC-32C) is verified.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import google_crc32c
import numpy as np
import torch
from torch import nn

from dped_lib import models
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of
from dped_lib.data import downloads

_MAGIC = 0xDB4775248B80FB57
_FLOAT32 = 1


@dataclass(frozen=True)
class AuthorsNetwork:
    """Describe a checkpoint that the authors published.

    Attributes:
        prefix: its files, as a key of ``downloads`` without the suffix.
        model: its network, as ``models.generator`` names it.
        what: a description for messages.
    """

    prefix: str
    model: str
    what: str


AUTHORS_NETWORKS = MappingProxyType(
    {
        **{
            phone: AuthorsNetwork(f"aiff22/DPED/models_orig/{phone}_orig", "dped", f"the authors' {phone} generator")
            for phone in ("iphone", "blackberry", "sony")
        },
        "srcnn": AuthorsNetwork(
            "aiff22/ai-challenge/models_pretrained/dped_srcnn", "srcnn", "SRCNN of PIRM 2018 (iPhone)"
        ),
        "resnet_8_32": AuthorsNetwork(
            "aiff22/ai-challenge/models_pretrained/dped_resnet_8_32",
            "resnet_8_32",
            "8-layer ResNet of PIRM 2018 (iPhone)",
        ),
    }
)


class _Damaged(Exception):
    """Hold the reason why a file cannot be read. ``read_checkpoint`` raises a DpedError that names the file."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _Damaged("a number runs past the end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _verify(data: bytes, masked: int, what: str) -> None:
    crc = google_crc32c.value(data)
    if ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF != masked:
        raise _Damaged(f"checksum of {what} does not match")


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each entry of one block."""
    body, trailer = table[offset : offset + size], table[offset + size : offset + size + 5]
    if len(body) != size or len(trailer) != 5 or size < 4:
        raise _Damaged("a block runs past the end")
    _verify(body + trailer[:1], struct.unpack("<I", trailer[1:])[0], "an index block")
    if trailer[0] != 0:
        raise _Damaged(f"block compression {trailer[0]} is not supported")
    restarts = struct.unpack("<I", body[-4:])[0]
    end = size - 4 * (restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = _varint(body, at)
        unshared, at = _varint(body, at)
        length, at = _varint(body, at)
        key = key[:shared] + body[at : at + unshared]
        at += unshared
        yield key, body[at : at + length]
        at += length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            value, at = _varint(message, at)
        elif tag & 7 == 2:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif tag & 7 == 5:
            if at + 4 > len(message):
                raise _Damaged("a field runs past the end")
            value, at = struct.unpack("<I", message[at : at + 4])[0], at + 4
        else:
            raise _Damaged(f"field type {tag & 7} is not expected")
        yield tag >> 3, value


def _tensor(name: str, entry: bytes, data: bytes) -> np.ndarray:
    dtype, shape, shard, offset, size, checksum = 0, [], 0, 0, 0, None
    for number, value in _fields(entry):
        match number:
            case 1:
                dtype = value
            case 2:
                for dim_number, dim in _fields(value):
                    if dim_number == 2:
                        shape.append(next((v for n, v in _fields(dim) if n == 1), 0))
            case 3:
                shard = value
            case 4:
                offset = value
            case 5:
                size = value
            case 6:
                checksum = value
    if dtype != _FLOAT32 or shard != 0:
        raise _Damaged(f"variable {name!r} has dtype {dtype} in shard {shard}; only float32 in one shard is expected")
    raw = data[offset : offset + size]
    if len(raw) != size or size != 4 * int(np.prod(shape)):
        raise _Damaged(
            f"variable {name!r} of shape {shape} needs {4 * int(np.prod(shape))} bytes at {offset}, {len(raw)} are there"
        )
    if checksum is None:
        raise _Damaged(f"variable {name!r} has no checksum")
    _verify(raw, checksum, f"variable {name!r}")
    return np.frombuffer(raw, "<f4").reshape(shape)


def read_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    """Return every variable of a TensorFlow checkpoint by name: float32, in TensorFlow's layout (kh, kw, in, out).

    Args:
        prefix: the path without ``.index`` and ``.data-00000-of-00001``.

    Raises:
        DpedError: a file is missing or damaged (the message says where), or is no such checkpoint.
    """
    index = prefix.with_name(prefix.name + ".index")
    shard = prefix.with_name(prefix.name + ".data-00000-of-00001")
    for file in (index, shard):
        if not file.is_file():
            raise DpedError(f"{file}: not found. A checkpoint is two files, {index.name} and {shard.name}.")
    table, data = index.read_bytes(), shard.read_bytes()
    try:
        if len(table) < 48 or struct.unpack("<Q", table[-8:])[0] != _MAGIC:
            raise _Damaged("it does not end as an index does (truncated, or another kind of file)")
        footer = table[-48:-8]
        at = 0
        handles = []
        for _ in range(4):  # offset and size of the meta-index block, then of the index block
            value, at = _varint(footer, at)
            handles.append(value)
        variables = {}
        for _, handle in _block(table, handles[2], handles[3]):
            offset, at = _varint(handle, 0)
            size, _ = _varint(handle, at)
            for key, entry in _block(table, offset, size):
                if key:  # the empty key holds the header
                    variables[key.decode()] = _tensor(key.decode(), entry, data)
    except (_Damaged, UnicodeDecodeError) as reason:
        raise DpedError(f"{prefix}: damaged checkpoint, {reason}. Fetch it again: dped fetch --weights all") from None
    return variables


def _conv(variables, weight: str, bias: str | None, target: str) -> dict[str, torch.Tensor]:
    state = {f"{target}.weight": torch.tensor(variables[weight].transpose(3, 2, 0, 1).copy())}
    if bias:
        state[f"{target}.bias"] = torch.tensor(variables[bias])
    return state


def state_dict(variables: dict[str, np.ndarray], model: str) -> dict[str, torch.Tensor]:
    """Convert the variables of a checkpoint to the state of ``models.generator(model)``.

    TensorFlow numbers the norms' variables by creation. ``Variable_2j`` (and ``Variable`` for j = 0) is the bias of
    norm j, ``Variable_{2j+1}`` its weight. Norm j follows convolution j + 2.
    """
    name = "generator/{}".format
    if model == "srcnn":
        return {
            **_conv(variables, name("w1"), name("b1"), "conv1"),
            **_conv(variables, name("w2"), name("b2"), "conv2"),
            **_conv(variables, name("w3"), None, "conv3"),
            "shared_bias": torch.tensor(variables[name("b3")]),
        }
    blocks = {"dped": 4, "resnet_8_32": 2}[model]
    targets = ["head", *(f"blocks.{b}.conv{c}" for b in range(blocks) for c in (1, 2)), "conv1", "conv2", "tail"]
    state: dict[str, torch.Tensor] = {}
    for k, target in enumerate(targets, start=1):
        state |= _conv(variables, name(f"W{k}"), name(f"b{k}"), target)
    for j in range(2 * blocks):
        norm = f"blocks.{j // 2}.norm{j % 2 + 1}"
        state[f"{norm}.bias"] = torch.tensor(variables[name(f"Variable_{2 * j}" if j else "Variable")])
        state[f"{norm}.weight"] = torch.tensor(variables[name(f"Variable_{2 * j + 1}")])
    return state


def load_network(name: str) -> nn.Module:
    """Return one of the authors' networks (``AUTHORS_NETWORKS``) with its weights, in evaluation mode on the CPU.

    Fetch it if needed.

    Raises:
        DpedError: unknown name, files that cannot be fetched, a damaged checkpoint, or one of another network.
    """
    known = AUTHORS_NETWORKS[one_of("authors' weights", name, AUTHORS_NETWORKS)]
    shards = [downloads.fetch(f"{known.prefix}{suffix}") for suffix in (".index", ".data-00000-of-00001")]
    prefix = shards[0].with_suffix("")
    model = models.generator(known.model)
    try:
        model.load_state_dict(state_dict(read_checkpoint(prefix), known.model))
    except (KeyError, RuntimeError) as error:
        raise DpedError(f"{prefix}: not the checkpoint of {known.what}: {error}") from error
    return model.eval()


def metadata_of(name: str) -> dict[str, str]:
    """Return the origin of one of the authors' networks, as metadata for a copy of it in another format."""
    known = AUTHORS_NETWORKS[one_of("authors' weights", name, AUTHORS_NETWORKS)]
    return {
        "model": known.model,
        "variant": "code",
        "origin": f"{known.prefix} @ {downloads.commit_of(known.prefix)}",
        "sha256": downloads.published_sha256(f"{known.prefix}.data-00000-of-00001"),
    }
