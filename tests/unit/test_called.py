"""The command that is named to be typed next."""

import pytest

from unlearn_core.cli.called import called


@pytest.mark.parametrize(
    ("program", "python", "first", "wanted"),
    [
        ("/env/bin/unlearn", "/env/bin/python", None, "unlearn"),
        ("/x/unlearn_core/__main__.py", "HERE/.venv/bin/python", None, ".venv/bin/python -m unlearn_core"),
        ("/x/unlearn_core/__main__.py", "/env/bin/python", "/env/bin/python", "python -m unlearn_core"),
        ("/x/unlearn_core/__main__.py", "/env/bin/python", "/usr/bin/python", "/env/bin/python -m unlearn_core"),
        ("/x/unlearn_core/__main__.py", "/my env/bin/python", None, '"/my env/bin/python" -m unlearn_core'),
    ],
)
def test_the_command_works_when_it_is_typed(monkeypatch, tmp_path, program, python, first, wanted):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [program])
    monkeypatch.setattr("sys.executable", python.replace("HERE", str(tmp_path)))
    monkeypatch.setattr("shutil.which", lambda name: first)
    assert called() == wanted
