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


def reduced(package):
    """Whole runs of the demo model with a tenth of the pictures: for tests that are not about how well it forgets."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in FEW.items():
            patch.setattr(f"{package}.{name}", value)
        yield


@pytest.fixture(scope="module")
def few():
    yield from reduced("unlearn_core")


@pytest.fixture(scope="module")
def few_in_pack():
    """The same for the core as the hosts' package has it."""
    from tests.webui import pack

    pack.load("unlearn_core")
    yield from reduced(f"{pack.NAME}.unlearn_core")
