"""Where a new syscall or policy goes: as few files as CONTRIBUTING.md says, and nothing that lists them beside."""

import ast
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

import pytest

from drivers.cpu.scripted import echo
from kernel import scheduler
from kernel.discover import discover
from kernel.errors import KernelPanic
from kernel.memory import policy
from kernel.process import Process
from kernel.state import Kernel
from syscalls import abi, table
from syscalls.abi import Syscall
from tests.fakes import Rig

ROOT: Final = Path(__file__).parents[2]
MEMORY = '''
from typing import Final

from kernel.memory.policy.contract import Described
from kernel.memory.policy.fifo import Fifo


class Newest(Fifo):
    """Last in, first out."""

    def evict(self, tokens, pinned):
        self.order = type(self.order)(reversed(self.order.items()))
        victims = super().evict(tokens, pinned)
        self.order = type(self.order)(reversed(self.order.items()))
        return victims


POLICY: Final = Described(Newest, "The page that came last goes.", "nobody", "O(held)")
'''
SCHEDULER = '''
from typing import Final

from kernel.scheduler.contract import Maker
from kernel.scheduler.rr import RoundRobin


class Youngest(RoundRobin):
    """The highest number first."""

    def take(self):
        pid = max(self.ready, default=None)
        self.ready.pop(pid, None)
        return pid


SCHEDULER: Final[Maker] = Youngest
'''


def identifiers(path: Path) -> set[str]:
    """Names that a file uses or imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Constant(value=str(name)):  # an annotation may be a string
                found.add(name)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[types.ModuleType, str, str], None]:
    """Puts a file into a package of the kernel's, as long as the test lasts."""

    def put(package: types.ModuleType, name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        module = f"{package.__name__}.{name}"
        monkeypatch.setitem(sys.modules, module, package)  # so that what is imported now is forgotten afterwards
        monkeypatch.delitem(sys.modules, module)

    return put


def test_a_replacement_policy_is_one_file(
    folder: Callable[[types.ModuleType, str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(policy, "newest", MEMORY)
    found = discover("kernel.memory.policy", "POLICY")
    assert found.keys() - policy.POLICIES.keys() == {"newest"}
    monkeypatch.setitem(policy.POLICIES, "newest", found["newest"])
    rig = Rig(echo, "window=2048", "cpu.reply=100", "memory.policy=newest")
    pid = rig.spawn()
    first = rig.page(rig.kernel.counters.page).id + 1
    for n in range(200):
        rig.say(pid, f"message {n} of which nothing else is to be said", f"m{n}")
    space = rig.proc(pid).space
    assert rig.proc(pid).accounts.evictions > 0
    assert first in {entry.page for entry in space.queue}, "the oldest message has stayed"


def test_a_scheduling_policy_is_one_file(
    folder: Callable[[types.ModuleType, str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(scheduler, "youngest", SCHEDULER)
    found = discover("kernel.scheduler", "SCHEDULER")
    assert found.keys() - scheduler.SCHEDULERS.keys() == {"youngest"}
    monkeypatch.setitem(scheduler.SCHEDULERS, "youngest", found["youngest"])
    rig = Rig(echo, "sched.policy=youngest")
    pids = [rig.spawn(name) for name in "abc"]
    for pid in pids:
        rig.say(pid, "hello", f"m{pid}", pump=False)
    rig.pump()
    assert [message.pid for message in rig.messages] == [1, 3, 2], "the first had the slot already"


def test_no_list_names_a_policy() -> None:
    for package, names in ((policy, policy.POLICIES), (scheduler, scheduler.SCHEDULERS)):
        inside = ROOT / Path(*package.__name__.split("."))
        for path in (inside / "__init__.py", inside / "contract.py", ROOT / "kernel" / "settings.py"):
            defaults = {"fifo", "rr"} if path.name == "settings.py" else set()
            assert identifiers(path) & names.keys() <= defaults, path


class Shout(Syscall, frozen=True):
    """Say it in capitals."""

    example: ClassVar[str] = '{"op":"shout","text":"Hello."}'
    text: str


def sys_shout(kernel: Kernel, proc: Process, call: Shout) -> None:
    """A handler."""


def test_a_handler_is_found_by_the_syscall_that_it_takes() -> None:
    family = types.ModuleType("family")
    vars(family)["sys_shout"] = sys_shout
    assert table.handlers([*table.FAMILIES, family], [*abi.SYSCALLS.values(), Shout])[Shout] is sys_shout


def test_a_syscall_without_a_handler_or_with_two_is_a_panic() -> None:
    with pytest.raises(KernelPanic, match=r"Shout has no handler in syscalls\.messages"):
        table.handlers(table.FAMILIES, [*abi.SYSCALLS.values(), Shout])
    one, two = types.ModuleType("one"), types.ModuleType("two")
    vars(one)["sys_shout"] = vars(two)["sys_shout"] = sys_shout
    with pytest.raises(KernelPanic, match="Shout has two handlers"):
        table.handlers([one, two], [Shout])


@pytest.mark.parametrize("call", abi.SYSCALLS.values(), ids=list(abi.SYSCALLS))
def test_a_syscall_stands_in_two_files(call: type[Syscall]) -> None:
    where = {path.name for path in (ROOT / "syscalls").glob("*.py") if call.__name__ in identifiers(path)}
    family = table.HANDLERS[call].__module__.rpartition(".")[2]
    speech = {"decode.py"} if call is abi.SendMessage else set()  # what is no syscall is speech
    assert where == {"abi.py", f"{family}.py"} | speech
