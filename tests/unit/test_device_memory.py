"""Memory of a device: what is free, what is given back, and passes that are split until they fit."""

import platform
from types import SimpleNamespace

import pytest
import torch

from benchmarks.memory import status_mb
from tests.tiny import TinyHost
from unlearn_core import Stack, device_memory
from unlearn_core.device_memory import (
    ON_A_CPU,
    SmallPasses,
    free_bytes,
    is_out_of_memory,
    is_tight,
    release,
    small_passes,
    weight_bytes,
)
from unlearn_core.preview import pictures
from unlearn_core.sampling import Sampler, noise


def full(*_):
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap of glibc")
def test_what_the_heap_holds_goes_back_to_the_system():
    small = [torch.ones(16_000) for _ in range(4000)]
    pin, filled = small.pop(), status_mb("VmRSS")  # the last one keeps the heap from shrinking by itself
    del small
    release(torch.device("cpu"))
    assert filled - status_mb("VmRSS") > 200 and pin.sum() == 16_000


class Crowded(TinyHost):
    """Has room for three rows."""

    largest = 0

    def denoise(self, x, sigma, conditioning):
        self.largest = max(self.largest, len(x))
        return full() if len(x) > 3 else super().denoise(x, sigma, conditioning)


def test_passes_without_gradient_are_split_until_they_fit():
    plain, crowded = TinyHost(), Crowded()
    x, sigma, c = noise((7, *plain.latent_shape), 0, plain.device), plain.sigmas[:7] + 1, plain.encode(["a"] * 7)
    small = SmallPasses(crowded)
    with torch.no_grad():
        assert torch.allclose(small.denoise(x, sigma, c), plain.denoise(x, sigma, c), atol=1e-6)
    assert small.rows <= 3
    with torch.no_grad():
        SmallPasses(fresh := Crowded(), rows=2).denoise(x, sigma, c)
    assert fresh.largest == 2


def test_passes_with_gradient_are_never_split_and_their_errors_are_raised():
    crowded = Crowded()
    x = noise((7, *crowded.latent_shape), 0, crowded.device).requires_grad_()
    with pytest.raises(RuntimeError, match="out of memory"):
        SmallPasses(crowded).denoise(x, crowded.sigmas[:7], crowded.encode(["a"] * 7))
    assert crowded.largest == 7


def test_a_single_row_that_does_not_fit_is_an_error_and_others_are_not_hidden():
    host = TinyHost()
    row = noise((1, *host.latent_shape), 0, host.device), host.sigmas[:1], host.encode(["a"])
    host.denoise = full
    with torch.no_grad(), pytest.raises(RuntimeError, match="out of memory"):
        SmallPasses(host).denoise(*row)
    host.denoise = lambda *_: 1 / 0
    with torch.no_grad(), pytest.raises(ZeroDivisionError):
        SmallPasses(host).denoise(*row)


def test_all_else_is_the_hosts_own():
    host = SimpleNamespace(offload=False, name="x")
    small = SmallPasses(host)
    small.offload = True
    assert host.offload is small.offload is True and small.name == "x"


def test_pictures_are_drawn_in_passes_that_fit():
    plain, crowded = TinyHost(), Crowded()
    prompts = ["a cat", "a dog", "a car", "a frog", "a pear"]
    wanted, found = (pictures(Sampler(host, 2), Stack(), prompts) for host in (plain, crowded))
    assert torch.allclose(found, wanted, atol=1e-5)
    assert crowded.largest == 2 * len(prompts), "as large as it was asked for, and then half of it"


def test_outside_a_run_passes_are_split_once_and_on_a_cpu_at_what_saves_time():
    small = small_passes(TinyHost())
    assert small.rows == ON_A_CPU and small_passes(small) is small
    assert small_passes(SimpleNamespace(device=torch.device("cuda"))).rows is None


@pytest.mark.parametrize(
    "error, full",
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: 9 bytes."),
            True,
        ),
        (RuntimeError("Invalid buffer size: 23.50 GB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB, max allowed: 9 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_the_memory_is_full(error, full):
    assert is_out_of_memory(error) == full


def test_weights_are_counted_with_buffers():
    layer = torch.nn.Linear(3, 2).half()
    layer.register_buffer("x", torch.zeros(4))
    assert weight_bytes([layer, torch.nn.Linear(1, 1)]) == 2 * (6 + 2) + 4 * 4 + 4 * 2


def test_free_memory_of_a_card_is_asked_for_by_its_number(monkeypatch):
    """torch 2.1 to 2.3 refuse the device "cuda", which names none."""
    free = {0: 3, 1: 5}
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: {0: 20, 1: 40}[index])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda index: {0: 10, 1: 10}[index])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], 100))
    assert free_bytes(torch.device("cuda")) == 35 and free_bytes(torch.device("cuda", 0)) == 13


def test_free_memory_of_a_cpu_and_networks_that_fill_half_of_a_card(monkeypatch):
    assert free_bytes(torch.device("cpu")) > 2**20 and free_bytes(torch.device("meta")) is None
    layer, card = torch.nn.Linear(10, 10, bias=False), torch.device("cuda")
    for free, tight in ((799, True), (800, False), (None, False)):
        monkeypatch.setattr(device_memory, "free_bytes", lambda _: free)  # noqa: B023
        assert is_tight([layer], card) == tight
        assert not is_tight([layer], torch.device("cpu"))
