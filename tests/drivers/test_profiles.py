"""Profiles and the llama CPU: a model is known by its file's content, and told its syscalls as its profile says."""

import shutil
from pathlib import Path

import pytest

from bench.tiny import mamba
from drivers.cpu import gguf, profiles
from drivers.cpu.llama.engine import LlamaCpu
from drivers.cpu.profiles import Profile
from kernel.errors import BadInput
from kernel.ports import Manner
from llmos.profile import making
from llmos.profile.choice import Way
from llmos.profile.probes import probes


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model in a home of its own."""
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "models").mkdir(parents=True)
    mamba(tmp_path / "home" / "models" / "tiny.gguf")
    return tmp_path / "home" / "models" / "tiny.gguf"


def test_the_engine_takes_the_profile_of_a_model_wherever_its_file_lies(model: Path, tmp_path: Path) -> None:
    cpu = LlamaCpu(model)
    assert (cpu.encoding, cpu.full_mask, cpu.manner) == ("prose", False, Manner())
    cpu.close()
    identity = gguf.identity(model)
    profiles.write(profiles.own(identity), Profile("Tiny", identity, "json", "worked", True))
    elsewhere = Path(shutil.copy(model, tmp_path / "elsewhere.gguf"))
    for path in (model, elsewhere):
        cpu = LlamaCpu(path)
        assert (cpu.encoding, cpu.full_mask, cpu.manner) == ("prose", True, Manner("json", "worked"))
        cpu.close()
    raw = bytearray(model.read_bytes())
    raw[-1] ^= 1
    model.write_bytes(raw)
    cpu = LlamaCpu(model)
    assert cpu.manner == Manner(), "another file"
    cpu.close()


def test_a_boot_with_a_damaged_profile_is_refused_in_one_line(model: Path) -> None:
    identity = gguf.identity(model)
    profiles.write(profiles.own(identity), Profile("Tiny", identity, "json", "worked", True))
    profiles.own(identity).write_text("full = maybe")
    with pytest.raises(BadInput, match="profile .*llmos profile") as refused:
        LlamaCpu(model)
    assert "\n" not in str(refused.value)


def test_probes_are_asked_of_a_model_on_a_real_machine_once_and_the_command_goes_on_where_it_stopped(
    model: Path,
) -> None:
    few = probes()
    asked: list[int] = []

    def make() -> making.Made:
        return making.make(
            "tiny",
            count=60,
            encodings=("prose",),
            manuals=("short",),
            kinds=("speak",),
            changes=("cpu.threads=1",),
            anew=False,
            out=None,
            tell=lambda what, done, total: asked.append(total),
        )

    book = making.Book(gguf.identity(model), ("cpu.threads=1",))
    way = Way("prose", "short")
    for kind, probe in list(few.of("choose", ("speak",)))[3:]:
        book.add(probe, making.Answer("choose", way, kind, probe.say, "hm", False))
    made = make()
    assert asked == [3, 3, 3], "the others had been answered"
    assert made.left == 6 * 60 - 12
    assert [(one.kind, one.n) for one in made.figures] == [("speak", 12)]
    assert make() == made
    assert len(asked) == 3, "nothing is asked twice"
    assert not profiles.own(gguf.identity(model)).exists(), "not all is answered"
    with pytest.raises(BadInput, match="no manner is chosen yet"):
        making.make("tiny", count=100, encodings=(), manuals=(), kinds=(), changes=(), anew=False, out=None, tell=print)


def test_a_profile_is_written_when_every_probe_of_every_manner_is_answered(model: Path, tmp_path: Path) -> None:
    book = making.Book(gguf.identity(model), ())
    for way in making.WAYS:
        for kind, probe in probes().of("choose"):
            book.add(probe, making.Answer("choose", way, kind, probe.say, "x", way == Way("json", "worked")))
    out = tmp_path / "out.toml"
    made = making.make(
        "tiny", count=60, encodings=(), manuals=(), kinds=(), changes=(), anew=False, out=out, tell=print
    )
    assert made.left == 0
    found = profiles.read(out)
    assert (found.file, found.encoding, found.manual, found.full) == (gguf.identity(model), "json", "worked", True)
    assert found.figures == made.figures
