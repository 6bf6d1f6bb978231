"""What is missing before this state of the repository can be published: `python install.py release`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Trouble(Exception):
    """The check could not be made; the message says what to do."""


def release() -> int:
    """Say what is missing before this state of the repository can be published; 1 if anything is."""
    try:
        missing = unpublishable()
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    for sentence in missing:
        print(f"missing: {sentence}")
    if not missing:
        print("Nothing is missing. To publish: comfy node publish")
    return 1 if missing else 0


def unpublishable() -> list[str]:
    """What a registry or a reader of the release would miss, as sentences."""
    if sys.version_info < (3, 11):
        raise Trouble("pyproject.toml can be read with Python 3.11 or newer: run this with one of those.")
    import tomllib

    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    number = pyproject["project"]["version"]
    newest = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    done = {
        "Repository under [project.urls] in pyproject.toml.": pyproject["project"].get("urls", {}).get("Repository"),
        "PublisherId under [tool.comfy] in pyproject.toml.": pyproject["tool"]["comfy"].get("PublisherId"),
        f"'## {number} - YYYY-MM-DD' as the first heading of CHANGELOG.md.": newest
        and re.fullmatch(rf"{re.escape(number)} - \d{{4}}-\d\d-\d\d", newest[1]),
        f"the tag v{number} at this commit: git tag v{number}": f"v{number}" in git("tag", "--points-at", "HEAD"),
        "a commit of what was changed since the last one.": git("status", "--porcelain") == [],
    }
    return [sentence for sentence, there in done.items() if not there]


def git(*arguments: str) -> list[str]:
    """The lines that git prints about this repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        raise Trouble("git was not found: install it, then run this again.") from None
    if done.returncode:
        raise Trouble(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.splitlines()


if __name__ == "__main__":
    sys.exit(release())
