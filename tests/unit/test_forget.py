"""forget() as a whole on a tiny real network: what it gives, and that it gives the model back."""

import random
import sys

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, config, run, state_of
from unlearn_core import Cancelled, Stack, TrainingFailed, UnlearnError, forget, save
from unlearn_core.sampling import direction, noise


def test_training_moves_the_target_towards_the_anchor():
    host = TinyHost()
    losses = []
    result = forget(host, config(steps=80), progress=lambda r: losses.append(r.losses.get("forget")))
    seen = [v for v in losses if v is not None]
    assert sum(seen[-10:]) < 0.7 * sum(seen[:10])
    x, sigma = noise((4, *host.latent_shape), 1, host.device) * 2, host.sigmas[[40, 60, 70, 80]]
    target, anchor = (host.encode([f"the {w} in ink style"] * 4) for w in ("banana", "pear"))
    with torch.no_grad():
        goal = direction(host, x, sigma, anchor)
        gap = (direction(host, x, sigma, target) - goal).pow(2).mean()
        with host.session(Stack().with_delta(result.delta)):
            left = (direction(host, x, sigma, target) - goal).pow(2).mean()
    assert left < 0.7 * gap


def test_report_and_delta_say_what_later_requests_need():
    host = TinyHost()
    result = run(host, config())
    info = result.delta.info
    assert (info.concept, info.anchor, info.architecture, info.kind) == ("banana", "pear", "tiny", "object")
    assert info.base_fingerprint == host.fingerprint and info.prediction_type == "epsilon"
    assert all("banana" in p and "pear" in m for p, m in info.prompts)
    assert result.report["steps"] == info.steps == 6 and result.report["way"] == "training, 6 steps"
    assert result.report["memory"].startswith("one pass of 2 forget and 2 replay rows a step; about ")
    assert result.before.shape == result.after.shape == (len(result.prompts), 3, 32, 32)
    assert info.check == result.report["check"]
    numbers = {"forgotten_before", "forgotten_after", "preserved_before", "preserved_after", "worst_neighbour"}
    numbers |= {"preserved_concepts"}
    assert numbers | {"verdict", "outside"} <= set(info.check) <= numbers | {"verdict", "outside", "not_known"}


def test_the_delta_holds_the_name_of_its_checkpoint_where_the_host_knows_it():
    host = TinyHost()
    assert run(host, config(steps=1)).delta.info.base_name == ""
    host.title = "my\tdream\x07.safetensors" + "x" * 200
    name = run(host, config(steps=1)).delta.info.base_name
    assert name.startswith("my dream.safetensors") and len(name) == 120


def test_same_seed_gives_same_bytes(tmp_path):
    shas = [save(run(TinyHost(), config()).delta, tmp_path / f"{i}.safetensors") for i in range(2)]
    assert shas[0] == shas[1]
    assert save(run(TinyHost(), config(seed=1)).delta, tmp_path / "2.safetensors") != shas[0]


class Boom(Exception):
    pass


def reports_of(host, stack, fall=0):
    """The phases of all reports of a run. fall: the callback raises at this report."""
    seen = []

    def progress(report):
        seen.append(report.phase)
        if len(seen) == fall:
            raise Boom

    run(host, config(concept="frog", anchor="cat"), stack, progress)
    return seen


def test_the_model_is_given_back_wherever_the_callback_raises():
    """Once in each phase, at a report drawn by a fixed seed, with a stack applied."""
    host = TinyHost()
    stack = Stack().with_delta(run(host, config()).delta)
    before, phases = state_of(host), reports_of(host, stack)
    assert list(dict.fromkeys(phases)) == ["sampling", "choosing", "before", "replay", "training", "after"]
    for phase in dict.fromkeys(phases):
        fall = random.Random(phase).choice([i for i, p in enumerate(phases, 1) if p == phase])
        with pytest.raises(Boom):
            reports_of(host, stack, fall)
        assert_same(before, state_of(host))


def test_the_model_is_given_back_with_flags_as_found():
    host = TinyHost()
    host.backbone.enter.weight.requires_grad_(True)
    host.backbone.blocks[0].train()
    host.backbone.blocks[1].eval()
    before = state_of(host)
    first = run(host, config()).delta
    second = run(host, config(concept="frog", anchor="cat"), Stack().with_delta(first))
    assert_same(before, state_of(host))
    assert [p.concept for p in second.delta.info.parents] == ["banana"] and second.report["stack"] == ["banana"]


