"""Automatic1111's model code on the original networks: same numbers as the standalone model, nothing left behind."""

import hashlib
import re
import sys
import types

import pytest
import torch

from tests.webui import fake_host
from tests.webui.pack import ROOT, load

pytestmark = pytest.mark.usefixtures("few_in_pack")

core, standalone = load("unlearn_core"), load("unlearn_core.standalone")
DEMO = ROOT / "assets" / "demo" / "demo.safetensors"
PROMPTS = ["a banana", "a (flat) cat [on] a table", ""]
FEW = {"concept": "banana", "anchor": "guitar", "steps": 3, "batch": 2, "sampling_steps": 1, "closed_form": False}


@pytest.fixture(scope="module")
def alone():
    """The standalone model in full precision."""
    return standalone.StandaloneModel(DEMO, half=False)


@pytest.fixture
def host(alone, tmp_path, monkeypatch):
    """The host's `shared`, with the demo checkpoint loaded, and the extension's code for it."""
    pytest.importorskip("einops", reason="needs requirements/comfy.txt")
    from tests.comfy.sources import SourceError
    from tests.webui import ldm_model

    try:
        ldm_model.tree()
    except SourceError as e:
        pytest.skip(str(e))
    kept = dict(sys.modules)
    shared = fake_host.install(tmp_path, {})
    sys.modules["modules.devices"].dtype_unet = torch.float32

    def make(**unet):
        shared.sd_model = ldm_model.LatentDiffusion(DEMO, lambda p: alone.encode(p).tokens, **unet)
        return code.LdmModel(shared.sd_model, DEMO)

    try:
        code = load("extension.host_model")
        yield types.SimpleNamespace(shared=shared, code=code, make=make)
    finally:
        for name in set(sys.modules) - set(kept):
            if name.split(".")[0] in ("modules", "networks") or name.endswith("extension.host_model"):
                del sys.modules[name]


def state(model):
    """A hash of all weights, and everything else that training might leave behind in the UNet."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    facts = [(n, type(m), m.training, sorted(vars(m)), sorted(m._parameters)) for n, m in model.model.named_modules()]
    return digest.hexdigest(), facts, [(n, p.requires_grad) for n, p in model.named_parameters()]


def test_it_is_the_standalone_model_in_numbers(host, alone):
    model = host.make()
    assert (model.fingerprint, model.architecture, model.prediction_type) == (
        alone.fingerprint,
        alone.architecture,
        alone.prediction_type,
    )
    assert model.latent_shape == alone.latent_shape and model.words_file == alone.words_file
    assert model.title == alone.title == DEMO.name, "what a delta is made for is called the same everywhere"
    assert torch.allclose(model.sigmas, alone.sigmas, rtol=1e-4)
    assert set(model.layers()) == set(alone.layers())
    here, there = model.encode(PROMPTS), alone.encode(PROMPTS)
    assert torch.equal(here.tokens, there.tokens)
    generator = torch.Generator().manual_seed(0)
    for sigma in (0.1, 1.0, 8.0):
        x = torch.randn(3, *model.latent_shape, generator=generator) * (1 + sigma**2) ** 0.5
        level = torch.full((3,), sigma)
        with torch.no_grad():
            ours, theirs = model.denoise(x, level, here), alone.denoise(x, level, there)
        assert ((ours - theirs) / sigma).abs().max() < 1e-4
    assert (model.decode(x) - alone.decode(x)).abs().max() < 1e-2


QUICK = {"concept": "banana", "quality": "quick"}


def test_a_quick_request_forgets_as_with_the_standalone_model(host, alone):
    """The default path, once: in closed form, and nothing is left behind."""
    model = host.make()
    before = state(host.shared.sd_model)
    config = core.ForgetConfig.from_flat(QUICK)
    ours, theirs = core.forget(model, config), core.forget(alone, config)
    assert state(host.shared.sd_model) == before
    assert ours.report["anchor"] == theirs.report["anchor"] and ours.report["steps"] == 0
    assert ours.delta.factors.keys() == theirs.delta.factors.keys()
    for name, factor in ours.delta.factors.items():
        assert (
            torch.cosine_similarity(product(factor).flatten(), product(theirs.delta.factors[name]).flatten(), 0) > 0.99
        )


@pytest.mark.full
def test_it_trains_like_the_standalone_model_and_leaves_nothing_behind(host, alone):
    # as Stable Diffusion 2's own configuration has it
    model = host.make(use_checkpoint=True)
    config = core.ForgetConfig.from_flat(FEW)
    before = state(host.shared.sd_model)
    ours = core.forget(model, config, core.Stack())
    assert state(host.shared.sd_model) == before
    theirs = core.forget(alone, config, core.Stack())
    for key in ("anchor", "neighbours", "steps", "reason"):
        assert ours.report[key] == theirs.report[key]
    assert ours.delta.factors.keys() == theirs.delta.factors.keys()
    a, b = (torch.cat([product(f).flatten() for f in r.delta.factors.values()]) for r in (ours, theirs))
    assert torch.cosine_similarity(a, b, 0) > 0.99
    assert ours.delta.info.base_fingerprint == theirs.delta.info.base_fingerprint

    # and on top of what was learned
    stack = core.Stack().with_delta(ours.delta)
    second = core.forget(model, core.ForgetConfig.from_flat({**FEW, "concept": "frog"}), stack)
    assert second.report["stack"] == ["banana"] and state(host.shared.sd_model) == before


def test_the_hosts_loader_finds_every_layer_of_a_delta(host):
    """Names only: a delta as training writes it, for all the layers that it may learn."""
    model = host.make()
    written = {}
    for name, path in model.layers().items():
        written.setdefault(path, name)
    modules = {n.replace(".", "_"): m for n, m in host.shared.sd_model.model.named_modules()}
    for path, name in written.items():
        assert modules[hosts_name(name)] is model.backbone.get_submodule(path)


def product(factor):
    """A layer's change of weights."""
    return factor.matrix().double()


