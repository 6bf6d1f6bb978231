"""Keeps every test to two threads at most, and runs to few pictures where a test asks for it."""

import pytest
import torch

torch.set_num_threads(min(2, torch.get_num_threads()))

FEW = {
    "train.FORGET_PROMPTS": {"object": 4, "style": 4},
    "benchmark.student.FORGET_PROMPTS": {"object": 4, "style": 4},
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


@pytest.fixture(scope="module")
def few():
    """Whole runs of the demo model with a tenth of the pictures: for tests that are not about how well it forgets."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in FEW.items():
            patch.setattr(f"unlearn_core.{name}", value)
        yield
