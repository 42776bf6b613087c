"""Weight files: what is inside decides how they are read, and nothing inside is ever executed."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from charpy.errors import ModelError, UnsafeFileError
from charpy_plugins.wrappers.pickle_scan import CONVERSION, refuse_all_but_tensors, scan

MAX_BYTES = 8 * 2**30
"""Largest weight file: two billion float32 parameters."""

MAX_HEADER = 100 * 2**20
"""Largest safetensors header, the cap of the format's own library."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_NESTED = ("state_dict", "model_state_dict", "model", "net", "weights")


class Weights(NamedTuple):
    """A state dict on the CPU and the SHA-256 of the file that it came from."""

    state: dict[str, torch.Tensor]
    sha256: str


def load_weights(path: Path) -> Weights:
    """The state dict in `path`: safetensors, or what `torch.save` writes, told apart by content.

    A dict around the state dict (`{"state_dict": ...}`) and data-parallel training's `module.` prefix are taken off.

    Raises:
        ModelError: no such file, or what is inside are no weights.
        UnsafeFileError: loading it would run code, or fill the memory; or it is damaged.
    """
    if not os.path.isfile(path):  # False, too, for what no file can be called
        raise ModelError("no such weight file", where=str(path), hint="the form is FILE@architecture")
    size, where = path.stat().st_size, str(path)
    if size > MAX_BYTES:
        raise UnsafeFileError(
            "the weight file is too large",
            where=where,
            found=size,
            expected=f"{MAX_BYTES} bytes",
            hint="save it in half precision",
        )
    # read once: what was checked is what is loaded
    data = path.read_bytes()
    if data[8:9] == b"{":
        state: object = _safetensors(data, where)
    elif data[:4] == b"PK\x03\x04":
        state = _torch_zip(data, where)
    elif data[:1] == b"\x80":
        state = _torch_legacy(data, where)
    else:
        raise UnsafeFileError(
            "not a weight file",
            where=where,
            found=f"{size} bytes that begin with {data[:8]!r}",
            expected="safetensors, or a state dict written by torch.save",
            hint=CONVERSION,
        )
    return Weights(_plain(state, where), hashlib.sha256(data).hexdigest())


def _safetensors(data: bytes, where: str) -> dict[str, torch.Tensor]:
    header = int.from_bytes(data[:8], "little")
    if header > min(MAX_HEADER, len(data) - 8):
        raise UnsafeFileError(
            "the safetensors header does not fit its file",
            where=where,
            found=f"a header of {header} bytes in a file of {len(data)}",
            expected=f"at most {min(MAX_HEADER, len(data) - 8)}",
            hint="fetch the file again from where it came, or write it again",
        )
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # the library refuses offsets that overlap, leave gaps, or do not fit shape and type
        return dict(load(data))
    except (SafetensorError, KeyError, ValueError) as cause:
        raise UnsafeFileError(
            "the safetensors file is damaged",
            where=where,
            found=cause,
            hint="fetch the file again from where it came, or write it again",
        ) from None


def _torch_zip(data: bytes, where: str) -> object:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            pickles = [name for name in names if name.endswith("/data.pkl")]
            if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
                raise UnsafeFileError(
                    "the file is a TorchScript program, not weights",
                    where=where,
                    expected="a state dict",
                    hint=CONVERSION,
                )
            _check_archive(archive, where)
            if len(pickles) != 1:
                raise ModelError(
                    "the zip file holds no weights",
                    where=where,
                    found=names[:5],
                    expected="one written by torch.save",
                    hint=CONVERSION,
                )
            refuse_all_but_tensors(scan(io.BytesIO(archive.read(pickles[0])), where).names, where)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as cause:
        raise UnsafeFileError(
            "the zip file is damaged",
            where=where,
            found=cause,
            hint="fetch the file again from where it came, or write it again",
        ) from None
    return _load(data, where)


