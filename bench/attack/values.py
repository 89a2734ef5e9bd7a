"""Values made from types: such as a type admits, at its edges, and such as it must refuse, wrong in one place.

From msgspec's own description of a type, taken when `Shape` is made: a bound that is removed later is still missed.
Not here: bytes (mutate.py).
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from msgspec import inspect

EDGES: Final = tuple(
    sorted(
        {
            sign * (1 << bits) + off
            for bits in (7, 8, 15, 16, 31, 32, 53, 62, 63, 64)
            for off in (-1, 0, 1)
            for sign in (1, -1)
        }
        | {-1, 0, 1, 2, 3, 10, 1_000, 10**9, 10**18, 10**30, -(10**30), 1 << 200}
    )
)
FLOATS: Final = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-308, 1e308, -1e308, 5e-324, 2.0**53, 2.0**63, 2.0**64, 0.1)
TEXTS: Final = (
    *(
        "",
        " ",
        "x",
        "main",
        "0",
        "1",
        "-1",
        "²",
        "１２",
        "٣",
        "1e9",
        "NaN",
        "null",
        "true",
        "\0",
        "a\0b",
        "\n",
        "\r\n",
        "\t",
    ),
    *(
        "\x1b[2J\x1b[31mred",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\x85",
        "\u202egnp.exe",
        "\u2066x\u2069",
        "\u200b",
        "\ufeff",
    ),
    *(
        "\ufffe",
        "\U0010ffff",
        "é",
        "e\u0301",
        "Ω" * 40,
        "😀" * 20,
        "ﷺ" * 30,
        "%s%n%d",
        "{}",
        "{0.__class__}",
        "${HOME}",
    ),
    *("../../etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem", "~", "-", "--json", "'\"\\`", "<|im_end|>"),
    *('{"op":"yield"}', "[" * 200, "a" * 63, "a" * 64, "a" * 65, "a" * 255, "a" * 256, "a" * 257, "word " * 800),
)
HALVES: Final = ("\ud800", "a\udc80b", "\udfff\ud800")  # halves of surrogate pairs: no text at all
SIZES: Final = (0, 1, 3, 100, 70_000)  # of bytes
LONG: Final = ("a" * 70_000, "é" * 140_000, "word " * 60_000)
DEPTHS: Final = (50, 600, 1_200, 20_000, 300_000)
ITEMS_MAX: Final = 3  # of a container
TRIES: Final = 20  # to find a text that a pattern takes


class Deep(NamedTuple):
    """So many arrays, one in the other; only `raw` can write it."""

    depth: int


class Place(NamedTuple):
    """Where a value stands, and of what type it is there."""

    holder: Any
    key: Any
    type: inspect.Type


Hints = Mapping[str, Callable[[Random], Any]]
"""By a field's name: a value that the machine is likely to know. Taken in two of three cases."""


