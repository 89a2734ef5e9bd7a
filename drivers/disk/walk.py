"""Is this data.mdb whole? A walk over the file's own structure, that needs no LMDB and so cannot be crashed by damage.

LMDB trusts its file: a flipped bit in it ends in a wrong answer, or in SIGSEGV inside the library. This reads the pages
of the newest snapshot as bytes, all of a level at once, and checks what LMDB relies on: both meta pages and their
order, every page of every tree reached exactly once and nowhere else free, sizes and offsets within pages, counts as
recorded, keys and separators in order; and with `deep` the checksum of every record (lmdb.py's `seal`). What passes can
be opened, and a deep walk leaves bytes that nothing reads.

Format: LMDB's data file, version 1, of a 64-bit little-endian machine, as named in its lmdb.h and mdb.c (0.9.36).
`python -m drivers.disk.walk FILE` prints one JSON object and exits 1 if the file is damaged: LmdbDisk runs it so, in a
process of its own.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, Final

import msgspec

from drivers.disk.seal import BYTES, LATER, PLAIN, SEALED, SEEDS

MAGIC: Final = 0xBEEFC0DE
VERSION: Final = 1
HEADER: Final = 16  # of a page: number u64, pad u16, flags u16, lower u16, upper u16 (or overflow pages u32)
META: Final = struct.Struct("<IIQQ")  # magic, version, address, map size; then two trees, last page, transaction
TREE: Final = struct.Struct("<IHHQQQQQ")  # pad, flags, depth, branch, leaf and overflow pages, entries, root
TAIL: Final = struct.Struct("<QQ")
BRANCH, LEAF, OVERFLOW = 0x01, 0x02, 0x04
BIG, SUB = 0x01, 0x02  # flags of a node: its value stands in overflow pages; it is a tree
NONE: Final = (1 << 64) - 1  # root of an empty tree
DEPTH_MAX: Final = 32


class Walked(msgspec.Struct):
    """What a walk saw. `damage`: in one line, or "" if the file is whole; `cut`: bytes it should have, if too short."""

    bytes: int
    pages: int = 0
    entries: dict[str, int] = {}
    checked: int = 0  # records whose checksum was compared
    format: str = ""
    damage: str = ""
    cut: int = 0
    foreign: bool = False  # it does not look like a file of llmos's at all


class Damaged(Exception):
    """The file is not what LMDB would have written."""


def walk(file: Path, *, deep: bool) -> Walked:
    """Examine `file`. Without `deep` its checksums are not compared; a file of format 1 has none."""
    found = Walked(bytes=file.stat().st_size)
    try:
        _Walk(file, found, deep).run()
    except Damaged as exc:
        found.damage = str(exc)
    except (ValueError, IndexError, struct.error, OverflowError) as exc:  # numbers that make no sense
        found.damage = f"its pages do not fit together ({exc})"
    return found


def walk_apart(file: Path, *, deep: bool) -> Walked:
    """`walk` in a process of its own, whatever becomes of that."""
    command = [sys.executable, "-P", "-m", "drivers.disk.walk", str(file), *(["--deep"] if deep else [])]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    try:
        return msgspec.json.decode(done.stdout, type=Walked)
    except msgspec.DecodeError:
        why = done.stderr.decode(errors="replace").strip().split("\n")[-1]
        return Walked(bytes=0, damage=f"the walk over it ended with status {done.returncode}: {why}")


class _Tree(msgspec.Struct):
    """A tree as recorded: of a meta page, or of a node in the main tree."""

    name: str
    pad: int
    flags: int
    depth: int
    branch: int
    leaf: int
    overflow: int
    entries: int
    root: int


class _Nodes(msgspec.Struct):
    """The nodes of one level, in order: where each stands in the file, and its header."""

    at: Any  # int64
    low: Any
    high: Any
    flags: Any
    ksize: Any
    first: Any  # of each page, the index of its first node


class _Walk:
    def __init__(self, file: Path, found: Walked, deep: bool) -> None:
        import numpy as np  # here: who only names this module does not pay for it

        self.np, self.found, self.deep = np, found, deep
        self.tables, self.plain, self.format = SEEDS, PLAIN, tuple(one.decode() for one in SEALED)
        if found.bytes < 2 * 4096:
            found.foreign = True
            raise Damaged(f"it has {found.bytes} bytes, too few for an LMDB file")
        self.raw = np.memmap(file, np.uint8, mode="r")
        self.buffer = memoryview(self.raw)  # type: ignore[arg-type]

    def run(self) -> None:
        np = self.np
        self.page = self._page_size()
        last, trees = self._newest_meta()
        self.found.pages = last + 1
        if self.found.bytes < (last + 1) * self.page:
            self.found.cut = (last + 1) * self.page
            raise Damaged(f"it is cut short: {self.found.bytes} bytes of {self.found.cut}")
        self.last = last
        whole = self.raw[: (last + 1) * self.page]
        self.u16 = whole.view(np.uint16)
        self.used = np.zeros(last + 1, np.uint8)
        self.used[:2] = 1
        free, main = trees
        if main.flags or free.flags != 0x08 or free.pad != self.page or main.pad:
            raise Damaged("a meta page has flags that no llmos set")
        self._free(free)
        names = self._tree(main, {0, SUB})
        named = self._named(names)
        for tree in named:
            nodes = self._tree(tree, {0, BIG})
            self.found.entries[tree.name] = tree.entries
            if nodes is None:
                continue
            if tree.name in self.plain:
                self._read_format(tree.name, nodes)
            if self.deep and self.found.format in self.format:
                self._checksums(tree.name, nodes)
        missing = set(self.tables) - LATER - {tree.name for tree in named}
        if missing and named and self.found.format in self.format:
            raise Damaged(f"table {min(missing)!r} is missing")
        if not self.used.all():
            raise Damaged(f"page {int(np.argmin(self.used))} is neither used nor free")

    # Meta pages.

    def _page_size(self) -> int:
        for size in (4096, 8192, 16384, 32768, 65536):
            if len(self.buffer) >= 2 * size:
                pad = TREE.unpack_from(self.buffer, HEADER + META.size)[0]
                if pad == size:
                    return size
        self.found.foreign = not any(
            MAGIC.to_bytes(4, "little") == self.buffer[at + HEADER : at + HEADER + 4] for at in (0, 4096)
        )
        raise Damaged("its first page is no meta page of LMDB's")

    def _newest_meta(self) -> tuple[int, tuple[_Tree, _Tree]]:
        metas = []
        for number in (0, 1):
            base = number * self.page
            pgno, _, flags = struct.unpack_from("<QHH", self.buffer, base)
            magic, version, address, _ = META.unpack_from(self.buffer, base + HEADER)
            if (pgno, flags, magic, version, address) != (number, 0x08, MAGIC, VERSION, 0):
                raise Damaged(f"meta page {number} is not LMDB's of version {VERSION}")
            at = base + HEADER + META.size
            trees = tuple(_Tree(n, *TREE.unpack_from(self.buffer, at + i * TREE.size)) for i, n in enumerate(("", "")))
            last, txn = TAIL.unpack_from(self.buffer, at + 2 * TREE.size)
            metas.append((txn, number, last, trees))
        (txn0, *_), (txn1, *_) = metas
        if (txn0, txn1) != (0, 0) and (abs(txn0 - txn1) != 1 or txn0 % 2 or not txn1 % 2):
            raise Damaged(f"its meta pages are of transactions {txn0} and {txn1}, which do not follow each other")
        newest = max(metas, key=lambda meta: meta[0])
        return newest[2], newest[3]  # type: ignore[return-value]

    # Trees.

    def _tree(self, tree: _Tree, allowed: set[int]) -> _Nodes | None:
        """The leaf nodes of a tree, all its pages checked and marked; None if it is empty."""
        np = self.np
        what = f"tree {tree.name!r}"
        if tree.root == NONE:
            if tree.depth or tree.entries or tree.branch or tree.leaf or tree.overflow:
                raise Damaged(f"{what} is empty and counts something")
            return None
        if not 1 <= tree.depth <= DEPTH_MAX:
            raise Damaged(f"{what} has depth {tree.depth}")
        level = np.array([tree.root], np.uint64)
        branches: list[_Nodes] = []
        inner = 0
        for depth in range(tree.depth, 0, -1):
            nodes = self._level(what, level, BRANCH if depth > 1 else LEAF)
            if depth == 1:
                break
            inner += len(level)
            branches.append(nodes)
            level = nodes.low | (nodes.high << np.uint64(16)) | (nodes.flags << np.uint64(32))
        if (inner, len(level), len(nodes.at)) != (tree.branch, tree.leaf, tree.entries):
            raise Damaged(
                f"{what} has {inner} branches, {len(level)} leaves and {len(nodes.at)} entries,"
                f" and counts {tree.branch}, {tree.leaf}, {tree.entries}"
            )
        strange = [flag for flag in np.unique(nodes.flags).tolist() if flag not in allowed]
        if strange:
            raise Damaged(f"{what} has a record with flags {strange[0]}")
        if self._overflow(what, nodes) != tree.overflow:
            raise Damaged(f"{what} does not have the {tree.overflow} overflow pages it counts")
        self._in_order(what, nodes, branches, integer=bool(tree.flags & 0x08))
        return nodes

    def _level(self, what: str, numbers: Any, kind: int) -> _Nodes:
        """The nodes of the pages `numbers`, which are all of `kind`."""
        np = self.np
        self._mark(what, numbers)
        half = numbers.astype(np.int64) * (self.page // 2)
        own = sum(self.u16[half + i].astype(np.uint64) << np.uint64(16 * i) for i in range(4))
        if (own != numbers).any() or (self.u16[half + 5] != kind).any():
            bad = int(numbers[((own != numbers) | (self.u16[half + 5] != kind)).argmax()])
            raise Damaged(f"{what}: page {bad} is not the page it should be")
        lower, upper = self.u16[half + 6].astype(np.int64), self.u16[half + 7].astype(np.int64)
        if ((lower % 2) | (lower <= HEADER) | (lower > upper) | (upper > self.page)).any():
            raise Damaged(f"{what}: a page has impossible bounds")
        count = (lower - HEADER) // 2
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        of = np.repeat(np.arange(len(numbers)), count)
        place = np.arange(int(count.sum())) - first[of]
        offset = self.u16[half[of] + HEADER // 2 + place].astype(np.int64)
        if ((offset % 2) | (offset < upper[of]) | (offset > self.page - 8)).any():
            raise Damaged(f"{what}: a node lies outside of its page")
        at = half[of] * 2 + offset
        low, high, flags, ksize = (self.u16[at // 2 + i].astype(np.uint64) for i in range(4))
        size = 8 + ksize.astype(np.int64)
        if kind == LEAF:
            value = (low | (high << np.uint64(16))).astype(np.int64)
            size += np.where(flags & np.uint64(BIG), 8, value)
        if (offset + size > self.page).any():
            raise Damaged(f"{what}: a node is larger than its page")
        room = np.zeros(len(numbers), np.int64)
        np.add.at(room, of, size + size % 2)
        if (room != self.page - upper).any():
            raise Damaged(f"{what}: the nodes of page {int(numbers[(room != self.page - upper).argmax()])} overlap")
        return _Nodes(at, low, high, flags, ksize.astype(np.int64), first)

    def _overflow(self, what: str, nodes: _Nodes) -> int:
        """How many overflow pages the values of these nodes take; they are checked and marked."""
        np = self.np
        big = np.flatnonzero(nodes.flags & np.uint64(BIG))
        total = 0
        for index in big.tolist():
            number, size = self._big(nodes, index)
            least = -(-(HEADER + size) // self.page)
            if number + least > self.last + 1 or number < 2:
                raise Damaged(f"{what}: overflow page {number} lies outside of the file")
            own, _, flags, pages = struct.unpack_from("<QHHI", self.buffer, number * self.page)
            # A shorter value may stand where a longer one stood in the same transaction, whose pages it keeps.
            if (own, flags) != (number, OVERFLOW) or not least <= pages <= self.last + 1 - number:
                raise Damaged(f"{what}: page {number} is not the overflow page it should be")
            self._mark(what, np.arange(number, number + pages, dtype=np.uint64))
            total += pages
        return total

    def _big(self, nodes: _Nodes, index: int) -> tuple[int, int]:
        at = int(nodes.at[index]) + 8 + int(nodes.ksize[index])
        return struct.unpack_from("<Q", self.buffer, at)[0], int(nodes.low[index]) | int(nodes.high[index]) << 16

    def _mark(self, what: str, numbers: Any) -> None:
        np = self.np
        if len(numbers) and (int(numbers.max()) > self.last or int(numbers.min()) < 2):
            raise Damaged(f"{what} leads out of the file, to page {int(numbers.max())} of {self.last + 1}")
        numbers = numbers.astype(np.int64)
        if self.used[numbers].any() or len(np.unique(numbers)) != len(numbers):
            raise Damaged(f"{what} has a page that is used elsewhere or free")
        self.used[numbers] = 1

    # Keys.

    def _in_order(self, what: str, leaves: _Nodes, branches: list[_Nodes], *, integer: bool) -> None:
        """Keys rise; each separator lies above all keys to its left, and not above those to its right."""
        np = self.np
        if not leaves.ksize.all():
            raise Damaged(f"{what}: a record has no key")
        words = max(1, -(-int(leaves.ksize.max()) // 8))
        keys = self._keys(leaves, words, integer)
        if len(leaves.at) > 1 and not self._less(_rows(keys, 0, -1), _rows(keys, 1, None)).all():
            raise Damaged(f"{what}: its keys are not in order")
        first = leaves.first  # of each page of a level, the first key under it
        for nodes in reversed(branches):
            children = np.arange(len(nodes.at))
            inner = np.ones(len(nodes.at), bool)
            inner[nodes.first] = False  # a page's first separator is never looked at
            at = children[inner]
            if len(at):
                if int(nodes.ksize[at].max()) > 8 * words:
                    raise Damaged(f"{what}: a separator is longer than every key")
                marks = self._keys(nodes, words, integer)
                marks = (marks[0][at], marks[1][at])
                left = (keys[0][first[at] - 1], keys[1][first[at] - 1])
                right = (keys[0][first[at]], keys[1][first[at]])
                if not self._less(left, marks).all() or self._less(right, marks).any():
                    raise Damaged(f"{what}: a separator does not separate")
            first = first[nodes.first]

    def _keys(self, nodes: _Nodes, words: int, integer: bool) -> tuple[Any, Any]:
        """Keys as big-endian words, padded with zeros, and their lengths: what memcmp compares."""
        np = self.np
        wide = np.zeros((len(nodes.at), 8 * words), np.uint8)
        for i in range(8 * words):
            has = nodes.ksize > i
            if not has.any():
                break
            column = 7 - i if integer else i
            wide[has, column] = self.raw[nodes.at[has] + 8 + i]
        return wide.view(">u8").astype(np.uint64), nodes.ksize

    def _less(self, a: tuple[Any, Any], b: tuple[Any, Any]) -> Any:
        np = self.np
        less = a[1] < b[1]
        for word in range(a[0].shape[1] - 1, -1, -1):
            x, y = a[0][:, word], b[0][:, word]
            less = np.where(x == y, less, x < y)
        return less

    # What stands in the nodes.

    def _value(self, nodes: _Nodes, index: int) -> memoryview:
        at = int(nodes.at[index]) + 8 + int(nodes.ksize[index])
        size = int(nodes.low[index]) | int(nodes.high[index]) << 16
        if int(nodes.flags[index]) & BIG:
            at = self._big(nodes, index)[0] * self.page + HEADER
        return self.buffer[at : at + size]

    def _key(self, nodes: _Nodes, index: int) -> bytes:
        at = int(nodes.at[index]) + 8
        return bytes(self.buffer[at : at + int(nodes.ksize[index])])

    def _free(self, tree: _Tree) -> None:
        """The list of free pages: each record counts its pages and names them, falling."""
        np = self.np
        nodes = self._tree(tree, {0, BIG})
        for index in range(len(nodes.at) if nodes is not None else 0):
            assert nodes is not None
            value = self._value(nodes, index)
            pages = np.frombuffer(value[: len(value) // 8 * 8], np.uint64)
            if nodes.ksize[index] != 8 or not len(pages) or pages[0] >= len(pages):
                raise Damaged("the list of free pages has a record of a wrong length")
            pages = pages[1 : 1 + int(pages[0])]
            if len(pages) > 1 and (pages[:-1] <= pages[1:]).any():
                raise Damaged("the list of free pages is not in order")
            self._mark("the list of free pages", pages)

    def _names(self, nodes: _Nodes | None) -> set[str]:
        return {self._key(nodes, i).decode(errors="replace") for i in range(len(nodes.at))} if nodes else set()

    def _named(self, nodes: _Nodes | None) -> list[_Tree]:
        trees = []
        for index in range(len(nodes.at) if nodes is not None else 0):
            assert nodes is not None
            name, value = self._key(nodes, index).decode(errors="replace"), self._value(nodes, index)
            tree = _Tree(name, *TREE.unpack(value)) if len(value) == TREE.size else None
            if tree is None or nodes.flags[index] != SUB or name not in self.tables or tree.flags or tree.pad:
                self.found.foreign = not self._names(nodes) & set(self.tables)
                raise Damaged(f"it has a table {name!r} that no llmos made")
            trees.append(tree)
        return sorted(trees, key=lambda tree: tree.name not in self.plain)  # the one with the format first

    def _read_format(self, name: str, nodes: _Nodes) -> None:
        for index in range(len(nodes.at)):
            if self._key(nodes, index) == self.plain[name]:
                self.found.format = bytes(self._value(nodes, index)).decode(errors="replace")

    def _checksums(self, name: str, nodes: _Nodes) -> None:
        seed, plain, buffer, crc32 = self.tables[name], self.plain.get(name), self.buffer, zlib.crc32
        sizes = (nodes.low | (nodes.high << self.np.uint64(16))).tolist()
        rows = zip(nodes.at.tolist(), nodes.ksize.tolist(), sizes, nodes.flags.tolist(), strict=True)
        for index, (at, ksize, size, flags) in enumerate(rows):
            if plain is not None and self._key(nodes, index) == plain:
                continue
            start = at + 8
            if flags & BIG:
                value = self._value(nodes, index)
                crc = crc32(value[:-BYTES], crc32(buffer[start : start + ksize], seed))
                end = value[-BYTES:]
            else:
                stop = start + ksize + size
                crc = crc32(buffer[start : stop - BYTES], seed)
                end = buffer[stop - BYTES : stop]
            if size < BYTES or crc.to_bytes(BYTES, "little") != end:
                raise Damaged(f"table {name}: the record of key {self._key(nodes, index).hex()} fails its checksum")
            self.found.checked += 1


def _rows(keys: tuple[Any, Any], start: int, stop: int | None) -> tuple[Any, Any]:
    return keys[0][start:stop], keys[1][start:stop]


if __name__ == "__main__":
    seen = walk(Path(sys.argv[1]), deep="--deep" in sys.argv)
    sys.stdout.buffer.write(msgspec.json.encode(seen) + b"\n")
    sys.exit(1 if seen.damage else 0)