def hosts_name(key):
    """Automatic1111 1.10.1's `convert_diffusers_name_to_compvis` for attention, and its fall-back for other names."""
    if m := re.match(r"lora_unet_down_blocks_(\d+)_attentions_(\d+)_(.+)", key):
        return f"diffusion_model_input_blocks_{1 + int(m[1]) * 3 + int(m[2])}_1_{m[3]}"
    if m := re.match(r"lora_unet_mid_block_attentions_(\d+)_(.+)", key):
        return f"diffusion_model_middle_block_1_{m[2]}"
    if m := re.match(r"lora_unet_up_blocks_(\d+)_attentions_(\d+)_(.+)", key):
        return f"diffusion_model_output_blocks_{int(m[1]) * 3 + int(m[2])}_1_{m[3]}"
    return key.replace("lora_unet", "diffusion_model")


@pytest.mark.full
def test_an_exception_leaves_nothing_behind(host):
    model = host.make()
    before = state(host.shared.sd_model)

    def progress(report):
        if report.phase == "training" and report.done == 2:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        core.forget(model, core.ForgetConfig.from_flat(FEW), core.Stack(), progress)
    assert state(host.shared.sd_model) == before


def test_active_loras_are_taken_out_and_put_back(host):
    model = host.make()
    unet = host.shared.sd_model.model.diffusion_model
    layer = unet.get_submodule(model.layers()[next(iter(model.layers()))])
    for name, module in host.shared.sd_model.named_modules():
        module.network_layer_name = name
    own = layer.weight.detach().clone()

    def bake(module):
        """The host's rule: back to the original weights, then every active LoRA on top."""
        wanted = tuple(networks.loaded_networks)
        if getattr(module, "network_current_names", ()) == wanted:
            return
        if not hasattr(module, "backup"):
            module.backup = module.weight.detach().clone()
        module.weight.copy_(module.backup + (0.5 if wanted and module is layer else 0.0))
        module.network_current_names = wanted

    networks = types.ModuleType("networks")
    networks.loaded_networks, networks.network_apply_weights = ["a style"], bake
    sys.modules["networks"] = networks
    with torch.no_grad():
        bake(layer)
    baked = layer.weight.detach().clone()
    assert not torch.equal(baked, own)
    with pytest.raises(ValueError), host.code.as_loaded(host.shared.sd_model):
        assert torch.equal(layer.weight, own) and networks.loaded_networks == []
        raise ValueError
    assert torch.equal(layer.weight, baked) and networks.loaded_networks == ["a style"]


