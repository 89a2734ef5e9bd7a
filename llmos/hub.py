"""Models of the Hugging Face hub, by its own library: which file of a repository is meant, and where its bytes are.

`hf:OWNER/REPO` is the repository's model of the first quantisation in PREFERRED that it has, `hf:OWNER/REPO:QUANT` that
of QUANT, or of a file name: one file, or all parts of it. The library waits, tries again, and knows tokens (HF_TOKEN)
and mirrors (HF_ENDPOINT).
Not here: the download (models.py), for the library's own begins anew when it is broken off. The library is imported
when a model is pulled from the hub.
"""

from __future__ import annotations

import os
import re
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from drivers.cpu import gguf
from kernel.errors import BadInput

SCHEME: Final = "hf:"
PREFERRED: Final = ("Q4_K_M", "Q4_0", "Q4_1", "Q5_K_M", "Q8_0", "F16", "BF16")
SPEC: Final = re.compile(r"hf:([\w.-]+/[\w.-]+)(?::([\w.-]+))?")
PARTS_MAX: Final = 1_000  # of a model
SHOWN: Final = 12  # quantisations that a refusal names


class Chosen(msgspec.Struct, frozen=True):
    """A file of a repository at one of its versions; `sha256` "" where the hub does not state it."""

    repository: str
    file: str
    version: str
    bytes: int
    sha256: str


def choose(spec: str) -> list[Chosen]:
    """The files of the model that a name like `hf:OWNER/REPO:QUANT` means, in order. Asks the hub. Raises BadInput."""
    named = SPEC.fullmatch(spec)
    if named is None:
        raise BadInput(f"pull {spec}: hf:OWNER/REPO or hf:OWNER/REPO:QUANT is wanted")
    repository, wanted = named[1], named[2] or ""
    hub = _library(spec)
    try:
        info = hub.HfApi(endpoint=_endpoint()).model_info(repository, files_metadata=True)
    except Exception as exc:  # of requests, of the library, of what the hub sent
        raise _refusal(spec, exc) from exc
    files = {one.rfilename: one for one in info.siblings or () if one.rfilename.lower().endswith(".gguf")}
    known = _models([name for name in files if "mmproj" not in name.lower()])
    chosen = known[_meant(spec, list(known), wanted)]
    if missing := [name for name in chosen if name not in files]:
        raise BadInput(f"pull {spec}: the repository lacks {missing[0]}, of {len(chosen)} parts; it is of no use")
    found = []
    for one in map(files.__getitem__, chosen):
        lfs = getattr(one, "lfs", None)
        sha256 = lfs.sha256 if lfs else ""
        found.append(Chosen(repository, one.rfilename, info.sha or "main", one.size or 0, sha256))
    return found


def _models(names: list[str]) -> dict[str, list[str]]:
    """The files of each model among `names`, by the name of its one file, or by what those of its parts share."""
    found: dict[str, list[str]] = {}
    for name in names:
        part = gguf.PART.fullmatch(name)
        if part is None or int(part[3]) < 2:
            found[name] = [name]
        elif 0 < int(part[2]) <= int(part[3]) <= PARTS_MAX:
            found[f"{part[1]}.gguf"] = [gguf.part(name, number) for number in range(1, int(part[3]) + 1)]
    return found


def _meant(spec: str, names: list[str], wanted: str) -> str:
    """The name among `names` that is wanted, or preferred. Raises BadInput if there is none."""
    if not names:
        raise BadInput(f"pull {spec}: the repository has no GGUF file")
    for quantisation in (wanted,) if wanted else PREFERRED:
        if wanted in names:
            return wanted
        ends = re.compile(rf"(^|[-._/]){re.escape(quantisation)}(\.gguf)?$", re.IGNORECASE)
        if fitting := sorted(name for name in names if ends.search(name.removesuffix(".gguf"))):
            return fitting[0]
    if not wanted and len(names) == 1:
        return names[0]
    shown = ", ".join(sorted(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    what = f"no file of {wanted}" if wanted else f"none of {', '.join(PREFERRED)}"
    raise BadInput(f"pull {spec}: the repository has {what}; it has {shown}")


def located(spec: str, chosen: Chosen) -> tuple[str, dict[str, str]]:
    """Where the file's bytes are now, and the headers to ask with: the user's token goes to the hub alone."""
    hub = _library(spec)
    endpoint = _endpoint()
    try:
        url = hub.hf_hub_url(chosen.repository, chosen.file, revision=chosen.version, endpoint=endpoint)
        place = hub.get_hf_file_metadata(url, endpoint=endpoint).location
        own = urlsplit(place).netloc == urlsplit(url).netloc
        return place, hub.utils.build_hf_headers() if own else {}
    except Exception as exc:  # of requests, of the library, of what the hub sent
        raise _refusal(spec, exc) from exc


def _library(spec: str) -> Any:
    try:
        import huggingface_hub.utils
    except ImportError as exc:
        raise BadInput(f"pull {spec}: it needs the hub's library: pip install 'llmos[hub]'") from exc
    library: Any = huggingface_hub
    library.utils.logging.set_verbosity_error()
    return library


def _endpoint() -> str | None:
    """The mirror that the user has chosen."""
    return os.environ.get("HF_ENDPOINT") or None


def _refusal(spec: str, exc: Exception) -> BadInput:
    """What went wrong, with what can be done."""
    status = getattr(getattr(exc, "response", None), "status_code", 0)
    if status == 401:
        why = "the hub knows no such repository, or it is private; check the name, or log in (HF_TOKEN)"
    elif status == 403:
        why = "the repository asks for consent to its licence; give it on its page, and set HF_TOKEN"
    elif status == 404:
        why = "the hub knows no such repository or file; check the name"
    elif status == 429:
        why = "the hub wants fewer requests; try again later"
    else:
        why = f"{type(exc).__name__}: {exc}"[:300] + "; check the network, and pull again to go on"
    return BadInput(f"pull {spec}: {why}")
