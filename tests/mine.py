"""The policy that docs/policy.md builds: its code, as it stands there."""

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[1] / "docs" / "policy.md"
(SOURCE,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
COMMANDS: Final = re.findall(r"^\$ llmos (.*)$", PAGE.read_text(), re.M)
