"""Frames derived from the chat templates of five families, as the models publish them in essence."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.cpu.llama.frame import DATE, Template, TextFrame, derive, ten
from kernel.errors import BadInput
from kernel.memory.page import Role

TEMPLATES = Path(__file__).parent / "templates"
S, U, A = Role.SYSTEM, Role.USER, Role.ASSISTANT
# template -> (BOS, EOS, whether it has a frame for the system role)
FAMILIES = {
    "smollm2": ("<|im_start|>", "<|im_end|>", True),
    "qwen2": ("", "<|im_end|>", True),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", True),
    "gemma2": ("<bos>", "<eos>", False),
    "phi3": ("<s>", "<|endoftext|>", True),
    "phi3_first": ("<s>", "<|endoftext|>", False),
    "mistral": ("<s>", "</s>", False),
}


def source(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text()


def frame_of(name: str) -> TextFrame:
    bos, eos, _system = FAMILIES[name]
    return derive(source(name), bos, eos)


@pytest.mark.parametrize("name", FAMILIES)
def test_ten_messages_rendered_by_the_template_are_the_sum_of_their_frames(name: str) -> None:
    bos, eos, system = FAMILIES[name]
    template, frame, messages = Template(source(name), bos, eos), frame_of(name), ten(system=system)
    assert len(messages) == 10
    assert [role for role, _text in messages[:3]] == ([S, U, A] if system else [U, A, U])
    for count in (9, 10):
        some = messages[:count]
        asked = some[-1][0] is U
        rendered = template.render(some, generate=asked)
        assert rendered == frame.join(some, generate=asked)
        assert all(text in rendered for _role, text in some)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_frame_repeats_roles_and_says_nothing_of_its_own(name: str) -> None:
    frame = frame_of(name)
    text = frame.join([(S, "one"), (S, "two"), (U, "three"), (U, "four"), (A, "five"), (S, "six")], generate=True)
    bare = frame.join([], generate=False)
    assert bare in ("", FAMILIES[name][0])
    assert [text.count(word) for word in ("one", "two", "three", "four", "five", "six")] == [1] * 6
    assert "helpful" not in text
    assert text.count(frame.begin) == 1 or not frame.begin


def test_a_default_system_text_does_not_get_into_the_frame() -> None:
    assert "helpful" in Template(source("smollm2")).render([(U, "hello")])
    assert frame_of("smollm2").begin == ""
    assert frame_of("smollm2").prefix[S] == "<|im_start|>system\n"


ONE_SYSTEM_TEXT = """{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('no') }}
{%- endif %}{% if loop.first %}{{ start }}{% endif %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


@pytest.mark.parametrize(("start", "bos"), [("", "<|im_start|>"), ("{{ bos_token }}", "<s>")])
def test_a_template_with_one_system_text_gives_each_its_header_and_bos_once(start: str, bos: str) -> None:
    frame = derive(ONE_SYSTEM_TEXT.replace("{{ start }}", start), bos)
    assert frame.begin == ("<s>" if start else "")
    assert frame.prefix[S] == "<|im_start|>system\n"


def test_bos_comes_once_in_llama_3() -> None:
    frame = frame_of("llama3")
    assert frame.begin == "<|begin_of_text|>"
    assert frame.prefix[S] == "<|start_header_id|>system<|end_header_id|>\n\n"


@pytest.mark.parametrize("name", ["gemma2", "mistral", "phi3_first"])
def test_a_system_text_takes_the_users_frame_where_the_template_has_none(name: str) -> None:
    frame = frame_of(name)
    assert (frame.prefix[S], frame.suffix[S]) == (frame.prefix[U], frame.suffix[U])


def test_a_header_at_the_end_of_a_users_turn_belongs_to_the_next_turn() -> None:
    frame = frame_of("phi3_first")
    assert (frame.suffix[U], frame.prefix[A], frame.generate) == ("<|end|>\n", "<|assistant|>\n", "<|assistant|>\n")


def test_the_end_of_mistrals_instruction_stays_with_the_user() -> None:
    frame = frame_of("mistral")
    assert (frame.suffix[U], frame.suffix[A], frame.generate) == (" [/INST]", "</s>", "")


def test_a_template_with_the_date_in_front_gets_a_named_frame_without_it() -> None:
    assert DATE in Template(source("llama31")).render([(S, "one"), (U, "two")])
    frame = derive(source("llama31"), "<|begin_of_text|>", "<|eot_id|>")
    assert frame == frame_of("llama3")


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
    frame = derive("{% nonsense %}" + markers, "BOS", "EOS")
    assert (frame.begin, frame.prefix[U]) == (begin, prefix)


@pytest.mark.parametrize(
    "template",
    [
        "{% nonsense %}",
        "{{ raise_exception('no') }}",
        "{{ messages[99].content }}",
        "{{ 1 // 0 }}",
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages %}{{ m.role }}{{ loop.index }}{{ m.content }}{% endfor %}",
        "{{ messages[-1].content }}",
        "",
    ],
)
def test_a_template_that_is_no_sum_and_unknown_is_refused_with_one_line(template: str) -> None:
    with pytest.raises(BadInput, match="chat template is not understood") as caught:
        derive(template, "BOS", "EOS")
    assert "\n" not in str(caught.value)


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    with pytest.raises(BadInput):
        derive("{{ messages.__class__.__base__.__subclasses__() }}{% for m in messages %}{{ m.content }}{% endfor %}")