def test_stable_diffusion_xl_gets_its_second_conditioning(host, alone):
    """Its wrapper takes one dictionary, and its text encoders give one; the networks are the demo's here."""
    host.make()
    held, vector, asked = host.shared.sd_model, torch.arange(6.0), []

    class Wrapper(type(held.model)):
        def forward(self, x, t, c):
            assert torch.equal(c["vector"], vector.expand(len(x), -1))
            return super().forward(x, t, c_crossattn=[c["crossattn"]])

    def learned(prompts):
        asked.append((prompts.width, prompts.height))
        return {"crossattn": held.text(prompts), "vector": vector.expand(len(prompts), -1)}

    held.is_sdxl, held.model, held.get_learned_conditioning = True, Wrapper(held.model.diffusion_model), learned
    model = host.code.LdmModel(held, DEMO)
    assert (model.architecture, model.latent_shape) == ("sdxl", (4, 128, 128))
    x, level = torch.randn(2, *alone.latent_shape), torch.full((2,), 1.5)
    here, there = (m.encode(["a banana", "a cat"]) for m in (model, alone))
    assert asked == [(1024, 1024)] and here.extras.keys() == {"vector"}
    with torch.no_grad():
        assert (model.denoise(x, level, here) - alone.denoise(x, level, there)).abs().max() < 1e-4


def test_where_the_host_reads_no_weights_no_sign_is_escaped(host):
    host.make()
    for options, escaped in (({}, "a \\(flat\\) cat"), ({"emphasis": "Ignore"}, "a \\(flat\\) cat")):
        vars(host.shared.opts).update(options)
        assert host.code.escaped("a (flat) cat") == escaped
    for options in ({"emphasis": "None"}, {"emphasis": "Original", "enable_emphasis": False}):
        vars(host.shared.opts).update(options)
        assert host.code.escaped("a (flat) cat") == "a (flat) cat"


def test_a_picture_that_overflows_in_half_precision_is_decoded_in_full(host):
    """As Stable Diffusion XL's autoencoder does; the host decodes such a one anew too."""
    host.make()
    held, used = host.shared.sd_model, []
    held.first_stage_model = torch.nn.Linear(1, 1, bias=False).to(torch.float16)
    weight = held.first_stage_model.weight.detach().clone()

    def decode(z):
        used.append(z.dtype)
        assert next(held.first_stage_model.parameters()).dtype == z.dtype
        return torch.full((len(z), 3, 8, 8), float("nan") if z.dtype == torch.float16 else 0.5)

    held.decode_first_stage = decode
    model = host.code.LdmModel(held, DEMO)
    assert torch.equal(model.decode(torch.zeros(2, 4, 8, 8)), torch.full((2, 3, 8, 8), 0.75))
    assert used == [torch.float16, torch.float32] and torch.equal(held.first_stage_model.weight, weight)
    assert held.first_stage_model.weight.dtype == torch.float16


def tracked(module):
    """The module, its `place` where it was last sent to."""
    kind = type(module)

    def to(self, place, *more):
        if not isinstance(place, torch.dtype):
            self.place = str(place)
        return kind.to(self, place, *more)

    module.__class__ = type(kind.__name__, (kind,), {"to": to})
    module.place = "cpu"
    return module


def with_medvram(host):
    """The held model as `--medvram` has it: (the wrapper of its UNet, its text encoder, the host's `lowvram`)."""
    moving, held = sys.modules["modules.lowvram"], host.shared.sd_model
    # one device here, called by two names
    sys.modules["modules.devices"].device = torch.device("cpu", 0)
    unet, text, picture = tracked(held.model), tracked(torch.nn.Identity()), tracked(held.first_stage_model)
    learned, decode = held.get_learned_conditioning, held.decode_first_stage

    def get_learned_conditioning(prompts):
        text(torch.zeros(1))
        assert text.place == "cpu:0"
        return learned(prompts)

    def decode_first_stage(z):
        moving.send_me_to_gpu(picture, None)
        return decode(z)

    for part in (unet, text):
        part.register_forward_pre_hook(moving.send_me_to_gpu)
    held.get_learned_conditioning, held.decode_first_stage = get_learned_conditioning, decode_first_stage
    held.lowvram = True
    return unet, text, picture, moving