def _check_archive(archive: zipfile.ZipFile, where: str) -> None:
    """torch stores its entries uncompressed and once: anything else is a bomb, or two files in one."""
    entries = archive.infolist()
    squeezed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    twice = len({entry.filename for entry in entries}) < len(entries)
    if squeezed or twice:
        raise UnsafeFileError(
            "the zip file was not written by torch.save",
            where=where,
            found=f"compressed entries: {squeezed[:3]}" if squeezed else "two entries with one name",
            expected="uncompressed entries with distinct names",
            hint="write it again with torch.save(state_dict, 'weights.pt')",
        )
    damaged = archive.testzip()
    if damaged is not None:
        raise UnsafeFileError(
            "the zip file is damaged",
            where=where,
            found=f"wrong checksum of {damaged}",
            hint="fetch the file again from where it came, or write it again",
        )


def _torch_legacy(data: bytes, where: str) -> object:
    """The format of torch before 1.6: a magic number and four more pickles in a row, then the raw storages."""
    stream = io.BytesIO(data)
    first = scan(stream, where)
    if first.names or first.numbers != (_LEGACY_MAGIC,):
        refuse_all_but_tensors(first.names, where)
        raise UnsafeFileError(
            "the file is a plain pickle",
            where=where,
            expected="safetensors, or a state dict written by torch.save",
            hint=CONVERSION,
        )
    for _ in range(4):
        refuse_all_but_tensors(scan(stream, where).names, where)
    return _load(data, where)


def _load(data: bytes, where: str) -> object:
    """torch's own restricted loader, as the second line behind the scan."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old formats warn about torch's own storage classes
            loaded: object = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as cause:
        text = str(cause).strip().splitlines()
        raise UnsafeFileError(
            "torch refuses to load the weights",
            where=where,
            found=f"{type(cause).__name__}: {text[0] if text else ''}"[:300],
            hint=CONVERSION,
        ) from cause
    return loaded


def _plain(loaded: object, where: str) -> dict[str, torch.Tensor]:
    """Dense tensors by name."""
    for key in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(key, str) for key in loaded):
        raise ModelError("the file holds no state dict", where=where, found=type(loaded).__name__, hint=CONVERSION)
    strange = {key: type(value).__name__ for key, value in loaded.items() if not isinstance(value, torch.Tensor)}
    if strange:
        raise ModelError(
            "the file holds more than tensors by name",
            where=where,
            found=", ".join(f"{key}: {kind}" for key, kind in list(strange.items())[:5]),
            expected="a state dict, bare or under one of " + ", ".join(_NESTED),
            hint=CONVERSION,
        )
    for key, tensor in loaded.items():
        _check_tensor(key, tensor, where)
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in loaded.values())
    if claimed > MAX_BYTES:
        raise UnsafeFileError(
            "the tensors claim more than a weight file may hold",
            where=where,
            found=f"{len(loaded)} tensors, {claimed} bytes in all, many over the same stored ones",
            expected=f"{MAX_BYTES} bytes",
            hint="save each tensor once, or as safetensors",
        )
    prefix = "module." if all(key.startswith("module.") for key in loaded) else ""
    return {key.removeprefix(prefix): tensor.detach() for key, tensor in loaded.items()}


def _check_tensor(name: str, tensor: torch.Tensor, where: str) -> None:
    """A tensor that claims more elements than are stored would fill the memory as soon as it is copied."""
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise ModelError(
            f"tensor {name!r} is not dense",
            where=where,
            found=tensor.layout,
            expected="a dense tensor",
            hint="save `tensor.to_dense()`",
        )
    claimed, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if claimed > stored:
        raise UnsafeFileError(
            f"tensor {name!r} claims more than the file holds",
            where=where,
            found=f"shape {tuple(tensor.shape)}, {claimed} bytes, over {stored} stored bytes",
            expected="every element stored",
            hint="save `tensor.contiguous()`, or as safetensors",
        )