class Shape:
    """What there is to make of a type. `hints` help a value through to where something happens."""

    def __init__(self, type_: Any, hints: Hints | None = None, *, strict: bool = True) -> None:
        """`strict`: a text is no number, and wrong where one is wanted."""
        self.root = inspect.type_info(type_)
        self.hints, self.strict = dict(hints or {}), strict

    def good(self, draw: Random) -> Any:
        """A value that the type admits."""
        return self._made(draw)[0]

    def bad(self, draw: Random) -> tuple[Any, str]:
        """A value that the type does not admit, for what stands in one place; and which."""
        value, places = self._made(draw)
        top = {"": value}
        places = [Place(top, "", self.root), *places]
        while True:  # ends: the root itself can be spoilt
            place = draw.choice(places)
            wrong = self._wrong(draw, place)
            if wrong is not None:
                return top[""], wrong

    def _made(self, draw: Random) -> tuple[Any, list[Place]]:
        places: list[Place] = []
        return self._make(draw, self.root, places), places

    def _make(self, draw: Random, kind: inspect.Type, places: list[Place]) -> Any:
        match kind:
            case inspect.Metadata():
                return self._make(draw, kind.type, places)
            case inspect.UnionType():
                return self._make(draw, draw.choice(kind.types), places)
            case inspect.NoneType():
                return None
            case inspect.BoolType():
                return draw.random() < 0.5
            case inspect.IntType():
                return draw.choice([one for one in (*EDGES, *bounds(kind)) if admits(kind, one)])
            case inspect.FloatType():
                low, high = least(kind), most(kind)
                some = [one for one in (*FLOATS, low, high) if one is not None and admits(kind, one)]
                return float(draw.choice(some)) if some else float(low or 0)
            case inspect.StrType():
                return _text(draw, kind)
            case inspect.BytesType():
                return b64encode(draw.randbytes(min(draw.choice(SIZES), kind.max_length or SIZES[-1]))).decode()
            case inspect.LiteralType():
                return draw.choice(kind.values)
            case inspect.EnumType():
                return draw.choice([one.value for one in kind.cls])
            case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
                return self._items(draw, [kind.item_type] * _many(draw, kind), places)
            case inspect.TupleType():
                return self._items(draw, kind.item_types, places)
            case inspect.DictType():
                made: dict[str, Any] = {}
                for _ in range(_many(draw, kind)):
                    key = self._make(draw, kind.key_type, [])
                    places.append(Place(made, key, kind.value_type))
                    made[key] = self._make(draw, kind.value_type, places)
                return made
            case inspect.StructType():
                return self._struct(draw, kind, places)
            case _:
                return draw.choice([None, True, 7, "x", [], {}, [1, "a", None], {"a": {"b": [0.5]}}])

    def _items(self, draw: Random, types: Sequence[inspect.Type], places: list[Place]) -> list[Any]:
        items: list[Any] = [None] * len(types)
        for at, kind in enumerate(types):
            places.append(Place(items, at, kind))
            items[at] = self._make(draw, kind, places)
        return items

    def _struct(self, draw: Random, kind: inspect.StructType, places: list[Place]) -> dict[str, Any]:
        made: dict[str, Any] = {} if kind.tag is None else {str(kind.tag_field): kind.tag}
        for field in kind.fields:
            if not field.required and draw.random() < 0.4:
                continue
            places.append(Place(made, field.encode_name, field.type))
            hint = self.hints.get(field.name)
            if hint is not None and draw.random() < 0.67:
                made[field.encode_name] = hint(draw)
            else:
                made[field.encode_name] = self._make(draw, field.type, places)
        return made

    def _wrong(self, draw: Random, place: Place) -> str | None:
        """Put something at a place that may not stand there; what, or None if nothing was found."""
        found = place.holder[place.key]
        structs = [one for one in members(place.type) if isinstance(one, inspect.StructType)]
        if structs and isinstance(found, dict) and draw.random() < 0.4:
            return _misshapen(draw, structs, found)
        some = list(self._refused(place.type))
        if not some:
            return None
        value = draw.choice(some)
        place.holder[place.key] = value
        return f"{place.key or 'all of it'} = {str(value)[:40]!r}"

    def _refused(self, kind: inspect.Type) -> Iterator[Any]:
        """Values that are surely wrong for a type."""
        ones = list(members(kind))
        kinds = {name for one in ones for name in _json_kinds(one)}
        if "any" in kinds:
            return
        yield from (
            value for name, value in OTHERS if name not in kinds and (self.strict or name in ("array", "object"))
        )
        for one in ones:
            if isinstance(one, inspect.IntType | inspect.FloatType):
                if kinds & {"float"} and kinds & {"int"} and isinstance(one, inspect.IntType):
                    continue
                yield from (edge for edge in (*EDGES, *bounds(one)) if not admits(one, edge))
                yield from (float("nan"), float("inf"), float("-inf"))
            elif isinstance(one, inspect.StrType):
                yield from HALVES
                if one.max_length is not None:
                    yield from ("a" * (one.max_length + 1), "\0" * (one.max_length + 1))
                if one.min_length:
                    yield "a" * (one.min_length - 1)
                if one.pattern is not None:
                    yield from (text for text in TEXTS if re.search(one.pattern, text) is None)
        texts = {value for one in ones for value in literals(one)}
        if texts and not any(isinstance(one, inspect.StrType) for one in ones):
            yield from (text for text in TEXTS if text not in texts)


OTHERS: Final[tuple[tuple[str, Any], ...]] = (
    ("null", None),
    ("bool", True),
    ("int", 7),
    ("int", 0),
    ("float", 0.5),
    ("str", "7"),
    ("str", ""),
    ("array", []),
    ("array", [[7]]),
    ("object", {}),
    ("object", {"op": "send"}),
    *(("array", Deep(depth)) for depth in DEPTHS),
)


