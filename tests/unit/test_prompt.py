"""Prompts and their costs: the kernel's sum and the rendered ids agree, whatever the pages."""

from hypothesis import given
from hypothesis import strategies as st

from drivers.cpu.scripted import ScriptedCpu, echo
from kernel.memory.measure import Visible
from kernel.memory.page import Area, Kind, Origin, Page, Role
from kernel.memory.prompt import Layout

CPU = ScriptedCpu(echo)
LAYOUT = Layout(CPU.frame, CPU.tokenize, CPU.measure_id())
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


def visible(number: int, role: Role, text: str, recalled: bool = False) -> Visible:
    page = Page(number, 1, number, Kind.MESSAGE, Origin.USER, role, Area.RECALL, 0, text)
    return Visible(page, role, CPU.tokenize(text), recalled)


@given(
    st.lists(st.tuples(st.sampled_from(list(Role)), texts), max_size=8),
    st.lists(st.tuples(st.sampled_from(list(Role)), texts), max_size=4),
    texts,
)
def test_the_costs_are_the_rendered_length(
    before: list[tuple[Role, str]], recalled: list[tuple[Role, str]], asked: str
) -> None:
    pages = [visible(n, role, text) for n, (role, text) in enumerate(before)]
    lines = [visible(100 + n, role, text, True) for n, (role, text) in enumerate(recalled)]
    prompt = LAYOUT.render([*pages, *lines, visible(200, Role.USER, asked)])
    costs = LAYOUT.costs
    expected = costs.begin + costs.generate
    expected += sum(costs.role[page.role] + len(page.ids) for page in pages)
    expected += (costs.recall if lines else 0) + sum(costs.recalled[page.role] + len(page.ids) for page in lines)
    expected += costs.role[Role.USER] + len(CPU.tokenize(asked))
    assert len(prompt) == expected


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=400), st.integers(4, 60))
def test_text_is_split_at_characters_into_parts_that_fit(text: str, tokens_max: int) -> None:
    parts = LAYOUT(text, tokens_max)
    assert "".join(part.text for part in parts) == text
    assert all(0 < len(part.ids) <= tokens_max for part in parts)
    assert all(part.ids == CPU.tokenize(part.text) for part in parts)


def test_recalled_pages_stand_inside_the_frame_of_the_message_they_were_recalled_for() -> None:
    pages = [visible(1, Role.ASSISTANT, "hm"), visible(2, Role.USER, "fact", True), visible(3, Role.USER, "asked")]
    prompt = LAYOUT.render(pages)
    frame = CPU.frame
    message = CPU.tokenize("fact") + CPU.tokenize("\n") + CPU.tokenize("asked")
    assert prompt[-len(frame.generate) - len(frame.suffix[Role.USER]) - len(message) :] == (
        *message,
        *frame.suffix[Role.USER],
        *frame.generate,
    )
