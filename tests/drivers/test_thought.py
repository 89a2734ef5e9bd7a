"""Thought before an instruction, on SmolLM2-135M under a template that has it think: bounded, apart, exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from bench.gguf import retemplated
from kernel.event import Outcome, Thought, Trapped
from kernel.memory.page import Role
from kernel.ports import Streamed
from kernel.sampling import Sampling
from kernel.settings import Cpu as CpuSettings
from llmos import models
from syscalls.grammar import grammar

pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")

from bench.cpu.rig import Rig  # noqa: E402  (after importorskip: it imports llama_cpp)
from drivers.cpu.llama.engine import LlamaCpu  # noqa: E402
from drivers.cpu.llama.thought import Marks  # noqa: E402

WINDOW = 1024
TEMPLATE = (Path(__file__).parent / "templates" / "thinks.jinja").read_text()
CALLS = grammar(("send_message", "search", "remember"), "json")


class Bench(Rig):
    """A CPU that thinks."""

    def prompt(self, text: str) -> tuple[int, ...]:
        frame = msgspec.structs.replace(self.cpu.frame, generate=self.cpu.frame.lead)
        before, after = frame.around([Role.USER])
        return (*before, *self.cpu.tokenize(text), *after)

    def asked(self, prompt: Sequence[int], most: int | None, **more: object) -> Trapped:
        self.streamed.clear()
        return self.run(1, prompt, reply=32, thought=None if most is None else Thought(most, must=True), **more)

    def marks(self) -> Marks:
        assert self.cpu.vocabulary.thought is not None
        return self.cpu.vocabulary.thought


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    path = retemplated(models.find("smollm2-135m"), tmp_path_factory.mktemp("models") / "thinks.gguf", TEMPLATE)
    cpu = LlamaCpu(path, CpuSettings(threads=1))
    yield Bench(cpu, WINDOW)
    cpu.close()


@pytest.mark.gguf
@pytest.mark.parametrize("most", [1, 8, 40])
@pytest.mark.parametrize("rules", [None, CALLS])
def test_a_thought_is_bounded_and_the_instruction_follows_it(bench: Bench, most: int, rules: str | None) -> None:
    trap = bench.asked(bench.prompt("What is 6 * 7?"), most, grammar=rules)
    marks = bench.marks()
    assert trap.ids[: len(marks.open)] == marks.open
    thought, said = trap.ids[: trap.thought], trap.ids[trap.thought :]
    assert bench.cpu.detokenize(thought).endswith("</think>\n\n")
    assert 0 < trap.thought <= most + len(marks.open) + len(marks.mark) + len(marks.then)
    assert "think>" not in trap.thinking
    assert trap.text == bench.cpu.detokenize(said)
    assert len(said) <= 32
    assert "think>" not in trap.text
    assert rules is None or trap.text.startswith('{"op":"')
    assert "".join(one.text for one in bench.streamed if one.thought) == trap.thinking
    assert "".join(one.text for one in bench.streamed if not one.thought) == trap.text


@pytest.mark.gguf
@pytest.mark.parametrize("rules", [None, CALLS])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_stop_at_any_token_of_a_thought_resumes_bit_for_bit(
    bench: Bench, rules: str | None, temperature: float
) -> None:
    drawn = Sampling(temperature=temperature)
    prompt = bench.prompt("Tell me about rivers.")
    whole = bench.asked(prompt, 24, grammar=rules, sampling=drawn)
    for quantum in (1, 3, 7):
        ids: tuple[int, ...] = ()
        streamed: list[Streamed] = []
        while True:
            trap = bench.asked(prompt, 24, grammar=rules, ids=ids, quantum=quantum, sampling=drawn)
            streamed += bench.streamed
            if trap.outcome is not Outcome.PREEMPTED:
                break
            assert len(trap.ids) > len(ids)
            ids = trap.ids
        assert (trap.ids, trap.thought, trap.thinking, trap.text) == (
            whole.ids,
            whole.thought,
            whole.thinking,
            whole.text,
        )
        assert "".join(one.text for one in streamed if one.thought) == whole.thinking
        assert "".join(one.text for one in streamed if not one.thought) == whole.text


@pytest.mark.gguf
def test_who_is_not_to_think_has_the_templates_words_for_that_in_its_mouth(bench: Bench) -> None:
    trap = bench.asked(bench.prompt("What is 6 * 7?"), None)
    assert trap.ids[: trap.thought] == bench.marks().off
    assert trap.thinking == ""
    assert trap.text
    assert not any(one.thought for one in bench.streamed)
