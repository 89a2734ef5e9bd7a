"""Chat templates: programs of the template language's own parts, some without end or measure, each in a forked process.

A trial is what a model's trial does with its template (drivers/cpu/llama/trial.py `framed`), with its limits lowered so
that there can be many. It must come to a frame, a refusal, or its limit: in time, and in memory.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Final

from bench.attack.surface import Guard, Surface, Trial, Wrong, instead

TRIALS: Final = 2_000  # a fork, a template compiled and a dozen renderings each
HANG_S: Final = 300.0  # of computing it has ENDED_S at most, but a busy host lends little
TEMPLATE_S: Final = 0.3
LEAST_S: Final = 1.2  # of computing, after which a limit of TEMPLATE_S has not held
ENDED_S: Final = 2  # of computing, after which a trial is ended, guard or no guard
NO_LIMIT_S: Final = 3_600.0  # where the guard is gone
LEAST_MIB: Final = 320  # beside what this process has, at which a limit of 256 has not held
HARD: Final = 2 << 30  # bytes of address space beside what is there, that no trial gets past, guard or no guard
LOOK_S: Final = 0.001
BROKEN, FRAMED, REFUSED = 3, 0, 4  # statuses of the forked process

FRAME: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VALUES: Final = (
    *("1", "'a'", "messages", "messages[0].content", "range(9)", "range(99999)", "lipsum(n=2)", "lipsum(n=100000)"),
    *("namespace(a='x')", "bos_token", "loop", "cycler", "joiner()", "none", "[1, 2] * 30000000", "'é' * 300"),
    *("10**10**9", "'a' * 2000000000", "'%1000000000d' % 3", "(1, 2)", "{'k': messages}", "self", "strftime_now('%Y')"),
)
FILTERS: Final = (
    *("upper", "list", "length", "join('x')", "center(1000000000)", "indent(99999)", "tojson", "reverse", "sort"),
    *("batch(2)", "replace('a', 'aaaaaaaaaa')", "attr('__class__')", "format(1)", "wordwrap(1)", "map('upper')"),
)


def _expression(draw: Random, depth: int = 0) -> str:
    choice = draw.random()
    if depth > 3 or choice < 0.5:
        return draw.choice(VALUES[:6] if draw.random() < 0.8 else VALUES)
    if choice < 0.75:
        return f"({_expression(draw, depth + 1)})|{draw.choice(FILTERS)}"
    operator = draw.choice(["+", "*", "~", "==", "in", "and", "//", "-"] + ["**"] * (draw.random() < 0.2))
    return f"({_expression(draw, depth + 1)} {operator} {_expression(draw, depth + 1)})"


def _statement(draw: Random, depth: int = 0) -> str:
    if depth > 3:
        return f"{{{{ {_expression(draw)} }}}}"
    inner = "".join(_statement(draw, depth + 1) for _ in range(draw.randint(0, 2)))
    match draw.randrange(7):
        case 0:
            return f"{{% for i{depth} in {_expression(draw)} %}}{inner}{{% endfor %}}"
        case 1:
            return f"{{% if {_expression(draw)} %}}{inner}{{% else %}}{_statement(draw, depth + 1)}{{% endif %}}"
        case 2:
            return f"{{% set v{depth} = {_expression(draw)} %}}{inner}"
        case 3 if draw.random() < 0.2:
            return f"{{% macro f{depth}(n) %}}{inner}{{{{ f{depth}(n) }}}}{{% endmacro %}}{{{{ f{depth}(1) }}}}"
        case 4:
            return draw.choice(["text ", "<|im_start|>", "\n", "{{", "%}", "{# #}", "{% raw %}{{ 1 }}{% endraw %}"])
        case _:
            return f"{{{{ {_expression(draw)} }}}}{inner}"


def _nested(draw: Random) -> str:
    depth = draw.choice([2, 3, 5, 19, 30])
    over = draw.choice(["range(99999)", "[1, 2, 3]", "messages"])
    return "".join(f"{{% for i{n} in {over} %}}" for n in range(depth)) + "x" + "{% endfor %}" * depth


def template(draw: Random) -> str:
    """Any template."""
    choice = draw.random()
    if choice < 0.05:
        return _nested(draw)
    parts = "".join(_statement(draw) for _ in range(draw.randint(0, 4)))
    if choice < 0.3:
        return parts + FRAME
    if choice < 0.4:
        at = draw.randrange(len(FRAME))
        return FRAME[:at] + parts + FRAME[at:]
    if choice < 0.45:
        return FRAME
    return parts


class _Attack:
    def __init__(self) -> None:
        import jinja2.sandbox

        from drivers.cpu.llama import trial

        self.trial_of, self.warm = trial, jinja2.sandbox  # the forked need not import them

    def trial(self, draw: Random) -> None:
        source = template(draw)
        status, used = self._forked(source)
        seconds, mib = used.ru_utime + used.ru_stime, used.ru_maxrss >> 10
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        if seconds > LEAST_S:
            raise Wrong(f"it computed for {seconds:.1f} s: {source[:200]}")
        if mib > base + LEAST_MIB:
            raise Wrong(f"it took {mib} MiB: {source[:200]}")
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in (FRAMED, REFUSED):
            raise Wrong(f"its process ended with status {os.WEXITSTATUS(status)}: {source[:200]}")
        if source == FRAME and not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == FRAMED):
            raise Wrong("a template that is a sum was not understood")

    def _forked(self, source: str) -> tuple[int, resource.struct_rusage]:
        pid = os.fork()
        if not pid:
            status = BROKEN
            with contextlib.suppress(BaseException):
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                hard = self.trial_of.space(HARD)
                resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
                resource.setrlimit(resource.RLIMIT_CPU, (ENDED_S, ENDED_S))
                gc.freeze()
                found = self.trial_of.framed(source, "<s>", "</s>")
                status = REFUSED if found.frame is None else FRAMED
            os._exit(status)
        deadline = time.monotonic() + HANG_S / 2
        while True:  # until it has ended, or at the deadline
            done, status, used = os.wait4(pid, os.WNOHANG)
            if done:
                return status, used
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.wait4(pid, 0)
                raise Wrong(f"it did not end: {source[:200]}")
            time.sleep(LOOK_S)


@contextmanager
def _opened(folder: Path) -> Iterator[Trial]:
    from drivers.cpu.llama import trial

    with instead(trial, "TEMPLATE_S", TEMPLATE_S if trial.TEMPLATE_S < NO_LIMIT_S else trial.TEMPLATE_S):
        yield _Attack().trial


def _no_time() -> AbstractContextManager[None]:
    """A template may take as long as it likes."""
    from drivers.cpu.llama import trial

    return instead(trial, "TEMPLATE_S", NO_LIMIT_S)


def _no_memory() -> AbstractContextManager[None]:
    """And as much memory."""
    from drivers.cpu.llama import trial

    return instead(trial, "TEMPLATE_BYTES", 1 << 40)


GUARDS: Final[dict[str, Guard]] = {"template-time": _no_time, "template-memory": _no_memory}
SURFACE: Final = Surface(_opened, trials=TRIALS, hang_s=HANG_S, guards=GUARDS)
