"""What known clients need to reach a machine over HTTP, as their own settings: `llmos launch`.

Each is the smallest file, or the lines of a shell, by which that client finds the machine's models; what else stands
in such a file is the user's. docs/clients.md says which versions were tried, and how.
Not here: how a machine is served (drivers/door/http), where the token is from (drivers/door/http/token.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, NamedTuple

KEY: Final = "llmos"  # what clients call the token


class Reach(NamedTuple):
    """Where a machine is, what lets a client in, and which models it is to find."""

    url: str
    token: str
    models: tuple[str, ...]

    @property
    def base(self) -> str:
        """Of OpenAI's protocol."""
        return f"{self.url}/v1"


class Client(NamedTuple):
    """A client: its name for people, where its settings lie by themselves, and what they are."""

    title: str
    place: str
    settings: Callable[[Reach], str]


def _quoted(text: str) -> str:
    """A text as YAML and JSON have it."""
    return json.dumps(text, ensure_ascii=False)


def _llm(to: Reach) -> str:
    rows = [f'# llm keys set {KEY} --value "$(llmos token)"']
    for model in to.models:
        name = f"{KEY}-{model}".replace(":", "-")
        rows += [
            f"- model_id: {_quoted(name)}",
            f"  model_name: {_quoted(model)}",
            f"  api_base: {_quoted(to.base)}",
            f"  api_key_name: {KEY}",
            "  supports_tools: true",
            "  supports_schema: true",
        ]
    return "\n".join(rows)


def _open_webui(to: Reach) -> str:
    return "\n".join(
        (
            f"export OPENAI_API_BASE_URL={_quoted(to.base)}",
            f"export OPENAI_API_KEY={_quoted(to.token)}",
            "export ENABLE_OLLAMA_API=false",
            "export ENABLE_FORWARD_USER_INFO_HEADERS=true  # its chats have ids, so that two which begin alike are two",
        )
    )


def _librechat(to: Reach) -> str:
    named = ", ".join(map(_quoted, to.models))
    return "\n".join(
        (
            "version: 1.2.1",
            "endpoints:",
            "  custom:",
            f"    - name: {KEY}",
            f"      apiKey: {_quoted(to.token)}",
            f"      baseURL: {_quoted(to.base)}",
            f"      models: {{default: [{named}], fetch: true}}",
            "      titleConvo: true",
            '      titleModel: "current_model"',
            f"      modelDisplayLabel: {KEY}",
        )
    )


def _continue(to: Reach) -> str:
    rows = [f"name: {KEY}", "version: 1.0.0", "schema: v1", "models:"]
    for model in to.models:
        rows += [
            f"  - name: {_quoted(f'{KEY} {model}')}",
            "    provider: openai",
            f"    model: {_quoted(model)}",
            f"    apiBase: {_quoted(to.base)}",
            f"    apiKey: {_quoted(to.token)}",
            "    roles: [chat]",
        ]
    return "\n".join(rows)


def _zed(to: Reach) -> str:
    models = [{"name": model, "display_name": f"{KEY} {model}", "max_tokens": 8192} for model in to.models]
    own = {"api_url": to.base, "available_models": models}
    return json.dumps({"language_models": {"openai_compatible": {KEY: own}}}, indent=2, ensure_ascii=False)


CLIENTS: Final[dict[str, Client]] = {
    "openwebui": Client("Open WebUI", "the environment of its server", _open_webui),
    "llm": Client("llm", "extra-openai-models.yaml, in the folder that `llm logs path` names", _llm),
    "librechat": Client("LibreChat", "librechat.yaml", _librechat),
    "continue": Client("Continue", "~/.continue/config.yaml", _continue),
    "zed": Client("Zed", "~/.config/zed/settings.json; the token goes into LLMOS_API_KEY", _zed),
}
"""By name."""
