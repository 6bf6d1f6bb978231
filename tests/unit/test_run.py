"""An open run: the student, the base model and the model before, and everything undone at its end."""

from contextlib import nullcontext

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, config, opened, run, stack_on, state_of
from tests.unit.test_text_search import Joint
from unlearn_core import Stack, UnlearnError
from unlearn_core.method.adapters import attached
from unlearn_core.method.request import Request
from unlearn_core.method.run import key_of
from unlearn_core.recipe import SMALL

FACTORS = {"blocks.0.attn2.to_k": (torch.ones(1, 16), torch.ones(16, 1))}


@torch.no_grad()
def answers(host):
    x = torch.linspace(-1, 1, 64).view(1, *host.latent_shape)
    return host.denoise(x, host.sigmas[[60]], host.encode(["a cat"]))


def test_the_teacher_is_the_base_model_whatever_is_learned_and_stacked():
    host = TinyHost()
    stack, base = stack_on(host, {"concept": "frog"}, size=1.0), answers(host)
    with opened(host, config(), stack, SMALL) as run:
        stacked = answers(run.host)
        run.edits.set(FACTORS)
        edited = answers(run.host)
        with run.teacher():
            assert torch.allclose(answers(run.host), base, atol=1e-4)
        with run.student.off():
            assert torch.equal(answers(run.host), stacked)
        with run.base.shown(), run.student.off():
            assert torch.allclose(answers(run.host), base, atol=1e-4)
        assert torch.equal(answers(run.host), edited)
    assert not torch.allclose(base, stacked, atol=1e-2) and not torch.allclose(stacked, edited, atol=1e-2)


def test_the_teacher_is_the_base_model_for_adapters_too():
    host = TinyHost()
    base = answers(host)
    with opened(host, config(), recipes=SMALL) as run, attached(run.backbone, run.edits.paths, 2, 0) as adapters:
        for path in adapters.factors:
            adapters.start(path, torch.ones(1, 16), torch.ones(16, 1))
        run.student = adapters
        assert not torch.allclose(answers(run.host), base, atol=1e-2)
        with run.teacher():
            assert torch.allclose(answers(run.host), base, atol=1e-5)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_everything_is_undone_at_the_end(error):
    host = TinyHost()
    before, seen = state_of(host), None
    try:
        with opened(host, config(), stack_on(host, {"concept": "frog"}), SMALL) as run:
            run.edits.set(FACTORS)
            seen = state_of(host)
            if error:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert seen["hooks"] != before["hooks"] and not torch.equal(
        *(s["weights"]["blocks.0.attn2.to_k.weight"] for s in (seen, before))
    )
    assert_same(before, state_of(host))


class Leaving(TinyHost):
    """Can take text encoder and autoencoder off the device. back: what bringing them back raises."""

    back = None
    _offload = False

    @property
    def offload(self):
        return self._offload

    @offload.setter
    def offload(self, on):
        self._offload = on
        if not on and self.back:
            raise self.back


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("error", [None, RuntimeError])
def test_what_a_training_takes_off_the_card_is_back_at_the_end(before, error):
    host = Leaving()
    host.offload = before
    with nullcontext() if error is None else pytest.raises(error), opened(host, config(), recipes=SMALL) as run:
        run.host.offload = True
        if error:
            raise error
    assert host.offload is before


def test_what_does_not_fit_on_the_card_any_more_stays_off_it():
    host = Leaving()
    with opened(host, config(), recipes=SMALL) as run:
        run.host.offload = True
        host.back = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert host.offload
    host = Leaving()
    with pytest.raises(RuntimeError, match="another"), opened(host, config(), recipes=SMALL) as run:
        run.host.offload = True
        host.back = RuntimeError("another fault")
    assert host.offload


def test_an_error_while_it_is_opened_leaves_nothing_either():
    class Broken(TinyHost):
        def denoise(self, x, sigma, conditioning):
            raise RuntimeError("boom")

    host = Broken()
    before = state_of(host)
    with pytest.raises(RuntimeError, match="boom"), opened(host, config(), stack_on(host, {"concept": "frog"}), SMALL):
        pass
    assert_same(before, state_of(host))


def test_what_is_preserved_is_read_once(monkeypatch):
    host, asked = TinyHost(), []
    encode = host.encode
    monkeypatch.setattr(host, "encode", lambda prompts: asked.append(len(prompts)) or encode(prompts))
    with opened(host, config(), recipes=SMALL) as run:
        (reader,) = run.readers
        first, count = run.preserved(reader), len(asked)
        assert run.preserved(reader) is first and len(asked) == count > 1


def test_a_cpu_takes_no_more_rows_than_save_time_and_a_small_memory_fewer():
    with opened(TinyHost(), config(), recipes=SMALL) as run:
        assert run.host.rows == 32
    with opened(TinyHost(), config(memory=1e-6), recipes=SMALL) as run:
        assert run.host.rows == 1


def test_a_model_with_no_layer_to_change_is_refused():
    host = TinyHost()
    host.layers = lambda: {"diffusion_model.enter": "enter"}
    with pytest.raises(UnlearnError, match="no layers of the kind 'kv'.*none that reads text alone"):  # noqa: SIM117
        with opened(host, config(), recipes=SMALL):
            pass


def test_where_no_name_tells_it_training_changes_the_layers_that_read_text():
    host = TinyHost()
    host.backbone = Joint(refiner=True).requires_grad_(False)
    host.layers = lambda: {"txt_in": "txt_in", "out": "out"}
    made = run(host, config(steps=2))
    assert made.report["steps"] == 2 and list(made.delta.factors) == ["txt_in"]


def test_saved_work_knows_another_text_encoder():
    class Swapped(TinyHost):
        def encode(self, prompts):
            return super().encode([p.replace("banana", "apple") for p in prompts])

    request = Request.read(TinyHost(), config(), Stack())
    keys = {key_of(request, host, torch.zeros(1)) for host in (TinyHost(), TinyHost(), Swapped())}
    assert len(keys) == 2