def members(kind: inspect.Type) -> Iterator[inspect.Type]:
    """What a type may be: itself, or each of a union, without what is said of them."""
    if isinstance(kind, inspect.Metadata):
        yield from members(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from members(one)
    else:
        yield kind


def literals(kind: inspect.Type) -> tuple[Any, ...]:
    """The values of which it is one, if it lists them."""
    if isinstance(kind, inspect.LiteralType):
        return kind.values
    return tuple(one.value for one in kind.cls) if isinstance(kind, inspect.EnumType) else ()


def _json_kinds(kind: inspect.Type) -> tuple[str, ...]:
    match kind:
        case inspect.NoneType():
            return ("null",)
        case inspect.BoolType():
            return ("bool",)
        case inspect.IntType():
            return ("int",)
        case inspect.FloatType():
            return ("float", "int")
        case inspect.StrType():
            return ("str",)
        case inspect.BytesType():
            return ("str",)
        case inspect.LiteralType() | inspect.EnumType():
            return tuple({"str" if isinstance(value, str) else "int" for value in literals(kind)})
        case (
            inspect.ListType()
            | inspect.VarTupleType()
            | inspect.TupleType()
            | inspect.SetType()
            | inspect.FrozenSetType()
        ):
            return ("array",)
        case inspect.DictType() | inspect.StructType():
            return ("object",)
        case _:
            return ("any",)


def _many(draw: Random, kind: Any) -> int:
    """How many items of a container."""
    return draw.randint(kind.min_length or 0, min(ITEMS_MAX, kind.max_length or ITEMS_MAX))


FITTING: Final = (
    "1s",
    "auto",
    "7",
    "+1s",
    "2026-10-25 08:00",
    "0a1b2c3d4e5f",
)  # what patterns take that take nothing else of ours


def _text(draw: Random, kind: inspect.StrType) -> str:
    """A text of the type; where a pattern takes none of ours, such as its own examples are made of."""
    for _ in range(TRIES):
        text = draw.choice(LONG) if draw.random() < 0.01 else draw.choice(TEXTS)
        if kind.max_length is not None:
            text = text[: kind.max_length]
        if len(text) >= (kind.min_length or 0) and (kind.pattern is None or re.search(kind.pattern, text)):
            return text
    if kind.pattern is None:
        return "a" * (kind.min_length or 0)
    return next(one for one in FITTING if re.search(kind.pattern, one))


def _misshapen(draw: Random, structs: Sequence[inspect.StructType], found: dict[str, Any]) -> str | None:
    """A struct with a field too few, one too many, or another tag."""
    own = next((one for one in structs if one.tag is None or found.get(str(one.tag_field)) == one.tag), None)
    if own is None:
        return None
    needed = [field.encode_name for field in own.fields if field.required and field.encode_name in found]
    choice = draw.random()
    if choice < 0.4 and needed:
        name = draw.choice(needed)
        del found[name]
        return f"no {name}"
    if choice < 0.7 and own.forbid_unknown_fields:
        found["surplus"] = 1
        return "a field too many"
    if own.tag is not None:
        found[str(own.tag_field)] = draw.choice(["", "nothing", 7, None, [], "HELLO"])
        return "another tag"
    return None


def least(kind: inspect.IntType | inspect.FloatType) -> float | None:
    """The type's lower bound, if it has one; what it admits may begin above it."""
    return kind.ge if kind.ge is not None else kind.gt


def most(kind: inspect.IntType | inspect.FloatType) -> float | None:
    """The type's upper bound, if it has one."""
    return kind.le if kind.le is not None else kind.lt


def bounds(kind: inspect.IntType | inspect.FloatType) -> tuple[int, ...]:
    """Whole numbers at the type's bounds and on both sides of them."""
    some = [bound for bound in (kind.ge, kind.gt, kind.le, kind.lt) if bound is not None]
    return tuple(int(bound) + off for bound in some for off in (-1, 0, 1))


def admits(kind: inspect.IntType | inspect.FloatType, value: float) -> bool:
    """Whether a number is within the type's bounds."""
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def unbounded(type_: Any) -> list[str]:
    """Where in a type numbers stand that have no bound on one side: "Send.id"."""
    found: dict[str, None] = {}
    seen: set[int] = set()

    def look(kind: inspect.Type, where: str) -> None:
        for one in members(kind):
            if isinstance(one, inspect.IntType | inspect.FloatType):
                if least(one) is None or most(one) is None:
                    found[where] = None
            elif isinstance(one, inspect.StructType):
                if id(one.cls) in seen:
                    continue
                seen.add(id(one.cls))
                for field in one.fields:
                    look(field.type, f"{one.cls.__name__}.{field.name}")
            elif isinstance(one, inspect.DictType):
                look(one.key_type, where)
                look(one.value_type, where)
            elif isinstance(one, inspect.TupleType):
                for item in one.item_types:
                    look(item, where)
            elif isinstance(one, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
                look(one.item_type, where)

    look(inspect.type_info(type_), getattr(type_, "__name__", "it"))
    return list(found)


def raw(value: Any, *, ascii_only: bool = True) -> bytes:
    """A value as JSON, whatever it is: NaN, halves of surrogate pairs, arrays too deep for any writer."""

    def plain(one: Any) -> Any:
        if isinstance(one, Deep):
            return f"@deep {one.depth}@"
        if isinstance(one, list):
            return [plain(item) for item in one]
        if isinstance(one, dict):
            return {key: plain(item) for key, item in one.items()}
        return one

    text = json.dumps(plain(value), ensure_ascii=ascii_only, separators=(",", ":"))
    text = re.sub(r'"@deep (\d+)@"', lambda found: "[" * int(found[1]) + "]" * int(found[1]), text)
    return text.encode("utf-8", "surrogatepass")
