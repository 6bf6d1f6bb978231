"""What a pass keeps, plans that fit a budget, and going on with a smaller plan when the memory is full."""

import platform

import pytest
import torch

from benchmarks.memory import status_mb
from tests.test_forget import config
from tests.tiny import TinyHost
from unlearn_core import UnlearnError, forget
from unlearn_core.device_memory import GIB, ON_A_CPU, Frugal, release
from unlearn_core.method.training.memory import Cost, Pace, measure, plans
from unlearn_core.sampling import noise


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of passes too small to share: on a busy machine two threads would wait for each other for minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def full(*_):
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap of glibc")
def test_what_the_heap_holds_goes_back_to_the_system():
    small = [torch.ones(16_000) for _ in range(4000)]
    pin, filled = small.pop(), status_mb("VmRSS")  # the last one keeps the heap from shrinking by itself
    del small
    release(torch.device("cpu"))
    assert filled - status_mb("VmRSS") > 200 and pin.sum() == 16_000


def test_a_counted_pass_keeps_what_autograd_keeps():
    layer = torch.nn.Linear(4, 4).requires_grad_(False)
    x = torch.zeros(8, 4, requires_grad=True)
    # sigmoid keeps its result, the frozen layer only its own weight
    assert measure(lambda: layer(x).sigmoid(), layer).kept == 8 * 4 * 4


def test_plans_go_from_fast_to_small_and_keep_the_batch():
    made = plans(Cost(GIB, GIB // 8, 0), 8, 0, False, companions=2 * GIB)
    assert (made[0].pairs, made[0].passes, made[0].checkpointing, made[0].offload) == (8, 1, False, False)
    assert (made[-1].pairs, made[-1].passes, made[-1].checkpointing, made[-1].offload) == (1, 8, True, True)
    assert all(p.pairs * p.passes >= 8 for p in made)
    assert all(p.checkpointing for p in plans(Cost(1, 1, 1), 8, 0, True, 0))


@pytest.mark.parametrize("gib, pairs, again", [(100, 8, False), (11, 4, False), (3, 1, False), (1, 1, True)])
def test_the_first_plan_that_fits_is_taken(gib, pairs, again):
    plan = Pace(TinyHost(), plans(Cost(GIB, GIB // 8, 0), 8, 0, False, 0), gib * GIB).plan
    if again:
        assert plan.checkpointing and plan.needed <= gib * GIB
    else:
        assert (plan.pairs, plan.checkpointing) == (pairs, False)
    assert f"of {gib:.1f} GiB" in plan.sentence()


def test_a_full_memory_leads_to_smaller_plans_and_an_end_in_words():
    pace, undone = Pace(TinyHost(), plans(Cost(GIB, GIB // 8, 0), 4, 0, False, 0), None), []
    tried = []

    def step(plan):
        tried.append(plan.needed)
        return "done" if len(tried) == 3 else full()

    assert pace.attempt(step, lambda: undone.append(1)) == "done"
    assert tried == sorted(tried, reverse=True) and len(set(tried)) == 3 and len(undone) == 2
    with pytest.raises(UnlearnError, match="smaller resolution"):
        pace.attempt(full, lambda: None)
    with pytest.raises(RuntimeError, match="other"):
        pace.attempt(lambda _: (_ for _ in ()).throw(RuntimeError("other")), lambda: None)


class Crowded(TinyHost):
    """Has room for three rows."""

    largest = 0

    def denoise(self, x, sigma, conditioning):
        self.largest = max(self.largest, len(x))
        return full() if len(x) > 3 else super().denoise(x, sigma, conditioning)


def test_passes_without_gradient_are_split_until_they_fit():
    plain, crowded = TinyHost(), Crowded()
    x, sigma, c = noise((7, *plain.latent_shape), 0, plain.device), plain.sigmas[:7] + 1, plain.encode(["a"] * 7)
    frugal = Frugal(crowded)
    with torch.no_grad():
        assert torch.allclose(frugal.denoise(x, sigma, c), plain.denoise(x, sigma, c), atol=1e-6)
    assert frugal.rows <= 3
    with torch.no_grad():
        Frugal(fresh := Crowded(), rows=2).denoise(x, sigma, c)
    assert fresh.largest == 2


def test_a_cpu_takes_no_more_rows_than_save_time():
    host = TinyHost()
    made = plans(Cost(0, 0, 0), 4, 0, False, 0)
    assert Pace(host, made, None).rows == Pace(host, made, 20 * ON_A_CPU, 10).rows == ON_A_CPU
    assert Pace(host, made, 70, 10).rows == 7
    host.device = torch.device("cuda")
    assert Pace(host, made, None).rows is None
    assert Pace(host, made, 20 * ON_A_CPU, 10).rows == 2 * ON_A_CPU


def test_a_run_survives_a_full_memory_and_keeps_its_batch():
    host = Crowded()
    crowded, plain = forget(host, config()), forget(TinyHost(), config())
    assert crowded.report["steps"] == plain.report["steps"]
    assert "2 passes of 1" in crowded.report["memory"] and "one pass of 2" in plain.report["memory"]
    for name, factor in plain.delta.factors.items():
        assert torch.allclose(factor.up, crowded.delta.factors[name].up, atol=1e-4)
