"""Boots and checkpoints: what goes on, what begins anew, and what another window does to a process."""

import pytest

from drivers.cpu.scripted import echo
from tests.fakes import Rig


def test_a_window_too_small_is_refused_with_the_sum() -> None:
    with pytest.raises(AssertionError, match="the window is too small: window 512 - text 0 - data"):
        Rig(echo, "window=512", "cpu.reply=400")
