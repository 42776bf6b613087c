"""The mutants of a source file: mutmut's operators, each applied once at each place.

mutmut's own runner is not used: it leaves out every decorated function, and with them every property and what runs
under `torch.no_grad`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        path: the file.
        function: the outermost function or method that it is in, as `Class.method`; '' outside all.
        line: where it begins, in the file as it is.
        reach: lines of which one must run for the change to matter: those of the function, or all.
        change: what is taken out and what is put there, as `old -> new` on one line.
        code: the whole file with the change.
    """

    path: Path
    function: str
    line: int
    reach: range
    change: str
    code: str

    @property
    def name(self) -> str:
        """What it is known by, whatever is added above it."""
        return f"{self.path.name} {self.function}: {self.change}"


class _Places(cst.CSTVisitor):
    """Collects what the operators make of each node that a change of behaviour can come from.

    Left out, as by mutmut: annotations, decorators, and calls of `len` and `isinstance`. Left out beside them: names of
    types at the top of the file, and the wording of errors (not their parts).
    """

    METADATA_DEPENDENCIES = (WhitespaceInclusivePositionProvider,)

    def __init__(self) -> None:
        self.found: list[tuple[CodeRange, cst.CSTNode, str, range]] = []
        self._scope: list[cst.ClassDef | cst.FunctionDef] = []
        self._raising = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom) or self._is_type(node):
            return False
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in {"len", "isinstance"}:
            return False
        self._enter(node, 1)
        for kind, operator in mutation_operators:
            if isinstance(node, kind) and not (self._raising and operator is operator_string):
                self.found += [(self._place(node), new, *self._function()) for new in operator(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        self._enter(original_node, -1)

    def _enter(self, node: cst.CSTNode, step: int) -> None:
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._scope = [*self._scope, node] if step > 0 else self._scope[:-1]
        self._raising += step * isinstance(node, cst.Raise)

    def _place(self, node: cst.CSTNode) -> CodeRange:
        place: CodeRange = self.get_metadata(WhitespaceInclusivePositionProvider, node)
        return place

    def _function(self) -> tuple[str, range]:
        """The outermost function around, with its class; and its lines."""
        for depth, node in enumerate(self._scope):
            if isinstance(node, cst.FunctionDef):
                place = self._place(node)
                name = ".".join(outer.name.value for outer in self._scope[: depth + 1])
                return name, range(place.start.line, place.end.line + 1)
        return ".".join(node.name.value for node in self._scope), range(10**9)

    def _is_type(self, node: cst.CSTNode) -> bool:
        """`Name = Kind[...]` outside classes and functions."""
        return isinstance(node, cst.Assign) and not self._scope and isinstance(node.value, cst.Subscript)


def mutants(path: Path) -> Iterator[Mutant]:
    """Every change of the file that is another program; two ways to make the same one count once."""
    source = path.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(source))
    places = _Places()
    wrapper.visit(places)
    lines = source.splitlines(keepends=True)
    seen = {ast.dump(ast.parse(source))}
    for place, new, function, reach in places.found:
        before = "".join(lines[: place.start.line - 1]) + lines[place.start.line - 1][: place.start.column]
        after = lines[place.end.line - 1][place.end.column :] + "".join(lines[place.end.line :])
        code = before + wrapper.module.code_for_node(new) + after
        try:
            program = ast.dump(ast.parse(code))
        except SyntaxError:
            continue
        if program not in seen:
            seen.add(program)
            yield Mutant(path, function, place.start.line, reach, _change(source, code), code)


def _change(before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    start = next((i for i, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), 0)
    return " -> ".join(" ".join(line.strip() for line in lines[start:]) for lines in (old, new))
