"""`llmos bench templates`: a file of templates in, what became of each out; and the file in the data folder, if any."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.commands import bench
from bench.templates import Source, file_of, measured, sources
from kernel.errors import BadInput

pytest.importorskip("jinja2", reason="the llama CPU is an extra")

DATA = Path(os.environ.get("LLMOS_DATA") or "absent")
TURNS = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
ASKED = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %}"
)
WANTED = {
    "plain": TURNS + ASKED,
    "dated": "<|system|>Today is {{ strftime_now('%d') }}. Hello.<|end|>" + TURNS + ASKED,
    "alternates": TURNS.replace("{% for m in messages %}", ALTERNATE) + ASKED,
    "no sum": TURNS.replace("m.content", "m.content | upper"),
    "unreadable": "{% nonsense %}<|im_start|><|im_end|>",
    "endless": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
}


def test_each_template_is_derived_named_or_refused_with_what_is_to_say() -> None:
    found = measured([Source(name, template) for name, template in WANTED.items()])
    by_name = {one.name: one for one in found.templates}
    assert {name: (one.status, one.frame, one.equal) for name, one in by_name.items()} == {
        "plain": ("derived", "own", True),
        "dated": ("derived", "own", True),
        "alternates": ("derived", "own", True),
        "no sum": ("refused", None, None),
        "unreadable": ("named", "chatml", False),
        "endless": ("refused", None, None),
    }
    assert "date" in by_name["dated"].why
    assert by_name["alternates"].declined["two users in a row"] == "no"
    assert "it puts down no text" in by_name["no sum"].why
    assert "unchecked" in by_name["unreadable"].why
    assert by_name["endless"].why
    assert (found.framed, found.derived, found.named, found.refused, found.equal) == (4, 3, 1, 2, 3)


def test_the_command_prints_a_table_or_json_and_ends_with_1_if_a_frame_differs(tmp_path: Path) -> None:
    path = tmp_path / "templates" / "templates.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"name": n, "template": WANTED[n]}) + "\n" for n in ("plain", "no sum")))
    ran = CliRunner().invoke(bench, ["templates", "--data", str(tmp_path), "--json"], standalone_mode=False)
    assert not ran.return_value
    said = json.loads(ran.output)
    assert [said[key] for key in ("framed", "refused", "equal")] == [1, 1, 1]
    assert {"name", "status", "frame", "why", "equal", "differs"} <= said["templates"][0].keys()
    with path.open("a") as out:
        out.write(json.dumps({"name": "unreadable", "template": WANTED["unreadable"]}))
    ran = CliRunner().invoke(bench, ["templates", "--data", str(path)], standalone_mode=False)
    assert ran.return_value == 1
    assert "3 templates: 2 framed, 1 equal, 1 refused" in ran.output


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has 0 templates"),
        ("{}\n", "template 1: .*missing"),
        ('{"name": "a", "template": "x"}\nno', "template 2: "),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(text)
    with pytest.raises(BadInput, match=why) as caught:
        sources(path)
    assert "\n" not in str(caught.value)


def test_the_file_is_found_where_data_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMOS_DATA", raising=False)
    with pytest.raises(BadInput, match="LLMOS_DATA"):
        file_of(None)
    with pytest.raises(BadInput, match=r"has no templates/templates\.jsonl"):
        file_of(tmp_path)
    path = tmp_path / "templates.jsonl"
    path.touch()
    monkeypatch.setenv("LLMOS_DATA", str(tmp_path))
    assert file_of(None) == file_of(path) == path


@pytest.mark.skipif(not (DATA / "templates").is_dir(), reason="LLMOS_DATA names no folder with chat templates")
def test_of_the_templates_that_people_run_most_are_framed_and_all_that_are_are_equal() -> None:
    found = measured(sources(file_of(DATA)))
    assert found.framed >= 0.9 * len(found.templates)
    assert [one.name for one in found.templates if one.equal is False] == []
    assert all(one.why for one in found.templates if one.status == "refused")
