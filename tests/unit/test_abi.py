"""The instruction set: every name has an example that decodes to itself, a grammar, a line in the manual."""

import contextlib
import json

import llguidance
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Illegal, SyscallError
from syscalls.abi import NAMES, SYSCALLS, SendMessage
from syscalls.decode import CALL_CHARS_MAX, decode, in_words, name_of
from syscalls.grammar import grammar
from syscalls.manual import document, manual
from tests.fakes import op


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_syscall_decodes_to_it(name: str) -> None:
    assert name_of(decode(SYSCALLS[name].example, "json", NAMES, truncated=False)) == name
    if name != "send_message":
        assert name_of(decode("!" + SYSCALLS[name].example, "prose", NAMES, truncated=False)) == name


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_admits_its_syscalls_and_no_others(name: str) -> None:
    rest = tuple(other for other in NAMES if other != name)
    with pytest.raises(SyscallError, match=f"{name} is not allowed"):
        decode(SYSCALLS[name].example, "json", rest, truncated=False)
    lark = grammar(rest, "json")
    assert lark is not None
    assert f"\n{name}: %json" not in lark
    assert SYSCALLS[name].example not in manual(rest, "json", "whole")
    assert SYSCALLS[name].example in manual(NAMES, "json", "whole")


@given(st.text(), st.sampled_from(["json", "prose"]), st.booleans())
def test_any_text_is_a_syscall_or_a_syscall_error(text: str, encoding: str, truncated: bool) -> None:
    with contextlib.suppress(SyscallError):
        assert name_of(decode(text, encoding, NAMES, truncated)) in NAMES


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4), st.sampled_from(NAMES))
def test_any_object_is_a_syscall_or_a_syscall_error(fields: dict[str, object], name: str) -> None:
    with contextlib.suppress(SyscallError):
        assert name_of(decode(json.dumps({"op": name, **fields}), "json", NAMES, truncated=False)) in NAMES


def test_prose_without_the_mark_is_a_message_and_a_mark_further_in_is_text() -> None:
    call = decode('Well! {"op":"exit"}', "prose", NAMES, truncated=False)
    assert call == SendMessage('Well! {"op":"exit"}')


def test_a_truncated_message_is_a_message_and_a_truncated_syscall_is_illegal() -> None:
    assert decode("It goes on and", "prose", NAMES, truncated=True) == SendMessage("It goes on and")
    with pytest.raises(SyscallError, match="cut off"):
        decode('!{"op":"remember","text":"It go', "prose", NAMES, truncated=True)


def test_strict_types() -> None:
    with pytest.raises(SyscallError, match=r"Expected `int`, got `str` - at `\$\.page`"):
        decode('{"op":"pin","page":"3"}', "json", NAMES, truncated=False)


def test_a_process_that_may_only_speak_has_neither_grammar_nor_manual() -> None:
    assert grammar(("send_message",), "prose") is None
    assert manual(("send_message",), "prose", "whole") == ""


def emits(text: str, mask: tuple[str, ...] = NAMES) -> bool:
    """Whether a CPU that is held to the grammar can emit it."""
    lark = grammar(mask, "json")
    assert lark is not None
    vocabulary = llguidance.LLTokenizer("byte")
    matcher, ids = llguidance.LLMatcher(vocabulary, lark), vocabulary.tokenize_str(text)
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())


@pytest.mark.parametrize(
    ("fields", "whole"),
    [
        ({"seconds": 5}, True),
        ({"at": "2026-01-31 08:00"}, True),
        ({"at": "2026-01-31 08:00", "every": 60}, True),
        ({}, False),
        ({"every": 60}, False),
        ({"seconds": 0}, False),
        ({"at": ""}, False),
        ({"seconds": 5, "at": "2026-01-31 08:00"}, False),
    ],
)
def test_what_a_call_needs_stands_in_the_abi_and_so_in_decoder_and_grammar(
    fields: dict[str, object], whole: bool
) -> None:
    text = op("set_timer", text="tea", **fields)
    assert emits(text) is whole
    if whole:
        assert name_of(decode(text, "json", NAMES, truncated=False)) == "set_timer"
        return
    with pytest.raises(Illegal, match="a timer needs seconds or at, and not both"):
        decode(text, "json", NAMES, truncated=False)


@pytest.mark.parametrize("name", [name for name, call in SYSCALLS.items() if call.one_of])
def test_what_a_call_needs_stands_in_the_manual_and_the_docs(name: str) -> None:
    needed = SYSCALLS[name].one_of
    assert sum(field in json.loads(SYSCALLS[name].example) for field in needed) == 1, "the model sees one of them"
    assert f"It needs {' or '.join(f'`{field}`' for field in needed)}, and not both." in document()


def test_a_call_in_words_says_what_was_said_and_tells_long_ones_apart() -> None:
    short = decode(op("cancel_timer", timer=3), "json", NAMES, truncated=False)
    assert in_words(short) == 'cancel_timer {"timer":3}'
    one, other = (decode(op("remember", text="x" * 500 + end), "json", NAMES, truncated=False) for end in "ab")
    assert in_words(one) != in_words(other)
    assert len(in_words(one)) == len(in_words(other)) == CALL_CHARS_MAX
