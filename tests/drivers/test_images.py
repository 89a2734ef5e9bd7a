"""KV images as files: what is read back is what was saved, or nothing; quota; damage; kill -9 during a write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from drivers.cpu.kv.images import ImageStore
from drivers.cpu.kv.seats import Image
from kernel import failpoint

ONE, OTHER = b"1" * 16, b"2" * 16
QUOTA = 1 << 30


def image(seed: int, size: int = 3_000, tokens: int = 50) -> Image:
    rng = Random(seed)
    return Image([rng.randrange(50_000) for _ in range(tokens)], seed, bytearray(rng.randbytes(size)))


def same(one: Image | None, other: Image) -> bool:
    return one is not None and (one.tokens, one.common) == (other.tokens, other.common) and one.data == other.data


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    store = ImageStore(tmp_path / "kv", ONE, QUOTA)
    yield store
    store.close()


def again(store: ImageStore, tmp_path: Path, fingerprint: bytes = ONE, quota: int = QUOTA) -> ImageStore:
    store.close()
    return ImageStore(tmp_path / "kv", fingerprint, quota)


@pytest.mark.parametrize("size", [0, 1, 3_000, 5_000_001])
def test_an_image_comes_back_before_and_after_it_is_written_and_after_a_restart(
    store: ImageStore, tmp_path: Path, size: int
) -> None:
    saved = image(1, size)
    store.save(7, saved)
    assert same(store.load(7), saved)
    store.flush()
    assert same(store.load(7), saved)
    assert store.match(7, [*saved.tokens, 1]) == 50
    assert store.match(7, [*saved.tokens[:20], -1]) == 20
    assert store.match(8, saved.tokens) == 0
    store = again(store, tmp_path)
    assert (same(store.load(7), saved), store.dropped, store.load(8)) == (True, 0, None)
    store.close()


def test_the_last_one_saved_counts(store: ImageStore, tmp_path: Path) -> None:
    for n in range(20):
        store.save(1, image(n))
        store.save(2, image(100 + n))
    assert same(store.load(1), image(19))
    store = again(store, tmp_path)
    assert same(store.load(1), image(19))
    assert same(store.load(2), image(119))
    store.close()


def test_a_restored_image_may_be_written_to_without_changing_the_file(store: ImageStore) -> None:
    store.save(1, image(1))
    store.flush()
    loaded = store.load(1)
    assert loaded is not None
    memoryview(loaded.data)[:4] = b"\0\0\0\0"  # type: ignore[arg-type]
    assert same(store.load(1), image(1))


def test_images_of_another_fingerprint_are_dropped_and_counted(store: ImageStore, tmp_path: Path) -> None:
    for n in range(3):
        store.save(n + 1, image(n))
    store = again(store, tmp_path, OTHER)
    assert (store.dropped, store.load(1), os.listdir(tmp_path / "kv")) == (3, None, [])
    store.close()


def test_the_least_recently_used_go_when_the_quota_is_full(store: ImageStore, tmp_path: Path) -> None:
    store.save(1, image(1, 10_000))
    store.flush()
    (size,) = store.sizes().values()
    store = again(store, tmp_path, quota=3 * size)
    for n in (2, 3):
        store.save(n, image(n, 10_000))
        store.flush()
    assert store.load(1) is not None  # so 2 is the least recently used
    store.save(4, image(4, 10_000))
    store.flush()
    assert (sorted(store.sizes()), store.load(2)) == ([1, 3, 4], None)
    store.save(5, image(5, 4 * 10_000))  # larger than all that may be
    store.flush()
    assert (sorted(store.sizes()), store.lost) == ([1, 3, 4], 1)
    store = again(store, tmp_path, quota=size)
    assert (list(store.sizes()), len(os.listdir(tmp_path / "kv"))) == ([4], 1)
    store.close()


def test_a_child_finds_its_parents_image_and_keeps_it(store: ImageStore, tmp_path: Path) -> None:
    store.save(1, image(1))
    store.link(1, 2)
    store.flush()
    store.link(1, 3)
    store.link(9, 4)
    store.save(1, image(5))
    store.flush()
    store = again(store, tmp_path)
    assert [same(store.load(pid), image(1)) for pid in (2, 3)] == [True, True]
    assert same(store.load(1), image(5))
    assert store.load(4) is None
    store.close()


def test_what_is_expected_is_read_ahead(store: ImageStore) -> None:
    for pid in (1, 2):
        store.save(pid, image(pid))
    store.flush()
    for pid in (1, 2, 3):
        store.expect(pid)
    store.save(2, image(22))
    assert same(store.load(1), image(1))
    assert same(store.load(2), image(22))
    assert store.load(3) is None


@pytest.mark.parametrize("action", ["enospc", "eio"])
@pytest.mark.parametrize("point", ["image.before", "image.inside"])
def test_a_disk_that_fails_costs_the_image_and_nothing_else(store: ImageStore, action: str, point: str) -> None:
    store.save(1, image(1))
    store.flush()
    failpoint.arm(f"{point}={action}@1")
    try:
        store.save(1, image(2))
        store.save(2, image(3))
        store.flush()
    finally:
        failpoint.arm("")
    assert store.lost == 1
    assert same(store.load(2), image(3))
    assert store.load(1) is None or same(store.load(1), image(1))
    assert not [name for name in os.listdir(store._folder) if name.endswith(".new")]


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("a file")
    store = ImageStore(tmp_path / "kv", ONE, QUOTA)
    store.save(1, image(1))
    store.flush()
    assert (store.load(1), store.lost) == (None, 1)
    store.close()


def test_200_damaged_files_are_found_out(tmp_path: Path) -> None:
    """Flipped bytes, cut ends, exchanged parts, before and after a look at them: nothing wrong is ever given out."""
    rng, dropped, harmless = Random(11), 0, 0
    folder = tmp_path / "kv"
    for n in range(200):
        store = ImageStore(folder, ONE, QUOTA)
        saved = image(n, rng.choice([100, 3_000, 2_500_000]))
        store.save(1, saved)
        store.flush()
        late = rng.random() < 0.5
        if not late:
            store.close()
        path = folder / "1.kv"
        raw = bytearray(path.read_bytes())
        match rng.randrange(4):
            case 0:
                for _ in range(rng.randrange(1, 4)):
                    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            case 1:
                del raw[rng.randrange(len(raw)) :]
            case 2:
                at = rng.randrange(len(raw))
                raw[at : at + 512] = bytes(len(raw[at : at + 512]))
            case _:
                raw += rng.randbytes(rng.randrange(1, 600))
        if late:
            path.unlink()
        path.write_bytes(raw)
        if not late:
            store = ImageStore(folder, ONE, QUOTA)
        loaded = store.load(1)
        assert loaded is None or same(loaded, saved)
        harmless += loaded is not None
        dropped += store.dropped
        assert store.dropped == (loaded is None)
        assert path.exists() == (loaded is not None)
        store.drop(1)
        store.close()
    assert dropped + harmless == 200
    assert dropped > 190


WRITER = """
    import sys
    from pathlib import Path
    from kernel import failpoint
    from drivers.cpu.kv.images import ImageStore
    from tests.drivers.test_images import ONE, QUOTA, image
    store = ImageStore(Path(sys.argv[1]), ONE, QUOTA)
    if sys.argv[2] != "-":
        failpoint.arm(sys.argv[2])
    print("ready", flush=True)
    for n in range(10_000):
        store.save(n % 3, image(n, 400_000))
