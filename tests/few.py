"""Whole runs of the demo model with a tenth of the pictures, for tests that are not about how well it forgets."""

from contextlib import contextmanager

import pytest

FEW = {
    "train.FORGET_PROMPTS": {"object": 4, "style": 4},
    "benchmark.student.FORGET_PROMPTS": {"object": 4, "style": 4},
    "train.SENTENCES": {"object": 4, "style": 4},
    "train.JUDGED": 6,
    "train.PROBED": 2,
    "train.KEPT_NEAR": 2,
    "train.KEPT_FAR": 1,
    "choice.SIEVE": 4,
    "choice.LEVELS": 4,
    "judge.ROUNDS": 1,
    "judge.LEVELS": (0.3, 0.7),
    "replay.NEAR": 2,
    "replay.FAR": 4,
}
"""Counts of prompts, pictures and noise levels in place of the product's own."""


@contextmanager
def reduced(package):
    """The core that is imported as `package` with these counts, for the length of a block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in FEW.items():
            patch.setattr(f"{package}.{name}", value)
        yield
