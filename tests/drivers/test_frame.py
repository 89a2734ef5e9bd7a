"""Frames derived from chat templates: of families, as the models publish them in essence, and of each mechanism alone.

A template here is written for what it shows; originals are read from the data folder
(tests/unit/test_bench_templates.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.cpu.llama.derive import compare, derive, ten
from drivers.cpu.llama.frame import Message, Past, TextFrame, Trim
from drivers.cpu.llama.template import DATE, Template
from drivers.cpu.llama.thinking import Marks, thinking
from kernel.errors import BadInput
from kernel.memory.page import Role

TEMPLATES = Path(__file__).parent / "templates"
S, U, A = Role.SYSTEM, Role.USER, Role.ASSISTANT
FAMILIES = {  # template -> BOS, EOS
    "smollm2": ("<|im_start|>", "<|im_end|>"),
    "qwen2": ("", "<|im_end|>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama31": ("<|begin_of_text|>", "<|eot_id|>"),
    "gemma2": ("<bos>", "<eos>"),
    "phi3": ("<s>", "<|endoftext|>"),
    "phi3_first": ("<s>", "<|endoftext|>"),
    "mistral": ("<s>", "</s>"),
}
TALK = [(S, "one"), (S, "two"), (U, "three"), (U, "four"), (A, "five"), (S, "six"), (U, "seven")]


def source(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text()


def frame_of(name: str) -> TextFrame:
    return derive(source(name), *FAMILIES[name]).frame


def of(template: str, bos: str = "<s>", eos: str = "</s>") -> TextFrame:
    """The frame of a template, which makes of whatever the template renders what that makes of it."""
    frame = derive(template, bos, eos).frame
    found = compare(Template(template, bos, eos), frame, thinking(template))
    assert [one.name for one in found if one.equal is False] == []
    assert sum(one.equal is True for one in found) >= 2
    return frame


def turns(say: str = "m.content", first: str = "", last: str = "") -> str:
    """A template of turns: `first` in front of them, `say` for a text, `last` before an answer."""
    turn = "{{ '<|' + m.role + '|>' + " + say + " + '<|end|>' }}"
    head = "{{ bos_token }}" + first + "{% for m in messages %}"
    return head + turn + "{% endfor %}{% if add_generation_prompt %}<|assistant|>" + last + "{% endif %}"


@pytest.mark.parametrize("name", FAMILIES)
def test_ten_conversations_are_the_sum_of_their_frames(name: str) -> None:
    template, frame = Template(source(name), *FAMILIES[name]), frame_of(name)
    assert len(ten()) == 10
    compared = compare(template, frame, None)
    assert [one.name for one in compared if one.equal is False] == []
    refused = {one.name for one in compared if one.equal is None}
    assert ("a system text" in refused) == (name in ("gemma2", "phi3_first"))
    assert len(refused) <= 6


@pytest.mark.parametrize("name", FAMILIES)
def test_a_frame_repeats_roles_and_says_nothing_of_its_own_twice(name: str) -> None:
    frame = frame_of(name)
    text = frame.join(TALK)
    assert [text.count(word) for _, word in TALK] == [1] * len(TALK)
    assert "helpful" not in text, "a default text stands for a system text, not beside it"
    assert text.count("Cutting") == (name == "llama31")
    front = frame.head.begin if frame.head else frame.begin
    assert text.startswith(front)


@pytest.mark.parametrize("name", ["smollm2", "qwen2"])
def test_a_default_system_text_is_said_once_where_no_system_text_leads(name: str) -> None:
    frame = frame_of(name)
    assert "helpful" in frame.begin
    assert frame.join([(U, "a"), (A, "b"), (U, "c")]).count("helpful") == 1
    assert "helpful" not in frame.join([(S, "x"), (U, "a")])
    assert frame.prefix[S] == "<|im_start|>system\n"


ONE_SYSTEM_TEXT = """{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('no') }}
{%- endif %}{% if loop.first %}{{ start }}{% endif %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


@pytest.mark.parametrize(("start", "bos"), [("", "<|im_start|>"), ("{{ bos_token }}", "<s>")])
def test_a_template_with_one_place_for_system_texts_has_those_in_front_in_it(start: str, bos: str) -> None:
    frame = of(ONE_SYSTEM_TEXT.replace("{{ start }}", start), bos)
    front = "<s>" if start else ""
    assert frame.join([(S, "a"), (S, "b"), (U, "c")], generate=False) == (
        f"{front}<|im_start|>system\na\n\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
    )
    assert frame.prefix[S] == frame.prefix[U], "and those further down in the user's frame"


def test_bos_comes_once_in_llama_3() -> None:
    frame = frame_of("llama3")
    assert (frame.begin, frame.head) == ("<|begin_of_text|>", None)
    assert frame.prefix[S] == "<|start_header_id|>system<|end_header_id|>\n\n"


def test_bos_stands_in_front_even_where_white_space_precedes_it() -> None:
    frame = of("{% set x = 1 %}\n  \n {{ bos_token }}" + turns().removeprefix("{{ bos_token }}"))
    assert frame.join([(U, "a")]) == "<s><|user|>a<|end|><|assistant|>"


def test_bos_that_opens_every_turn_is_no_front_text() -> None:
    frame = of(turns().replace("<|' + m.role", "|' + bos_token + m.role").removeprefix("{{ bos_token }}"), "<b>")
    assert frame.prefix[S] != frame.prefix[U]


@pytest.mark.parametrize("name", ["gemma2", "phi3_first"])
def test_a_system_text_takes_the_users_frame_where_the_template_has_none(name: str) -> None:
    frame = frame_of(name)
    assert (frame.prefix[S], frame.suffix[S]) == (frame.prefix[U], frame.suffix[U])


def test_a_system_text_in_the_first_users_turn_stays_there_with_all_that_lead() -> None:
    frame = frame_of("mistral")
    assert frame.join([(S, "a"), (S, "b"), (U, "c"), (A, "d"), (U, "e")]) == (
        "<s> [INST] a\n\nb\n\nc [/INST] d</s> [INST] e [/INST]"
    )
    assert frame.join([(S, "a"), (A, "d"), (U, "e")]) == "<s> [INST] a [/INST] d</s> [INST] e [/INST]"


def test_a_header_at_the_end_of_a_users_turn_belongs_to_the_next_turn() -> None:
    frame = frame_of("phi3_first")
    assert (frame.suffix[U], frame.prefix[A], frame.generate) == ("<|end|>\n", "<|assistant|>\n", "<|assistant|>\n")


def test_the_end_of_mistrals_instruction_stays_with_the_user() -> None:
    frame = frame_of("mistral")
    assert (frame.suffix[U], frame.suffix[A], frame.generate) == (" [/INST]", "</s>", "")


FRONT = "<|system|>Mode: quick. Today: {{ strftime_now('%d %b') }}.\nCutoff: 2023\n{{ 0 or '' }}"
FRONTED = (
    "{{ bos_token }}" + FRONT + "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}<|end|>"
    "{% for m in messages %}{% if m.role != 'system' or not loop.first %}"
    "{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_what_a_template_says_in_front_is_said_once_and_a_date_never() -> None:
    assert DATE in Template(FRONTED).render([(U, "a")])
    found = derive(FRONTED, "<s>", "</s>")
    assert found.dated
    frame = of(FRONTED)
    front = "<s><|system|>Mode: quick.\nCutoff: 2023\n"
    assert frame.join(TALK[:3], generate=False) == f"{front}one<|end|><|system|>two<|end|><|user|>three<|end|>"
    assert frame.join([(U, "a")], generate=False) == f"{front}<|end|><|user|>a<|end|>"
    assert not any("Today" in part or DATE in part for part in frame.parts())


def test_a_front_text_that_comes_with_each_system_text_is_said_once() -> None:
    frame = of(turns("('Think slowly and say what you see. ' * 4 if m.role == 'system' else '') + m.content"))
    assert frame.join([(S, "a"), (U, "b")]).count("Think slowly") == 4
    assert frame.join(TALK).count("Think slowly") == 4


THOUGHTFUL = turns(
    "(m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' else m.content)", last="<think>\n"
)


def test_thought_leaves_answers_that_are_past_and_generation_begins_as_the_template_has_it() -> None:
    frame = of(THOUGHTFUL)
    assert frame.past == Past("</think>", Trim("\n", "")) or frame.trim[A] == Trim("\n", "")
    assert frame.said(A, "<think>\nhm\n</think>\n\nyes") == "yes"
    assert frame.said(U, "</think>yes") == "</think>yes"
    assert (frame.prefix[A], frame.generate) == ("<|assistant|>", "<|assistant|><think>\n")


def test_an_empty_thought_stands_before_answers_without_where_the_template_keeps_thought() -> None:
    split = (
        "(m.content if '</think>' in m.content or m.role != 'assistant' else '<think>\\n\\n</think>\\n\\n' + m.content)"
    )
    frame = of(turns(split))
    assert frame.prefix[A] == "<|assistant|><think>\n\n</think>\n\n"
    thought = "<think>\nhm\n</think>\n\nyes"
    assert frame.join([(U, "a"), (A, thought), (U, "b")]).count("<think>") == 1


def test_a_last_answer_that_ends_otherwise_does_not_count() -> None:
    ends = turns().replace("'<|end|>' }}", "('<|return|>' if loop.last and m.role == 'assistant' else '<|end|>') }}")
    assert of(ends).suffix[A] == "<|end|>"


def test_a_template_that_refuses_two_users_in_a_row_is_framed() -> None:
    check = "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}"
    frame = of(turns().replace("{% for m in messages %}", "{% for m in messages %}" + check))
    assert frame.join([(U, "a"), (U, "b")]).count("<|user|>") == 2


def test_two_users_in_a_row_may_share_a_turn() -> None:
    joined = (
        "{% for m in messages %}{% if m.role == 'user' and loop.previtem and loop.previtem.role == 'user' %}"
        "{{ '\n\n' + m.content }}{% else %}{{ '<|' + m.role + '|>' + m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    frame = of(joined)
    assert frame.again == "\n\n"
    assert (
        frame.join([(U, "a"), (U, "b"), (A, "c"), (U, "d")], generate=False) == "<|user|>a\n\nb<|assistant|>c<|user|>d"
    )


@pytest.mark.parametrize(
    ("say", "trim"),
    [
        ("m.content", Trim()),
        ("m.content | trim", Trim(None, None)),
        ("m.content.rstrip()", Trim("", None)),
        ("m.content.lstrip('\\n')", Trim("\n", "")),
    ],
)
def test_white_space_that_a_template_takes_off_is_taken_off(say: str, trim: Trim) -> None:
    frame = of(turns(f"({say})"))
    assert [frame.trim.get(role, Trim()) for role in Role] == [trim] * 3


def test_templates_for_tools_for_parts_and_for_training_are_rendered() -> None:
    of("{% for tool in tools %}{{ tool }}{% endfor %}" + turns())
    of(turns("(m.content | map(attribute='text') | join)"))
    of(turns().replace("{% for", "{% generation %}{% endgeneration %}{% for", 1))
    of("{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}" + turns())
    assert '<b> "é"' in Template("{{ {'a': '<b>'} | tojson }}{{ '<b> \"é\"' }}").render([(U, "a")])
    assert Template("{{ '<é>' | tojson }}").render([(U, "a")]) == '"<é>"', "no HTML, as transformers has it"


@pytest.mark.parametrize(
    ("markers", "begin", "prefix"),
    [
        ("<|im_start|> <|im_end|>", "", "<|im_start|>user\n"),
        ("<|im_start|> <|im_sep|> <|im_end|>", "", "<|im_start|>user<|im_sep|>"),
        ("<|start_header_id|> <|eot_id|>", "BOS", "<|start_header_id|>user<|end_header_id|>\n\n"),
        ("<start_of_turn> <end_of_turn>", "BOS", "<start_of_turn>user\n"),
        ("<|user|> <|assistant|> <|end|>", "BOS", "<|user|>\n"),
        ("[INST] [/INST]", "BOS", "[INST] "),
    ],
)
def test_a_template_that_jinja_cannot_read_is_recognised_by_its_markers(markers: str, begin: str, prefix: str) -> None:
    found = derive("{% nonsense %}" + markers, "BOS", "EOS")
    assert found.named
    assert (found.frame.begin, found.frame.prefix[U]) == (begin, prefix)


MOVED = (
    "{% for m in messages %}{% if m.role != 'system' %}{{ '<|' + m.role + '|>' }}"
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    "{{ m.content + '<|end|>' }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% nonsense %}", "it cannot be read"),
        ("{{ raise_exception('never <|im_start|><|im_end|>') }}", "it refuses every conversation: never"),
        ("{{ messages[99].content }}", "it refuses every conversation"),
        ("{{ 1 // 0 }}", "it refuses every conversation"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "it puts down no text"),
        (
            "{% for m in messages %}{{ m.role }}{{ loop.index }}{{ m.content }}{% endfor %}",
            "depends on where it stands",
        ),
        ("{{ messages[-1].content }}", "left out, repeated or moved"),
        ("", "it puts down no text"),
        (MOVED, "a system text in front is left out, repeated or moved"),
        (turns("m.content.replace('\\n\\n', '\\n')"), "no sum of frames makes what it makes of"),
        (turns("'x' * 2000 + m.content"), "longer than many a message"),
    ],
)
def test_a_template_that_is_no_sum_is_refused_with_the_reason_in_one_line(template: str, why: str) -> None:
    with pytest.raises(BadInput, match=r"chat template is not understood: ") as caught:
        derive(template, "BOS", "EOS")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    with pytest.raises(BadInput):
        derive("{{ messages.__class__.__base__.__subclasses__() }}{% for m in messages %}{{ m.content }}{% endfor %}")


@pytest.mark.parametrize(
    ("template", "marks"),
    [
        ("{{ '<think>' }} {{ '</think>' }}", Marks("<think>", "</think>")),
        ("content.split('</think>')", Marks("<think>", "</think>")),
        ("'<seed:think>' '</seed:think>'", Marks("<seed:think>", "</seed:think>")),
        ("[THINK] [/THINK]", Marks("[THINK]", "[/THINK]")),
        ("<|START_THINKING|><|END_THINKING|>", Marks("<|START_THINKING|>", "<|END_THINKING|>")),
        ("<|channel|>analysis<|message|> <|end|>", Marks("<|channel|>analysis<|message|>", "<|end|>", apart=True)),
        ("<|channel>thought\n<channel|>", Marks("<|channel>thought\n", "<channel|>")),
        ("<think> alone", None),
        ("I think so, in [thoughts]", None),
        ("", None),
    ],
)
def test_how_a_template_thinks_is_told_by_its_marks(template: str, marks: Marks | None) -> None:
    assert thinking(template) == marks


def test_a_conversation_of_the_ten_ends_with_a_user_and_names_no_mark() -> None:
    for _, messages in ten(Marks("[T]", "[/T]")):
        last: Message = messages[-1]
        assert last[0] is U
        assert all("<|" not in text for _, text in messages)