"""


@pytest.mark.parametrize("how", ["image.before", "image.inside", "image.after", "any time"])
def test_a_kill_while_images_are_written_leaves_whole_ones_or_none(tmp_path: Path, how: str) -> None:
    folder, rng = tmp_path / "kv", Random(5)
    for round_ in range(4):
        armed = "-" if how == "any time" else f"{how}=kill@{1 + 3 * round_}"
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(folder), armed]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            if how == "any time":
                try:
                    writer.wait(rng.uniform(0.01, 0.25))
                except subprocess.TimeoutExpired:
                    writer.kill()
            assert writer.wait(60) == -signal.SIGKILL
        store = ImageStore(folder, ONE, QUOTA)
        assert store.dropped == 0  # a process's death tears no file that has its name
        for pid in range(3):
            loaded = store.load(pid)
            if loaded is not None:
                assert same(loaded, image(loaded.common, 400_000))
                assert loaded.common % 3 == pid
        store.close()
        assert not [name for name in os.listdir(folder) if name.endswith(".new")]


def test_a_file_is_used_again_and_never_while_somebody_has_it(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "kv", ONE, QUOTA)
    images = {n: Image([n, n + 1, n + 2], 0, bytearray([n]) * 5_000) for n in range(1, 9)}

    def save(pid: int, n: int) -> int:
        store.save(pid, images[n])
        store.flush()
        return (tmp_path / "kv" / f"{pid}.kv").stat().st_ino

    old = save(1, 1)
    save(1, 2)
    assert save(2, 3) == old  # nobody had it
    assert same(store.load(1), images[2])
    held = store.load(2)
    save(2, 4)
    assert save(3, 5) != old
    assert same(held, images[3])
    linked = save(4, 6)
    store.link(4, 5)
    save(4, 7)
    assert save(6, 8) != linked
    assert same(store.load(5), images[6])
    del held
    store.close()
    again = ImageStore(tmp_path / "kv", ONE, QUOTA)
    assert sorted(again.sizes()) == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in (tmp_path / "kv").iterdir()) == [f"{n}.kv" for n in range(1, 7)]
    for pid, n in ((1, 2), (2, 4), (3, 5), (4, 7), (5, 6), (6, 8)):
        assert same(again.load(pid), images[n])
    again.close()


def test_what_the_writer_did_not_foresee_is_told_and_nobody_waits_for_ever(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = ImageStore._write
    raised: list[Exception] = [ValueError("a fault of ours"), OSError(28, "No space left on device")] * 2

    def failing(self: ImageStore, pid: int, what: Image) -> int:
        if raised:
            raise raised.pop(0)
        return write(self, pid, what)

    monkeypatch.setattr(ImageStore, "_write", failing)
    for pid in range(1, 6):
        store.save(pid, image(pid))
        store.flush()
    assert (store.lost, store.written) == (4, 1)
    assert same(store.load(5), image(5))
    assert store.load(1) is None
    said = capsys.readouterr().err
    assert said.count("a fault of ours; what it held is evaluated again") == 1
    assert said.count("Traceback") == 1
    assert said.count("No space left on device; what it held") == 1