def test_with_medvram_the_unet_stays_on_the_device_and_leaves_it_at_the_end(host, alone):
    host.make()
    unet, text, picture, moving = with_medvram(host)
    known(host, "demo.safetensors", host.shared.sd_model)
    places = []
    # the host asks at each use where the UNet is
    unet.diffusion_model.register_forward_pre_hook(lambda *_: places.append(unet.place))
    moving.send_me_to_gpu(text, None)
    with host.code.learning() as model:
        assert (unet.place, text.place) == ("cpu:0", "cpu")
        x, level = torch.randn(1, *model.latent_shape), torch.full((1,), 1.5)
        for _ in range(2):
            model.denoise(x, level, model.encode(["a banana"]))
            model.decode(x)
            assert (unet.place, text.place, picture.place) == ("cpu:0", "cpu", "cpu")
    assert places == ["cpu:0", "cpu:0"] and moving.module_in_gpu is None
    assert {unet.place, text.place, picture.place} == {"cpu"}


@pytest.mark.full
def test_with_medvram_the_delta_is_the_same(host, alone):
    model = host.make()
    config = core.ForgetConfig.from_flat(QUICK | {"anchor": "guitar"})
    plain = core.forget(model, config)
    with_medvram(host)
    known(host, "demo.safetensors", host.shared.sd_model)
    with host.code.learning() as moved:
        again = core.forget(moved, config)
    assert again.delta.content_hash() == plain.delta.content_hash()


def known(host, name, model):
    """The model as a checkpoint in the host's list."""
    models = sys.modules["modules.sd_models"]
    info = types.SimpleNamespace(filename=str(DEMO.with_name(name)), title=name)
    models.files[name], models.held[info.filename] = info, model
    model.sd_checkpoint_info = info
    return models


def test_the_chosen_checkpoint_learns_after_a_picture_with_a_refiner(host, alone):
    model = host.make()
    base = host.shared.sd_model
    known(host, "demo.safetensors", base)
    host.make()
    refiner = host.shared.sd_model
    torch.nn.init.zeros_(refiner.model.diffusion_model.out[2].weight)
    models = known(host, "refiner.safetensors", refiner)
    host.shared.opts.data["sd_model_checkpoint"] = "demo.safetensors"
    assert host.code.chosen().filename == str(DEMO)
    with host.code.learning() as learning:
        assert learning.backbone is model.backbone and learning.fingerprint == alone.fingerprint
    # what was loaded already may lie in main memory
    with host.code.learning() as learning:
        assert learning.backbone is model.backbone
    assert host.shared.sd_model is base and models.sent == [base, base]


def test_a_checkpoint_that_cannot_be_loaded_is_a_sentence(host, monkeypatch):
    host.make()
    models, info = sys.modules["modules.sd_models"], host.shared.sd_model.sd_checkpoint_info
    with pytest.raises(core.BadCheckpoint, match="finds no checkpoint"), host.code.learning():
        pass
    known(host, "other.safetensors", host.shared.sd_model)
    host.shared.sd_model.sd_checkpoint_info = info
    models.held.clear()
    with pytest.raises(core.BadCheckpoint, match="could not load other.safetensors"), host.code.learning():
        pass
    monkeypatch.setattr(models, "reload_model_weights", lambda info: None)
    with pytest.raises(core.BadCheckpoint, match="did not load other.safetensors"), host.code.learning():
        pass
    assert models.sent == []


@pytest.mark.parametrize("case", ["sd3", "inpainting", "XL inpainting", "refiner", "8 bits", "lowvram", "SD Unet"])
def test_what_cannot_be_trained_is_refused_with_a_sentence(host, case):
    host.make()
    model = host.shared.sd_model
    if case == "sd3":
        model.is_sd3 = True
    elif case == "XL inpainting":
        model.is_sdxl = model.is_sdxl_inpaint = True
    elif case == "refiner":
        model.conditioner = torch.nn.Module()
        model.conditioner.embedders = [types.SimpleNamespace(input_key="aesthetic_score")]
    elif case == "inpainting":
        model.model.conditioning_key = "hybrid"
    elif case == "8 bits":
        model.model.diffusion_model.out[2].to(torch.float8_e4m3fn)
    elif case == "lowvram":
        host.shared.cmd_opts.lowvram = True
    else:
        sys.modules["modules.sd_unet"].current_unet = object()
    with pytest.raises(
        core.UnlearnError, match="Stable Diffusion 1, 2 and XL|refiner|inpainting|8 bits|lowvram|SD Unet"
    ):
        host.code.LdmModel(model, DEMO)
