"""What a pickle would call, found by reading its opcodes; nothing of it is executed."""

from __future__ import annotations

import pickletools
import re
from typing import IO, NamedTuple

from charpy.errors import UnsafeFileError

_TENSOR_PARTS = frozenset(
    {
        "collections OrderedDict",
        "torch Size",
        "torch device",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch.nn.parameter Parameter",
        "torch.storage UntypedStorage",
        "torch.storage TypedStorage",
    }
)
_STORAGE = re.compile(r"torch \w+Storage")
_DTYPE = re.compile(r"torch (b?float\d+|float8_\w+|complex\d+|u?int\d+|bool|qu?int\d+)")
_MAX_OPCODES = 5_000_000
"""Opcodes of a state dict: about 30 a tensor."""


class Scan(NamedTuple):
    """One pickle: every `module name` that it would import, in order, and every whole number in it."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]


def scan(stream: IO[bytes], where: str) -> Scan:
    """Read one pickle from `stream`, up to and with its STOP opcode.

    Raises:
        UnsafeFileError: it is damaged, or it names what it imports in a way that cannot be read off.
    """
    names: list[str] = []
    numbers: list[int] = []
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > _MAX_OPCODES:
                raise UnsafeFileError(
                    "the pickle is too long",
                    where=where,
                    expected=f"{_MAX_OPCODES} opcodes",
                    hint="save it as safetensors",
                )
            if opcode.name in ("GLOBAL", "INST"):
                names.append(str(argument))
            elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
                raise UnsafeFileError(
                    f"the pickle imports through {opcode.name}, so what it would run cannot be read off",
                    where=where,
                    expected="names that stand in the file",
                    hint="save the state dict with torch.save's default protocol, or as safetensors",
                )
            elif isinstance(argument, int) and opcode.name.startswith(("BININT", "INT", "LONG")):
                numbers.append(argument)
    except (ValueError, IndexError, UnicodeError) as cause:
        raise UnsafeFileError(
            "the pickle is damaged",
            where=where,
            found=str(cause)[:200],
            hint="fetch the file again from where it came, or write it again",
        ) from None
    return Scan(tuple(names), tuple(numbers))


def refuse_all_but_tensors(names: tuple[str, ...], where: str) -> None:
    """Raise `UnsafeFileError` unless the names are those that a state dict of tensors needs."""
    strange = [name for name in dict.fromkeys(names) if not _is_tensor_part(name)]
    if not strange:
        return
    listed = ", ".join(name.replace(" ", ".") for name in strange[:5])
    if any(name.startswith("torch.nn.") or name.startswith("torch.jit") for name in strange):
        raise UnsafeFileError(
            "the file holds a whole module, which cannot be loaded without running code",
            where=where,
            found=listed,
            expected="a state dict",
            hint=CONVERSION,
        )
    raise UnsafeFileError(
        "loading the file would run code",
        where=where,
        found=f"it calls {listed}",
        expected="a state dict: tensors by name and nothing else",
        hint=f"if you trust where it comes from: {CONVERSION}",
    )


CONVERSION = (
    "load it where it was made and run `torch.save(model.state_dict(), 'weights.pt')`, "
    "then give weights.pt@package.module:architecture"
)


def _is_tensor_part(name: str) -> bool:
    return name in _TENSOR_PARTS or bool(_STORAGE.fullmatch(name)) or bool(_DTYPE.fullmatch(name))
