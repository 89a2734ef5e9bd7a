"""A scenario in real time, on a real model, LMDB and index, with every fault there is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.gguf, pytest.mark.slow]

FAULTS = """
title = "Faults"
teaches = "Everything that can go wrong does, and all that was accepted is answered."
until = "20s"

[processes.a]
does = "echo"

[[events]]
name = "first"
at = "500ms"
to = ["a"]
say = "Please tell me what the colour of the sky is."

[[events]]
after = "first"
stall = "1s"

[[events]]
at = "4s"
fails = 1

[[events]]
at = "4500ms"
to = ["a"]
say = "And what is the capital of France?"

[[events]]
at = "8s"
slow = "500ms"
lasts = "1s"

[[events]]
at = "8200ms"
to = ["a"]
raise = "device"
text = "the door bell rings"

[[events]]
at = "12s"
cut = "1s"

[[events]]
at = "12500ms"
to = ["a"]
say = "Nobody hears this."

[[events]]
at = "16s"
to = ["a"]
say = "Are you back?"

[[expect]]
count = { what = "boot" }
is = 2

[[expect]]
count = { what = "refused" }
is = 1

[[expect]]
order = [
  { what = "delivered", line = "user", text = "sky" },
  { what = "said" },
  { what = "error", text = "fails" },
  { what = "said" },
  { what = "delivered", line = "device" },
  { what = "cut" },
  { what = "delivered", line = "user", text = "back" },
]
"""


def test_faults_on_a_real_machine(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text(FAULTS)
    command = [sys.executable, "-m", "llmos", "run", str(file), "--cpu", "smollm2-135m", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    found = json.loads(done.stdout)
    assert found["ok"], found["broken"]
    assert done.returncode == 0
    assert found["interrupts"]["device"]["delivered"] == 1
