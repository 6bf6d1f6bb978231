"""docs/api.md: its example runs as it stands, and it names everything that the package gives."""

import re
from pathlib import Path

import unlearn_core
from unlearn_core import load

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "__main__"})
    out = capsys.readouterr().out
    assert "Result: not checked" in out and "concepts: banana, frog" in out
    assert [p.concept for p in load(tmp_path / "frog.safetensors").info.parents] == ["banana"]
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")
    assert load(tmp_path / "cat.safetensors").info.concept == "cat" and not (tmp_path / "unfinished").exists()


def test_every_public_name_is_on_the_page():
    assert [name for name in unlearn_core.__all__ if f"`{name}" not in PAGE] == []
