"""Weights of an ONNX model that lie in files of their own: read here, so that ONNX Runtime opens none.

A model may name any file for them, anywhere and through links. Only a plain file beside it is taken.
"""

from __future__ import annotations

import os
import stat
from math import prod
from pathlib import Path, PurePosixPath

import onnx

from charpy.errors import ModelError, UnsafeFileError


def item_size(data_type: int) -> int:
    """Bytes of one value of this ONNX type, at least 1."""
    try:
        return max(1, int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize))
    except (KeyError, TypeError, ValueError):
        return 1


def take_in(tensor: onnx.TensorProto, folder: Path, files: dict[str, bytes], largest: int, where: str) -> int:
    """Put the tensor's bytes from the file that it names into the tensor; how many they are.

    Args:
        folder: where the model lies, and its weights must.
        files: name -> content of those that were read before; one that is read now joins them.
        largest: bytes of a file.

    Raises:
        ModelError: no such file.
        UnsafeFileError: it lies elsewhere, is reached through a link, is too large, or does not hold the tensor.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if location not in files:
        files[location] = _read_beside(folder, location, tensor.name, largest, where)
    content = files[location]
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or len(content) - offset)
    except ValueError:
        offset, length = -1, -1
    needed = prod(tensor.dims) * item_size(tensor.data_type)
    if offset < 0 or length < 0 or offset + length > len(content) or length > needed:
        raise UnsafeFileError(
            f"tensor {tensor.name!r} does not fit the file that it names",
            where=where,
            found=f"offset {entries.get('offset')!r}, length {entries.get('length')!r} in {location!r} "
            f"of {len(content)} bytes, for shape {list(tensor.dims)}",
            expected=f"{needed} bytes",
            hint="export the model again, and keep its weight files as they were written",
        )
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
    tensor.raw_data = content[offset : offset + length]
    return length


def _read_beside(folder: Path, location: str, name: str, largest: int, where: str) -> bytes:
    """The file at `location`, which must lie in `folder`, be reached without links and have no other name."""
    parts = PurePosixPath(location).parts
    reason = ""
    if not location or "\\" in location or ":" in location or "*" in location or "\0" in location:
        # `*` begins ONNX Runtime's marker for "this offset is an address in memory"
        reason = "is no plain relative path"
    elif location.startswith("/") or ".." in parts:
        reason = "lies outside the model's folder"
    else:
        step = folder
        for part in parts:
            step = step / part
            if step.is_symlink():
                reason = "is reached through a symbolic link"
    if reason:
        raise _refused_location(reason, location, name, where)
    try:
        # non-blocking: opening a named pipe would otherwise wait for a writer for ever
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(folder / location, flags)
    except OSError as cause:
        raise ModelError(
            "a file of weights is missing",
            where=where,
            found=f"{location!r} of tensor {name!r}: {cause.strerror}",
            hint="keep the .onnx file and its weight files in one folder",
        ) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _refused_location("is no regular file", location, name, where)
    with os.fdopen(descriptor, "rb") as file:
        if status.st_nlink > 1:
            raise _refused_location("has another name somewhere (a hard link)", location, name, where)
        if status.st_size > largest:
            raise _refused_location("is too large", location, name, where)
        return file.read()


def _refused_location(reason: str, location: str, name: str, where: str) -> UnsafeFileError:
    return UnsafeFileError(
        f"the weights of tensor {name!r} are in a file that {reason}",
        where=where,
        found=repr(location),
        expected="a plain file beside the model, in its folder",
        hint="onnx.save(model, path, save_as_external_data=False) puts the weights into the model",
    )
