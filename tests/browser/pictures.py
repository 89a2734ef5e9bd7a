"""The pictures of README.md, of what the browser's tests saw last: `python -m tests.browser.pictures`."""

from __future__ import annotations

from typing import Final

from tests.browser.conftest import ROOT, SHOTS

PICTURES: Final = {"memory": "memory", "phone-memory-dark": "phone"}
BYTES_MAX: Final = 200_000


def main() -> None:
    """Write them to docs/pictures/."""
    target = ROOT / "docs" / "pictures"
    target.mkdir(exist_ok=True)
    for seen, name in PICTURES.items():
        picture = (SHOTS / f"{seen}.png").read_bytes()
        assert len(picture) < BYTES_MAX, f"{seen}: {len(picture)} bytes"
        (target / f"{name}.png").write_bytes(picture)


if __name__ == "__main__":
    main()
