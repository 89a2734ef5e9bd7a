"""Latency accounts, on virtual time where every figure is known."""

import pytest

from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from kernel.event import Spawned
from kernel.interrupts import Line
from kernel.limits import NS
from kernel.machine.latency import Account, Histogram
from kernel.machine.virtual import VirtualMachine
from kernel.settings import Settings
from kernel.spec import Spec
from llmos import tables
from syscalls.table import Table
from tests.fakes import WordIndex


def test_quantiles_are_the_edges_of_buckets_and_never_above_the_largest() -> None:
    histogram = Histogram()
    assert histogram.quantile_ms(0.99) == 0.0
    for us in [100] * 99 + [70_000]:
        histogram.add(us * 1_000)
    assert histogram.quantile_ms(0.5) == 0.128
    assert histogram.quantile_ms(0.99) == 0.128
    assert histogram.quantile_ms(1.0) == 70.0
    histogram.add(-5)
    histogram.add(1 << 70)
    assert sum(histogram.counts) == 102


def test_a_message_is_counted_from_its_raising_to_its_delivery_and_the_first_token() -> None:
    machine = VirtualMachine()
    disk = MemoryDisk()
    say = '{"op":"send_message","text":"' + "x" * 300 + '"}'
    cpu = VirtualCpu(lambda job: say, machine, token_ns=NS // 50)
    machine.boot(Table(), cpu, disk, WordIndex(disk), Settings())
    pid = machine.do(Spawned(source="user", spec=Spec("p", calls=("send_message",)))).pid
    machine.do(machine.say(pid, "one"))
    machine.run(NS)
    machine.do(machine.say(pid, "two"))  # comes a second into an answer of 111 tokens
    machine.run(60 * NS)
    account = machine.latency.lines[Line.USER]
    assert (account.raised, account.delivered, account.coalesced) == (2, 2, 0)
    took = len(cpu.tokenize(say)) * NS // 50
    assert account.to_delivery.largest_ns == took - NS
    assert account.to_token.largest_ns == took - NS + NS // 50
    assert sum(account.to_token.counts) == 2


def test_the_table_and_the_json_say_the_same() -> None:
    account = Account(raised=3, delivered=2, coalesced=1)
    account.to_delivery.add(5_000_000)
    assert tables.account(account)["to_delivery"] == {
        "p50_ms": 5.0,
        "p99_ms": 5.0,
        "max_ms": 5.0,
        "below_us": {"8192": 1},
    }
    shown = "\n".join(tables.irqs({"user": account, "timer": Account()}))
    assert "5.0" in shown
    assert "█" in shown


@pytest.mark.parametrize("line", list(Line))
def test_every_line_has_an_account(line: Line) -> None:
    assert VirtualMachine().latency.lines[line].raised == 0
