"""What several tests of the tab need."""

import os

import pytest

OPENER = """#!/bin/sh
printf '%s\\n' "$#" "$1" > "$(dirname "$0")/asked"
exit {code}
"""


@pytest.fixture
def opener(tmp_path, monkeypatch):
    """A function that puts a file manager into PATH which ends with a code; what it was asked is in the file given."""

    def make(code=0, name="xdg-open"):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / name).write_text(OPENER.format(code=code))
        (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return folder / "asked"

    return make
