"""forget() as a whole on a tiny real network: what it gives, and that it gives the model back."""

import pytest
import torch

from tests.tiny import TinyHost
from unlearn_core import BadSetting, Cancelled, ForgetConfig, Stack, TrainingFailed, forget, save
from unlearn_core.sampling import direction, noise

QUICK = {"concept": "banana", "anchor": "pear", "steps": 6, "sampling_steps": 2, "batch": 2, "closed_form": False}


def config(**changes):
    return ForgetConfig(**(QUICK | changes))


def state_of(host):
    modules = {name: id(m) for name, m in host.backbone.named_modules()}
    flags = {name: p.requires_grad for name, p in host.backbone.named_parameters()}
    weights = {name: t.clone() for name, t in host.backbone.state_dict().items()}
    return modules, flags, vars(host.backbone).keys() | set(), weights


def assert_same(before, after):
    assert before[:3] == after[:3]
    assert before[3].keys() == after[3].keys()
    assert all(torch.equal(before[3][k], after[3][k]) for k in before[3])


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
    result = forget(host, config())
    info = result.delta.info
    assert (info.concept, info.anchor, info.architecture, info.kind) == ("banana", "pear", "tiny", "object")
    assert info.base_fingerprint == host.fingerprint
    assert all("banana" in p and "pear" in m for p, m in info.prompts)
    assert result.report["steps"] == info.steps == 6
    assert result.before.shape == result.after.shape == (len(result.prompts), 3, 32, 32)
    assert {"forgotten_before", "forgotten_after", "kept_before", "kept_after", "worst_neighbour"} <= set(info.judge)


def test_same_seed_gives_same_bytes(tmp_path):
    shas = [save(forget(TinyHost(), config()).delta, tmp_path / f"{i}.safetensors") for i in range(2)]
    assert shas[0] == shas[1]
    assert save(forget(TinyHost(), config(seed=1)).delta, tmp_path / "2.safetensors") != shas[0]


@pytest.mark.parametrize("fall", [1, 7, 20, 26, 30, 33])
def test_model_is_given_back_when_the_callback_raises(fall):
    host = TinyHost()
    before, calls = state_of(host), []

    def progress(report):
        calls.append(report)
        if len(calls) == fall:
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        forget(host, config(), progress=progress)
    assert_same(before, state_of(host))


def test_model_is_given_back_with_a_stack_and_flags_as_found():
    host = TinyHost()
    host.backbone.enter.weight.requires_grad_(True)
    host.backbone.blocks[0].train()
    before = state_of(host)
    first = forget(host, config()).delta
    second = forget(host, config(concept="frog", anchor="cat"), Stack().with_delta(first))
    assert_same(before, state_of(host))
    assert host.backbone.blocks[0].training
    assert [p.concept for p in second.delta.info.parents] == ["banana"]
    assert second.report["teacher_stack"] == ("banana",)


@pytest.mark.parametrize("step", [1, 4])
def test_a_stop_is_obeyed_within_one_step_and_marked(step):
    host = TinyHost()
    before = state_of(host)
    result = forget(host, config(), progress=lambda r: r.phase == "training" and r.done >= step)
    assert result.delta.info.steps == step
    assert result.delta.info.stopped == f"stopped at step {step}"
    assert result.after is None
    assert len(result.before) == len(result.prompts) == 3 and all("banana" in p for p in result.prompts)
    assert_same(before, state_of(host))


def test_a_stop_keeps_nothing_when_so_chosen_or_too_early():
    with pytest.raises(Cancelled, match="step 2"):
        forget(TinyHost(), config(on_stop="discard"), progress=lambda r: r.phase == "training" and r.done >= 2)
    with pytest.raises(Cancelled, match="before anything"):
        forget(TinyHost(), config(), progress=lambda r: r.phase == "choosing")


def test_a_stop_during_the_last_look_keeps_what_was_learned():
    result = forget(TinyHost(), config(), progress=lambda r: r.phase == "after")
    assert result.delta.info.stopped == "stopped at step 6" and result.after is None
    with pytest.raises(Cancelled):
        forget(TinyHost(), config(on_stop="discard"), progress=lambda r: r.phase == "after")


def test_progress_never_falls_and_ends_at_one():
    reports = []
    forget(TinyHost(), config(), progress=reports.append)
    fractions = [r.fraction for r in reports]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert all(r.fraction < 0.99 for r in reports if r.phase != "after")
    phases = list(dict.fromkeys(r.phase for r in reports))
    assert phases == ["sampling", "choosing", "before", "replay", "training", "after"]
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
        forget(host, config())
    assert_same(before, state_of(host))


def test_a_model_that_draws_no_numbers_is_an_error():
    host = TinyHost()
    host.backbone.blocks[1].attn2.to_v.weight[0, 0] = float("nan")
    with pytest.raises(TrainingFailed, match="full precision"):
        forget(host, config())


def test_second_hand_prompts_become_forget_prompts():
    host = TinyHost()
    first = forget(host, config(concept="frog", anchor="elephant")).delta
    second = forget(host, config(concept="elephant", anchor="cat"), Stack().with_delta(first)).delta
    frogs = [(p, m) for p, m in second.info.prompts if "frog" in p]
    assert len(frogs) == len(first.info.prompts)
    assert all("cat" in m and "elephant" not in m for _, m in frogs)


def test_gradients_with_and_without_checkpointing_agree():
    plain, saved = (forget(TinyHost(), config(checkpointing=on)).delta for on in (False, True))
    for name, factor in plain.factors.items():
        assert torch.allclose(factor.up, saved.factors[name].up, atol=1e-6)


@pytest.mark.parametrize("kind", ["kv", "cross", "attention"])
def test_layers_setting_chooses_what_learns(kind):
    names = forget(TinyHost(), config(layers=kind, steps=1)).delta.factors
    assert len(names) == {"kv": 4, "cross": 8, "attention": 8}[kind]


def test_repeated_concept_in_the_stack_is_refused():
    first = forget(TinyHost(), config()).delta
    with pytest.raises(BadSetting, match="already"):
        forget(TinyHost(), config(), Stack().with_delta(first))
