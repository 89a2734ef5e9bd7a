"""How much of the journal is kept: checkpoints taken, and the journal before them cut, a bounded piece at a time.

By themselves: when the journal has half of what `disk.journal_bytes` or `disk.journal_days` allow, a checkpoint is
taken, which stands beside the one from which replay starts; when it has all of it, the newer one takes the older one's
place and the journal before it goes. So replay, audit and log always have half of it, and the file's pages are used
again. Nothing goes but journal entries, and copies of what is in the tables. And on request, at once.
The caller's duty: `due`, and where it says so a Checkpointed step and `begin`, before anything else is stepped;
`piece`, its commit, and `committed`, while it is `busy`; and what `saved` says with every commit.
Not here: what a checkpoint is (kernel/checkpoint.py), the loop (loop.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from kernel import checkpoint, failpoint, formats
from kernel.limits import DAY_NS
from kernel.ports import Disk, Record
from kernel.records import encode
from kernel.settings import Settings
from kernel.state import Kernel

BYTES_MIN: Final = 16_384  # a limit below it counts as this: a few pages of the file


class Keeper:
    """The keeper of a machine's journal."""

    def __init__(self, kernel: Kernel, disk: Disk, settings: Settings, clock: Callable[[], int]) -> None:
        self._kernel, self._disk, self._clock = kernel, disk, clock
        self._bytes = max(settings.disk.journal_bytes, BYTES_MIN) if settings.disk.journal_bytes else 0
        self._ns = settings.disk.journal_days * DAY_NS
        self._next = checkpoint.base(disk, checkpoint.NEXT)
        self._oldest: int | None = None  # when the first entry of the journal was made
        self._copy: checkpoint.Copy | None = None
        self._asked = False  # the copy under way is to be the one from which replay starts at once
        self._cutting = True  # there may be something to delete: the last life may have begun it
        self._doing = ""  # what the piece is that is being committed

    @property
    def busy(self) -> bool:
        """Whether there is a piece of work to do."""
        return self._copy is not None or self._cutting or (self._next is not None and self._share() >= 1)

    @property
    def copying(self) -> bool:
        """Whether a checkpoint is being taken."""
        return self._copy is not None

    def due(self) -> bool:
        """Whether a checkpoint is to be taken now."""
        return self._copy is None and not self._cutting and self._next is None and self._share() >= 0.5

    def begin(self, asked: bool) -> None:
        """The Checkpointed step is committed, and none after it. `asked`: somebody wants it to take effect at once."""
        failpoint.passing("compact.before")
        self._copy, self._asked = checkpoint.Copy(self._disk, self._kernel), asked

    def saved(self, written: Sequence[Record]) -> Sequence[Record]:
        """What to commit with `written`, before it."""
        return self._copy.saved(written) if self._copy is not None else ()

    def piece(self) -> list[Record]:
        """What to commit next; may be nothing."""
        if self._copy is None and self._cutting:
            self._doing = "cut"
            return checkpoint.cut(self._disk)
        if self._copy is None:
            assert self._next is not None, "or it is not busy"
            self._doing = "turn"
            return checkpoint.place(self._next)
        rows = self._copy.piece()
        self._doing = "copy" if rows else "after" if self._asked else "next"
        if rows:
            return rows
        head = self._copy.head
        return checkpoint.place(head) if self._asked else [Record("base", checkpoint.NEXT, encode(head))]

    def committed(self, written: Sequence[Record]) -> bool:
        """The piece is committed. Whether a checkpoint that was asked for has been taken with it."""
        match self._doing:
            case "copy":
                failpoint.passing("compact.copy")
            case "next":
                assert self._copy is not None, "it was copied"
                self._next, self._copy = self._copy.head, None
                failpoint.passing("compact.next")
            case "after":
                self._next = self._copy = None
                self._cutting = True
                failpoint.passing("compact.after")
                return True
            case "turn":
                self._next, self._cutting = None, True
                failpoint.passing("compact.turn")
            case _:
                self._cutting = bool(written)
                self._oldest = None
                if written:
                    failpoint.passing("compact.cut")
        return False

    def _share(self) -> float:
        """How much of what is allowed the journal has, in size or in age."""
        size = self._disk.size("journal") / self._bytes if self._bytes else 0.0
        if not self._ns:
            return size
        if self._oldest is None:
            first = self._disk.scan("journal", limit=1)
            self._oldest = formats.entry(first[0][1]).event.at if first else None
        return max(size, (self._clock() - self._oldest) / self._ns) if self._oldest is not None else size
