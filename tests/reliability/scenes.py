"""What is broken off: commands in a folder with an artist's files, and how to tell that no file was lost."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unlearn_core.cli.console import read_stack
from unlearn_core.cli.main import main
from unlearn_core.delta.format import save
from unlearn_core.delta.merge import combine_cat
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import UnlearnError

from .child import Ended, Limits, forked

TEMPORARY, KEPT = ".unlearn-", ".unfinished"
"""Begin of the names of files that are not finished; end of the names of folders that hold work to go on from."""
QUICK = ("--set", "quality=quick", "--device", "cpu")
MODEL, FIRST, SECOND, OLDER = "model.safetensors", "banana.safetensors", "cat.safetensors", "older.safetensors"


@dataclass(frozen=True)
class Scene:
    """One command in a folder that holds a checkpoint and three deltas. replaced: the file that it may overwrite."""

    name: str
    arguments: tuple[str, ...]
    replaced: str = ""

    def run_in(self, folder: Path) -> int:
        """The command, as from a shell in that folder."""
        os.chdir(folder)
        return main(self.arguments)


SCENES = (
    Scene(
        "forget one",
        ("forget", "--checkpoint", MODEL, "--concept", "dog", "--out", "new/dog.safetensors", "--report", "new/r.json")
        + QUICK,
    ),
    Scene(
        "forget a list on a stack",
        ("forget", "--checkpoint", MODEL, "--concept", "dog, frog", "--stack", FIRST, "--out", "new/two.safetensors")
        + QUICK,
    ),
    Scene("merge over an older file", ("stack", FIRST, SECOND, "--out", OLDER), OLDER),
    Scene("bake", ("stack", FIRST, SECOND, "--into", MODEL, "--out", "baked/copy.safetensors")),
)


def prepare(folder: Path) -> None:
    """The artist's files: a checkpoint with what belongs to it, two deltas, and an older merge of them."""
    folder.mkdir(parents=True)
    demo = Path(CHECKPOINT)
    for source in demo.parent.glob(f"{demo.stem}.*"):
        shutil.copyfile(source, folder / source.name.replace(demo.stem, Path(MODEL).stem))
    shutil.copytree(demo.parent / "tokenizer", folder / "tokenizer")
    for name in (FIRST, SECOND):
        shutil.copyfile(demo.parent / "deltas" / f"forget_{name}", folder / name)
    save(combine_cat(read_stack([str(folder / name) + ":0.9" for name in (FIRST, SECOND)])), folder / OLDER)


def contents(folder: Path) -> dict[str, str]:
    """{name: sha256} of all files below a folder."""
    files = (f for f in folder.rglob("*") if f.is_file())
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def unfinished(folder: Path) -> list[str]:
    """Names of files and folders that a broken command left behind."""
    return sorted(f.name for f in folder.rglob(f"{TEMPORARY}*"))


@dataclass(frozen=True)
class Rehearsed:
    """A scene that has run once without disturbance. before, after: its folder's contents. ended: how it ended."""

    scene: Scene
    before: Mapping[str, str]
    after: Mapping[str, str]
    ended: Ended

    @classmethod
    def of(cls, scene: Scene, folder: Path) -> Rehearsed:
        """Run it in a new folder. Raises `UnlearnError` when it does not end well."""
        prepare(folder)
        before = contents(folder)
        ended = forked(lambda: scene.run_in(folder), log=folder.with_suffix(".log"))
        if ended.code:
            raise UnlearnError(f"'{scene.name}' does not even run undisturbed:\n{ended.text}")
        after = contents(folder)
        shutil.rmtree(folder)
        return cls(scene, before, after, ended)

    def losses(self, folder: Path) -> list[str]:
        """What a disturbed run did to the files, in words: each must be as before, or as after, or unfinished."""
        found, now = [], contents(folder)
        for name, digest in self.before.items():
            allowed = {digest, self.after[name]} if name == self.scene.replaced else {digest}
            if now.get(name) not in allowed:
                found.append(f"{name} was {'changed' if name in now else 'deleted'}")
        for name in now.keys() - self.before.keys():
            hidden = any(part.startswith(TEMPORARY) or part.endswith(KEPT) for part in Path(name).parts)
            if not hidden and not name.endswith(".json") and now[name] != self.after.get(name):
                found.append(f"{name} is {'half a file' if name in self.after else 'no file of this command'}")
        return found

    def once_more(self, folder: Path, limits: Limits) -> list[str]:
        """What is wrong after the same command has run again in that folder, undisturbed."""
        ended = forked(lambda: self.scene.run_in(folder), limits, folder.with_suffix(".log"))
        if ended.code:
            return [f"the same command then ends with {ended.code}: {ended.text.strip()[-200:]}"]
        now = contents(folder)
        other = [n for n, d in self.after.items() if not n.endswith(".json") and now.get(n) != d]
        return [f"{n} is not what an undisturbed run writes" for n in other] + [
            f"{n} is left behind" for n in [*unfinished(folder), *(f.name for f in folder.rglob(f"*{KEPT}"))]
        ]
