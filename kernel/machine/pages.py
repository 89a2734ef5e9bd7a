"""Pages as a machine handles them: their texts and ids, from a cache or the disk, and what is made of them: a job for
the CPU, the answer to a `read`, the sizes of hits.

Ids are those the page was emitted or measured as; a page that the present model has never measured is measured when it
is first wanted, and its ids go to the disk with the next commit (`measured`).
"""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from kernel import records
from kernel.errors import KernelPanic
from kernel.event import (
    Brought,
    Fetch,
    Fetched,
    Hit,
    Keeping,
    Kept,
    Load,
    Loaded,
    LoadOf,
    Open,
    Opened,
    OpenOf,
    Run,
    Tool,
)
from kernel.limits import LINES_CACHED_MAX, PAGES_CACHED_BYTES_MAX
from kernel.machine import documents
from kernel.machine.cpus import Cpus
from kernel.machine.theirs import Theirs
from kernel.memory.measure import Visible
from kernel.memory.page import UNRANKED, Area, FilePage, Kind, Origin, Page, Placed, Role
from kernel.memory.prompt import labelled, line
from kernel.ports import Disk, Job, Record, Wish
from kernel.sampling import Sampling
from kernel.state import InstructionSet

READ_AS = {
    Kind.ARCHIVE: Kind.RESULT,
    Kind.FACT: Kind.RESULT,
    Kind.DELTA: Kind.RESULT,
}  # the kind of a page that `read` brings back

GRAMMARS_MAX = 512  # kept; masks and tools are few
PAGE_BYTES: Final = 480  # what a page takes that is kept, beside its texts and its ids


def _read_in(page: Page) -> Role:
    """In whose frame a page is read: its own notes in the kernel's, what a file or an import says never."""
    note = page.kind in (Kind.ARCHIVE, Kind.FACT) and page.origin is Origin.PROCESS
    return Role.SYSTEM if note else page.role


