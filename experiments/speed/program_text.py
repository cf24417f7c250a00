"""Reads the text of a program that XLA has compiled: its operations, their FLOP and bytes, and where they come from."""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

PROJECT = "/qmix_jax/"
SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4}
FREE = {"parameter", "constant", "bitcast", "get-tuple-element", "tuple", "while", "call", "conditional", "after-all"}
"""Operations that compute nothing themselves."""
INSTRUCTION = re.compile(
    r"^ +(?P<root>ROOT )?%(?P<name>[\w.\-]+) = (?P<shape>\([^=]*\)|\S+) "
    r"(?P<opcode>[\w\-]+)\((?P<operands>[^)]*)\)(?P<rest>.*)$"
)


class Instruction(NamedTuple):
    """One line of a compiled program."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    @property
    def called(self) -> str:
        """The computation of a fusion."""
        found = re.search(r"calls=%([\w.\-]+)", self.rest)
        return found[1] if found else ""


Computation = dict[str, Instruction]


def numbers(shape: str) -> int:
    """How many numbers an array of this shape, like ``f32[96,64]{1,0}``, has."""
    return math.prod(int(size) for size in re.search(r"\[([\d,]*)\]", shape)[1].split(",") if size)  # pyright: ignore


def size_in_bytes(shape: str) -> int:
    """Of an array, or of a tuple of arrays."""
    arrays = re.findall(r"(\w+)(\[[\d,]*\])", shape)
    return sum(SIZES.get(kind, 8) * numbers(each) for kind, each in arrays)


def parsed(text: str) -> dict[str, Computation]:
    """The computations of a compiled program's text, by name."""
    found: dict[str, Computation] = {}
    current: Computation = {}
    for line in text.splitlines():
        head = re.match(r"^(?:ENTRY )?%([\w.\-]+) \(.*\{$", line)
        if head:
            current = found[head[1]] = {}
        elif match := INSTRUCTION.match(line):
            operands = tuple(re.findall(r"%([\w.\-]+)", match["operands"]))
            name = match["name"]
            current[name] = Instruction(
                name, match["opcode"], match["shape"], operands, match["rest"], bool(match["root"])
            )
    return found


def flop(instruction: Instruction, inside: Computation, all_of_them: dict[str, Computation]) -> float:
    """Operations on numbers of one call."""
    if instruction.opcode == "fusion":
        fused = all_of_them[instruction.called]
        return sum(flop(each, fused, all_of_them) for each in fused.values())
    if instruction.opcode == "dot":
        left = inside[instruction.operands[0]].shape
        sizes = [int(size) for size in re.search(r"\[([\d,]*)\]", left)[1].split(",")]  # pyright: ignore
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)[1]  # pyright: ignore
        return 2 * numbers(instruction.shape) * math.prod(sizes[int(axis)] for axis in axes.split(","))
    if instruction.opcode in FREE | {"copy", "slice", "dynamic-slice", "broadcast", "transpose", "concatenate", "iota"}:
        return 0
    if instruction.opcode == "dynamic-update-slice":
        return 0
    if instruction.opcode == "reduce":
        return numbers(inside[instruction.operands[0]].shape)
    return 0 if instruction.shape.startswith("(") else numbers(instruction.shape)


def moved(instruction: Instruction, inside: Computation, all_of_them: dict[str, Computation]) -> float:
    """Bytes that one call reads and writes."""
    if instruction.opcode != "fusion":
        fused = {name: inside[name] for name in instruction.operands if name in inside}
        return _slices({**fused, instruction.name: instruction._replace(is_root=True)}, list(fused))
    fused = all_of_them[instruction.called]
    return _slices(fused, [name for name, each in fused.items() if each.opcode == "parameter"])


def _slices(fused: Computation, read: list[str]) -> float:
    """What is read of these inputs, and written by the root: of large arrays only the slices in use."""
    total = 0.0
    for name in read:
        users = [each for each in fused.values() if name in each.operands]
        if users and all(_takes(each, "dynamic-slice", name) for each in users):
            total += sum(size_in_bytes(each.shape) for each in users)
        elif not (users and all(_takes(each, "dynamic-update-slice", name) for each in users)):
            total += size_in_bytes(fused[name].shape)
    root = next(each for each in fused.values() if each.is_root)
    while root.opcode == "bitcast":
        root = fused[root.operands[0]]
    is_change = root.opcode == "dynamic-update-slice"
    return total + size_in_bytes(fused[root.operands[1]].shape if is_change else root.shape)


def _takes(user: Instruction, opcode: str, name: str) -> bool:
    """Whether ``user`` takes a slice of this array, or puts one there."""
    return user.opcode == opcode and user.operands[0] == name


class Origins:
    """Which function of the project an operation comes from, by the tables at the head of a program's text."""

    def __init__(self, text: str) -> None:
        self._files = dict(_table(text, "FileNames", r'(\d+) "(.*)"'))
        self._functions = dict(_table(text, "FunctionNames", r'(\d+) "(.*)"'))
        places = _table(text, "FileLocations", r"(\d+) \{file_name_id=(\d+) function_name_id=(\d+) line=(\d+)")
        self._places = {number: rest for number, *rest in places}
        frames = _table(text, "StackFrames", r"(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?")
        self._frames = {number: rest for number, *rest in frames}

    def of(self, instruction: Instruction) -> str:
        """``function:line``, or nothing where the program does not say."""
        found = re.search(r"stack_frame_id=(\d+)", instruction.rest)
        frame = found[1] if found else "0"
        while frame in self._frames:
            place, parent = self._frames[frame]
            file, function, line = self._places[place]
            if PROJECT in self._files[file]:
                return f"{self._functions[function].replace('<locals>.', '')}:{line}"
            frame = str(int(parent or 1) - 1)
        return ""


def _table(text: str, name: str, pattern: str) -> Iterator[tuple[Any, ...]]:
    lines = iter(text.splitlines())
    for line in lines:
        if line == name:
            break
    for line in lines:
        match = re.match(pattern, line)
        if match is None:
            return
        yield match.groups()
