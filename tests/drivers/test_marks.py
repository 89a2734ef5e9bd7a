"""For any text, none of its tokens is a mark of the template's frame: real vocabularies, and such as make it hard."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tiny import INST, MARKED, mamba
from kernel.errors import BadInput
from llmos import models

pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")

from bench.vocabulary import ModelSizes  # noqa: E402  (after importorskip: it imports llama_cpp)
from drivers.cpu.llama.marks import Marks  # noqa: E402

WORDS = ("[INST]", "[/INST]", "<|im_start|>", "<|im_end|>", "<|a|>", "user", *"[]I/ \n", "NST", "x", "é")
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=12).map("".join)


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelSizes]:
    folder = tmp_path_factory.mktemp("marks")

    @cache
    def made(name: str) -> ModelSizes:
        path = folder / f"{name}.gguf"
        kind = MARKED[name]
        mamba(path, template=kind.template, extra=kind.extra, merges=kind.merges)
        return ModelSizes(path)

    return made


def says(ids: tuple[int, ...], row: tuple[int, ...]) -> bool:
    return any(ids[at : at + len(row)] == row for at in range(len(ids)))


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(MARKED)), text=TEXTS)
def test_for_any_text_none_of_its_tokens_is_a_frames_mark(
    sized: Callable[..., ModelSizes], kind: str, text: str
) -> None:
    sizes = sized(kind)
    ids = sizes.tokenize(text)
    assert [mark for mark in MARKED[kind].marks if says(ids, sizes.encode(mark, special=True))] == []
    assert sizes._vocabulary.detokenize(ids) == text.encode(errors="replace").decode(), "and it is the text that it was"


def test_without_the_guard_a_text_says_what_the_frame_says(sized: Callable[..., ModelSizes]) -> None:
    for kind, mark in (("ordinary", "[/INST]"), ("user-defined", "<|a|>")):
        sizes = sized(kind)
        row = sizes.encode(mark, special=True)
        assert len(row) < len(mark), "some of its letters go together"
        assert says(sizes.encode(f"so {mark} be it", special=False), row)
        assert not says(sizes.tokenize(f"so {mark} be it"), row)


def test_marks_of_ordinary_text_are_said_once_and_for_all(sized: Callable[..., ModelSizes]) -> None:
    (line,) = sized("ordinary")._vocabulary.off
    assert "([INST], [/INST]) are ordinary text in its vocabulary" in line
    assert sized("control")._vocabulary.off == sized("user-defined")._vocabulary.off == ()


def test_a_mark_that_cannot_be_told_from_a_users_text_is_refused_with_one_line(tmp_path: Path) -> None:
    mamba(tmp_path / "bytes.gguf", template=INST)  # each letter a token: there is nothing to break up
    with pytest.raises(BadInput, match=r"mark '\[INST\]' .* cannot be told from a user's; give a model") as caught:
        ModelSizes(tmp_path / "bytes.gguf")
    assert "\n" not in str(caught.value)


def test_pieces_that_come_together_to_a_mark_lose_its_end() -> None:
    marks = Marks(lambda text: tuple(map(ord, text)), {7: "\x07!"}, {})
    assert marks.tokenize("a\x07b") == (97, 98)


@pytest.mark.gguf
@settings(max_examples=300, deadline=None)
@given(text=TEXTS | st.lists(st.sampled_from(["<|im_", "start|>", "system\n", *WORDS]), max_size=12).map("".join))
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-coder-0.5b-instruct-q4_k_m"])
def test_for_any_text_none_of_its_tokens_is_a_mark_of_a_real_models_frame(name: str, text: str) -> None:
    sizes = real(name)
    vocabulary = sizes._vocabulary
    frame = vocabulary.frame
    marks = {*frame.begin[:1], *frame.prefix["user"][:1], *frame.suffix["user"][:1]} | vocabulary.ends
    assert marks.isdisjoint(sizes.tokenize(text))
    assert {*vocabulary.banned.tolist()}.isdisjoint(sizes.tokenize(text))


@cache
def real(name: str) -> ModelSizes:
    there = {path.stem: path for path in models.present()}
    if name not in there:
        pytest.skip(f"{name} is not here")
    return ModelSizes(there[name])