class Pages:
    """The pages of a machine. `sizes` and `sized` may be called from any thread, the rest by the machine alone."""

    def __init__(self, disk: Disk, cpus: Cpus, iset: InstructionSet, model_of: Callable[[int], str]) -> None:
        """`model_of`: by whose ids the pages of a process are seen."""
        self._disk, self._layouts, self._iset, self._model_of = disk, cpus.layouts, iset, model_of
        self.theirs = Theirs(disk, cpus, model_of)
        self._kept: OrderedDict[int, Visible] = OrderedDict()
        self._bytes = 0  # of all that are kept
        # By measure, page, span, and whether it is dated.
        self._lines: OrderedDict[tuple[str, int, int, int, bool], array[int]] = OrderedDict()
        self._measured: list[Record] = []
        self._grammars: dict[tuple[tuple[str, ...], str, tuple[Tool, ...], tuple[str, ...]], str | None] = {}

    def keep(self, page: Page, ids: Sequence[int]) -> None:
        """A committed page with its ids; those that were not placed for longest go."""
        if (before := self._kept.pop(page.id, None)) is not None:
            self._bytes -= _bytes(before)
        self._kept[page.id] = made = Visible(page, page.role, array("I", ids))
        self._bytes += _bytes(made)
        while self._bytes > PAGES_CACHED_BYTES_MAX and len(self._kept) > 1:
            self._bytes -= _bytes(self._kept.popitem(last=False)[1])

    def measured(self) -> list[Record]:
        """The ids measured since the last call, to be committed."""
        found, self._measured = self._measured, []
        return found

    def page(self, number: int) -> Page | None:
        """A page by number, from the disk."""
        return records.pages_of(self._disk, [number])[0]

    def searched(self, numbers: Sequence[int], model: str) -> list[str]:
        """The texts of pages in view of a process of that model, as searches see them."""
        return [visible.page.searched for visible in self._visible(numbers, model)]

    def origins(self, numbers: Sequence[int]) -> list[Origin | None]:
        """Whose each page is; None for one that is not there."""
        missing = [number for number in numbers if number not in self._kept]
        read = zip(missing, records.pages_of(self._disk, missing), strict=True)
        found = {number: page.origin for number, page in read if page is not None}
        return [self._kept[one].page.origin if one in self._kept else found.get(one) for one in numbers]

    def job(self, run: Run, wish: Wish | None = None) -> Job:
        """What a CPU is to do: the pages of a run with their ids, its prompt and its grammar. O(prompt).

        `wish`: of whom it answers.
        """
        visible = self._visible([placed.page for placed in run.pages], run.model)
        pages = tuple(self._placed(one, run.model, at) for one, at in zip(visible, run.pages, strict=True))
        wish = wish or Wish()
        name = (run.calls, run.encoding, run.tools, run.shared)
        if name not in self._grammars:
            if len(self._grammars) >= GRAMMARS_MAX:
                self._grammars.clear()
            self._grammars[name] = self._iset.grammar(run.calls, run.encoding, None, run.tools, run.shared)
        grammar = self._grammars[name]
        if wish.form is not None:
            grammar = self._iset.grammar(run.calls, run.encoding, wish.form, run.tools, run.shared)
        chosen = wish.sampling.chosen() if wish.sampling is not None else {}
        return Job(
            slot=run.slot,
            tag=run.tag,
            pages=pages,
            prompt=self._layouts[run.model].render(pages, thinks=run.thought is not None),
            ids=run.ids,
            grammar=grammar,
            quantum=run.quantum,
            reply=run.reply,
            window=run.window,
            apart=run.apart,
            sampling=msgspec.structs.replace(run.sampling or Sampling(), **chosen) if chosen else run.sampling,
            thought=run.thought,
            seed=wish.seed,
        )

    def _placed(self, visible: Visible, model: str, placed: Placed) -> Visible:
        """A page as it stands in a prompt."""
        start, end = placed.start, placed.end
        ids: Sequence[int]
        if placed.recalled:
            ids = self._line(visible.page, start, end, placed.dated, model)
        else:
            ids = self._layouts[model].labelled(visible.page, visible.ids)
            if visible.role is placed.role and ids is visible.ids:
                return visible
        return Visible(visible.page, placed.role, ids, placed.recalled, start, end, placed.dated)

    def load(self, what: Load) -> Loaded:
        """Those of the pages asked for that exist, belong to the process and can be read."""
        pages = [page for page in records.pages_of(self._disk, what.pages) if page is not None]
        if isinstance(what, LoadOf):
            theirs = [page for page in pages if page.pid == what.whose and page.area is Area.ARCHIVE]
            answer = Loaded(source="disk", pid=what.pid, req=what.req)
            return msgspec.structs.replace(answer, **self.theirs.answer(theirs, what.pid))
        mine = [page for page in pages if page.pid == what.pid and page.kind not in (*UNRANKED, Kind.CORE)]
        sizes, model = self.sizes([page.id for page in mine]), self._model_of(what.pid)
        return Loaded(
            source="disk",
            pid=what.pid,
            req=what.req,
            pages=tuple(
                (
                    page.id,
                    size + self._layouts[model].label_size(page),
                    _read_in(page),
                    READ_AS.get(page.kind, page.kind),
                )
                for page, size in zip(mine, sizes, strict=True)
            ),
        )

    def open_(self, what: Open) -> Opened:
        """What a document has at a place: one of the process's, or of another's."""
        answer, pages = documents.opened(self._disk, what)
        if isinstance(what, OpenOf):
            return msgspec.structs.replace(answer, **self.theirs.answer(pages, what.pid))
        sizes, model = self.sizes([page.id for page in pages]), self._model_of(what.pid)
        rows = tuple(
            (page.id, size + self._layouts[model].label_size(page), page.role, READ_AS[page.kind].value)
            for page, size in zip(pages, sizes, strict=True)
        )
        return msgspec.structs.replace(answer, pages=rows)

    def fetch(self, what: Fetch) -> Fetched:
        """Those of the pages asked for that exist and belong to the process whose pages they are to be."""
        found = records.pages_of(self._disk, what.pages)
        mine = [page for page in found if page is not None and page.pid == what.owner]
        sizes, model = self.sizes([page.id for page in mine]), self._model_of(what.owner)
        brought = [
            Brought(page.id, size + self._layouts[model].label_size(page), page.kind, page.origin, page.role, page.at)
            for page, size in zip(mine, sizes, strict=True)
        ]
        return Fetched(source="disk", pid=what.pid, req=what.req, pages=tuple(brought))

    def sizes(self, numbers: Sequence[int], models: Sequence[str] | None = None) -> list[int]:
        """Token counts of the texts of pages by the models that see them now, which who knows them may say; without
        label and frame.
        """
        if models is None:
            several = len(self._layouts) > 1
            pages = records.pages_of(self._disk, numbers) if several else [None] * len(numbers)
            models = [self._seen_by(page) for page in pages]
        keys = [records.ids_key(self._measure(model), n) for n, model in zip(numbers, models, strict=True)]
        found = []
        for number, model, ids in zip(numbers, models, self._disk.get_many("ids", keys), strict=True):
            if ids is None:
                page = self.page(number)
                found.append(len(self._ids(page, model)) if page is not None else 0)
            else:
                found.append(len(ids) // 4)
        return found

    def sized(self, hits: Sequence[Hit]) -> list[Hit]:
        """`hits` with the tokens of what they show, and of the whole page."""
        found = []
        numbers = [hit.page for hit in hits]
        pages = records.pages_of(self._disk, numbers)
        models = [self._seen_by(page) for page in pages]
        sizes = self.sizes(numbers, models)
        for hit, page, model, whole in zip(hits, pages, models, sizes, strict=True):
            tokens, dated = 0, hit.dated and not (isinstance(page, FilePage) and page.source)
            if page is not None:  # when a document was put is not when it was written
                tokens = len(self._line(page, hit.start, hit.end, dated, model))
                whole += self._layouts[model].label_size(page)
            found.append(msgspec.structs.replace(hit, tokens=tokens, whole=whole, dated=dated))
        return found

    def _line(self, page: Page, start: int, end: int, dated: bool, model: str) -> array[int]:
        """The ids of a page, or of a passage of it, as a line of the recall block."""
        key = (self._measure(model), page.id, start, end, dated)
        ids = self._lines.get(key)
        if ids is None:
            text = line(page.text[start:end] if end else page.text, page.at if dated else None)
            text = labelled(page, text)
            ids = self._ids_of(page, model) if text == page.text else array("I", self._layouts[model].tokenize(text))
            self._lines[key] = ids
            if len(self._lines) > LINES_CACHED_MAX:
                self._lines.popitem(last=False)
        return ids

    def _ids_of(self, page: Page, model: str) -> array[int]:
        """The ids of a whole page: as it was emitted or measured."""
        packed = self._disk.get("ids", records.ids_key(self._measure(model), page.id))
        return self._ids(page, model) if packed is None else records.unpack_ids(packed)

    def _measure(self, model: str) -> str:
        return self._layouts[model].costs.measure

    def _seen_by(self, page: Page | None) -> str:
        """The model of the process that a page belongs to."""
        return "" if page is None or not page.pid else self._model_of(page.pid)

    def _visible(self, numbers: Sequence[int], model: str) -> list[Visible]:
        found: dict[int, Visible] = {}
        for number in numbers:
            if number in self._kept:
                found[number] = self._kept[number]
                self._kept.move_to_end(number)
        wanted = [number for number in numbers if number not in found]
        if wanted:
            measure = self._measure(model)
            packed = self._disk.get_many("ids", [records.ids_key(measure, number) for number in wanted])
            for number, page, ids in zip(wanted, records.pages_of(self._disk, wanted), packed, strict=True):
                if page is None:
                    raise KernelPanic(f"page {number} is in a page table and not on disk")
                self.keep(page, self._ids(page, model) if ids is None else records.unpack_ids(ids))
                found[number] = self._kept[number]
        return [found[number] for number in numbers]

    def _ids(self, page: Page, model: str) -> array[int]:
        """The ids of a page that has none of its own by this measure: those of the page it shows, or measured now."""
        if page.of:
            packed = self._disk.get("ids", records.ids_key(self._measure(model), page.of))
            if packed is not None:
                return records.unpack_ids(packed)
        ids = array("I", self._layouts[model].tokenize(page.text))
        self._measured.append(Record("ids", records.ids_key(self._measure(model), page.id), records.pack_ids(ids)))
        return ids


def _bytes(kept: Visible) -> int:
    """What a page takes in memory, about."""
    return PAGE_BYTES + sys.getsizeof(kept.page.text) + sys.getsizeof(kept.page.gist) + 4 * len(kept.ids)


def kept(pages: Pages, pid: int, page: int, how: Keeping) -> Kept:
    """What says whether a page of a process is in view."""
    rows = pages.load(Load(pid=pid, req=0, pages=(page,))).pages if how is Keeping.BRING else ()
    return Kept(source="user", pid=pid, page=page, how=how, rows=rows)
