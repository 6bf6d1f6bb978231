"""Checkpoint files without a host."""

from .model import StandaloneModel

__all__ = ["StandaloneModel"]
