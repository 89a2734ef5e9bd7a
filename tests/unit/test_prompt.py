"""Prompts and their costs: the kernel's sum and the rendered ids agree, whatever the pages."""

from hypothesis import given
from hypothesis import strategies as st

from drivers.cpu.scripted import ScriptedCpu, echo
from kernel.memory.measure import Frame, Head, Visible
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


def frames(head: Head[tuple[int, ...]] | None, again: tuple[int, ...] | None) -> Frame:
    """A frame in which no role has as many tokens around it as another."""
    prefix = {Role.SYSTEM: (301, 302), Role.USER: (311,), Role.ASSISTANT: (321, 322, 323)}
    suffix = {Role.SYSTEM: (309,), Role.USER: (318, 319), Role.ASSISTANT: ()}
    return Frame((300, 399), prefix, suffix, (330,), head, again)


HEADS = [
    None,
    Head((400, 401, 402, 403), (410,), (420, 421)),
    Head((400,), (410, 411, 412, 413, 414), (), (430,)),
    Head((400, 401), (410,), (420,), tuple(range(430, 440))),
]
talks = st.lists(st.sampled_from(list(Role)), max_size=9)


@given(st.sampled_from(HEADS), st.sampled_from([None, (), tuple(range(500, 508))]), talks)
def test_no_prompt_is_larger_than_its_costs_whatever_a_template_says_once(
    head: Head[tuple[int, ...]] | None, again: tuple[int, ...] | None, roles: list[Role]
) -> None:
    layout = Layout(frames(head, again), CPU.tokenize, "of a test")
    pages = [visible(n, role, "x") for n, role in enumerate(roles)]
    costs, prompt = layout.costs, layout.render(pages)
    text = bool(roles) and roles[0] is Role.SYSTEM
    most = costs.begin + (0 if text else costs.bare) + costs.generate
    most += sum(costs.role[page.role] + len(page.ids) for page in pages)
    assert len(prompt) <= most
    if head is None and again is None:
        assert len(prompt) == most
    assert prompt.count(*CPU.tokenize("x")) == len(roles), "each text once"
    around = layout.frame.around(roles)
    assert prompt[: len(around[0])] == around[0]


def test_system_texts_that_lead_stand_in_the_head_and_others_in_their_frame() -> None:
    head: Head[tuple[int, ...]] = Head((400,), (410,), (420,), (430,))
    frame = frames(head, (500,))
    said = [Role.SYSTEM, Role.SYSTEM, Role.USER, Role.USER, Role.SYSTEM]
    assert frame.around(said) == [(400,), (410,), (430,), (500,), (318, 319, 301, 302), (309, 330)]
    assert frame.around([Role.SYSTEM, Role.ASSISTANT]) == [(400,), (420, 321, 322, 323), (330,)]
    assert frame.around([Role.SYSTEM], generate=False) == [(400,), (420,)]
    assert frame.around([Role.USER]) == [(300, 399, 311), (318, 319, 330)]
    assert frame.around([]) == [(300, 399, 330)]


def test_white_space_at_the_ends_of_a_text_has_no_ids_where_the_template_takes_it_off() -> None:
    none: dict[Role, tuple[int, ...]] = dict.fromkeys(Role, ())
    plain, trims = (Layout(Frame((), none, none, (), trims=one), CPU.tokenize, "t") for one in (False, True))
    text = "  a word \n"
    assert plain(text, 100)[0].ids == CPU.tokenize(text)
    (part,) = trims(text, 100)
    assert (part.text, part.ids) == (text, CPU.tokenize("a word"))
    assert "".join(one.text for one in trims(text * 20, 5)) == text * 20
