"""Runs a script of, or on top of, a ComfyUI tree without torchvision and torchaudio.

usage: python boot.py COMFYUI_FOLDER SCRIPT [arguments of the script]

ComfyUI's core imports both packages at load, for video, audio and detection models. Their builds must match torch's
to the letter, and in the tests' environment they would break transformers, so empty stand-ins take their place here.
"""

import importlib
import importlib.abc
import importlib.machinery
import runpy
import sys
import types
from pathlib import Path

ABSENT = ("torchvision", "torchaudio")


class Missing(type):
    """Its classes have every public attribute and fail when they are called."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *_, **__):
        raise RuntimeError("torchvision and torchaudio are stand-ins in the tests: this needs the real ones.")


class Thing(metaclass=Missing):
    """Whatever is imported from a stand-in."""


class StandIn(types.ModuleType):
    """A module with every public name in it."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Thing


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `torchvision`, `torchaudio` and everything below them."""

    def find_spec(self, name, path=None, target=None):
        """A spec for the absent packages, None for all others."""
        if name.split(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        """An empty module that has everything."""
        return StandIn(spec.name)

    def exec_module(self, module):
        """Nothing is in it."""


def install():
    """Put the stand-ins last, behind real packages, and keep transformers from counting them as installed."""
    from transformers.utils import is_torchaudio_available, is_torchvision_available

    # It remembers the first answer.
    is_torchaudio_available(), is_torchvision_available()
    sys.meta_path.append(StandIns())


if __name__ == "__main__":
    root, script, *arguments = sys.argv[1:]
    install()
    # In place of this file's folder, whose server.py would hide ComfyUI's.
    sys.path[0] = str(Path(root).resolve())
    # ComfyUI's nodes.py puts a folder with another `utils` in front of the right one.
    importlib.import_module("utils")
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