@pytest.mark.parametrize("step", [1, 4])
def test_a_stop_is_obeyed_within_one_step_and_marked(step):
    host = TinyHost()
    before = state_of(host)
    result = run(host, config(), progress=lambda r: r.phase == "training" and r.done >= step)
    assert result.delta.info.steps == step
    assert result.delta.info.stopped == result.report["stopped"] == f"stopped at step {step}"
    assert result.after is None and result.delta.info.check["verdict"] == "not checked: the run was stopped"
    assert len(result.before) == len(result.prompts) == 3 and all("banana" in p for p in result.prompts)
    assert_same(before, state_of(host))


def test_a_stop_keeps_nothing_when_so_chosen_or_too_early():
    host = TinyHost()
    before = state_of(host)
    with pytest.raises(Cancelled, match="step 2"):
        run(host, config(on_stop="discard"), progress=lambda r: r.phase == "training" and r.done >= 2)
    with pytest.raises(Cancelled, match="before anything"):
        run(host, config(), progress=lambda r: r.phase == "choosing")
    assert_same(before, state_of(host))


def test_a_stop_during_the_last_look_keeps_what_was_learned():
    result = run(TinyHost(), config(), progress=lambda r: r.phase == "after")
    assert result.delta.info.stopped == "stopped at step 6" and result.after is None
    with pytest.raises(Cancelled):
        run(TinyHost(), config(on_stop="discard"), progress=lambda r: r.phase == "after")


def test_progress_never_falls_and_ends_at_one():
    reports = []
    run(TinyHost(), config(), progress=reports.append)
    fractions = [r.fraction for r in reports]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert all(r.fraction < 0.99 for r in reports if r.phase != "after")
    assert [r.done for r in reports if r.phase == "training"] == list(range(7))


class Overflowing(TinyHost):
    """Gives infinity at the third student pass, as a half-precision model may."""

    passes = 0

    def denoise(self, x, sigma, conditioning):
        out = super().denoise(x, sigma, conditioning)
        if out.requires_grad:
            self.passes += 1
        return out * float("inf") if out.requires_grad and self.passes == 3 else out


def test_a_loss_that_is_no_number_ends_the_run_and_gives_the_model_back():
    host = Overflowing()
    before = state_of(host)
    with pytest.raises(TrainingFailed, match="learning rate"):
        run(host, config())
    assert_same(before, state_of(host))


def test_a_model_that_draws_no_numbers_is_an_error():
    host = TinyHost()
    host.backbone.blocks[1].attn2.to_v.weight[0, 0] = float("nan")
    before = state_of(host)
    before["weights"] = {k: v.nan_to_num() for k, v in before["weights"].items()}
    with pytest.raises(TrainingFailed, match="full precision"):
        run(host, config())
    after = state_of(host)
    after["weights"] = {k: v.nan_to_num() for k, v in after["weights"].items()}
    assert_same(before, after)


def test_inherited_prompts_become_forget_prompts():
    host = TinyHost()
    first = run(host, config(concept="frog", anchor="elephant")).delta
    second = run(host, config(concept="elephant", anchor="cat"), Stack().with_delta(first)).delta
    frogs = [(p, m) for p, m in second.info.prompts if "frog" in p]
    assert len(frogs) == len(first.info.prompts)
    assert all("cat" in m and "elephant" not in m for _, m in frogs)


def test_gradients_with_and_without_checkpointing_agree():
    plain, saved = (run(TinyHost(), config(checkpointing=on)) for on in (False, True))
    assert "gradient checkpointing" in saved.report["memory"]
    for name, factor in plain.delta.factors.items():
        assert torch.allclose(factor.up, saved.delta.factors[name].up, atol=1e-6)


def test_a_training_without_a_penalty_reads_no_preserved_prompts(monkeypatch):
    monkeypatch.setattr("unlearn_core.method.preserved.PreservedPrompts.moment", lambda *_: pytest.fail("read"))
    assert run(TinyHost(), config(preservation_weight=0)).report["steps"] == 6


def test_peft_is_asked_for_only_where_a_training_begins(monkeypatch):
    """A check that is off lets the closed form be enough."""
    monkeypatch.setitem(sys.modules, "peft", None)
    assert run(TinyHost(), config(quality="quick", closed_form=True)).report["steps"] == 0
    monkeypatch.setattr("unlearn_core.evaluate.evaluator.Evaluator.still_generated", lambda *_: True)
    host = TinyHost()
    before = state_of(host)
    with pytest.raises(UnlearnError, match="pip install"):
        run(host, config(closed_form=True))
    assert_same(before, state_of(host))
