"""Source code as blocks: by function and class in Python, between blank lines in other languages."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence

from kernel.limits import HEADINGS_MAX
from llmos.documents.pieces import Block, paragraphs

Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def blocks(lines: Sequence[str], *, python: bool) -> list[Block]:
    """The blocks of a text; of Python that does not parse, as of another language."""
    if python:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse("\n".join(lines))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
        else:
            return list(_within(lines, tree.body, 1, len(lines), ()))
    return paragraphs(lines, code=True)


def _within(
    lines: Sequence[str], body: Sequence[ast.stmt], first: int, last: int, above: tuple[str, ...]
) -> Iterator[Block]:
    """What stands in lines `first` to `last`: each function, what is in each class, and what is between them."""
    at = first
    for node in body:
        if not isinstance(node, Named):
            continue
        begins = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        yield from paragraphs(lines[at - 1 : begins - 1], at, above, code=True)
        end, names = node.end_lineno or node.lineno, (*above, node.name)[-HEADINGS_MAX:]
        if isinstance(node, ast.ClassDef):
            yield from _within(lines, node.body, begins, end, names)
        else:
            yield Block(begins, end, names, code=True)
        at = end + 1
    yield from paragraphs(lines[at - 1 : last], at, above, code=True)
