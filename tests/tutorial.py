"""Fills the console blocks of docs/scenarios.md with what their commands print: `make docs`; a test compares.

A toml block that has a title is the scenario from there on; one without is added to it for the next command alone, and
a comment `<!-- old -> new -->` edits it for the next command alone. A python block is tea.py from there on.
"""

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "scenarios.md"
BLOCK = re.compile(
    r"```toml\n(?P<toml>.*?)```|```python\n(?P<python>.*?)```|<!-- (?P<old>.*?) -> (?P<new>.*?) -->"
    r"|```console\n\$ (?P<command>.*?)\n.*?```",
    re.S,
)


def filled(page: str) -> str:
    """The page with its outputs made anew."""
    base = text = script = ""

    def block(found: re.Match[str]) -> str:
        nonlocal base, text, script
        if found["toml"] is not None:
            if "title =" in found["toml"]:
                base = text = found["toml"]
            else:
                text = f"{base}\n{found['toml']}"
        elif found["python"] is not None:
            script = found["python"]
        elif found["old"] is not None:
            assert found["old"] in base
            text = base.replace(found["old"], found["new"])
        else:
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "tea.toml").write_text(text)
                (Path(folder) / "tea.py").write_text(script)
                words = shlex.split(found["command"])
                command = [sys.executable, *(words[1:] if words[0] == "python" else ["-m", *words])]
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            text = base
            return f"```console\n$ {found['command']}\n{done.stdout}{done.stderr}```"
        return found[0]

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
