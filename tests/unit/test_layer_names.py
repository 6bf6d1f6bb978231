"""Layer names against diffusers' own networks and converter, and fingerprints."""

import copy

import pytest
import torch

from unlearn_core.delta import layer_names as keys
from unlearn_core.delta.layer_names import UNetShape, diffusers_to_ldm, ldm_to_diffusers
from unlearn_core.errors import BadCheckpoint

DEMO = UNetShape(1, (False, True))
SD1 = UNetShape(2, (True, True, True, False))
SDXL = UNetShape(2, (False, True, True))


def small_unet(shape: UNetShape, **options):
    """diffusers' UNet of this shape without storage for its weights: only names and sizes matter."""
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        return diffusers.UNet2DConditionModel(
            block_out_channels=(32,) * shape.levels,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in shape.attention),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(shape.attention)),
            layers_per_block=shape.layers_per_block,
            attention_head_dim=4,
            cross_attention_dim=32,
            norm_num_groups=8,
            **options,
        )


XL_OPTIONS = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64,
    "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2, 3),
}
UNETS = pytest.mark.parametrize(
    "shape, options", [(DEMO, {}), (SD1, {}), (SDXL, XL_OPTIONS)], ids=["demo", "sd1", "sdxl"]
)


@UNETS
def test_every_parameter_and_module_translates_both_ways(shape, options):
    unet = small_unet(shape, **options)
    names = list(unet.state_dict()) + [n for n, m in unet.named_modules() if list(m.parameters(recurse=False))]
    ldm = [diffusers_to_ldm(name, shape) for name in names]
    assert len(set(ldm)) == len(names)
    assert [ldm_to_diffusers(name, shape) for name in ldm] == names


@UNETS
def test_agrees_with_diffusers_converter(shape, options):
    unet = small_unet(shape, **options)
    convert = pytest.importorskip("diffusers.loaders.single_file_utils").convert_ldm_unet_checkpoint
    checkpoint = {
        "model.diffusion_model." + diffusers_to_ldm(name, shape): torch.tensor(float(i))
        for i, name in enumerate(unet.state_dict())
    }
    back = convert(copy.copy(checkpoint), unet.config)
    assert {name: int(value) for name, value in back.items()} == {n: i for i, n in enumerate(unet.state_dict())}


@UNETS
def test_shape_is_read_off_the_names(shape, options):
    names = [diffusers_to_ldm(name, shape) for name in small_unet(shape, **options).state_dict()]
    assert UNetShape.from_state_dict(names) == shape
    assert UNetShape.from_state_dict("model.diffusion_model." + n for n in names) == shape


def test_known_names():
    pairs = {
        "input_blocks.0.0.weight": "conv_in.weight",
        "time_embed.2.bias": "time_embedding.linear_2.bias",
        "input_blocks.4.1.transformer_blocks.0.ff.net.2": "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2",
        "input_blocks.3.0.op": "down_blocks.0.downsamplers.0.conv",
        "input_blocks.11.0.emb_layers.1": "down_blocks.3.resnets.1.time_emb_proj",
        "middle_block.1.proj_in": "mid_block.attentions.0.proj_in",
        "middle_block.2.out_layers.3.weight": "mid_block.resnets.1.conv2.weight",
        "output_blocks.2.1.conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks.5.2.conv": "up_blocks.1.upsamplers.0.conv",
        "output_blocks.3.0.skip_connection": "up_blocks.1.resnets.0.conv_shortcut",
        "output_blocks.11.1.transformer_blocks.0.norm1": "up_blocks.3.attentions.2.transformer_blocks.0.norm1",
        "out.2": "conv_out",
    }
    assert {name: ldm_to_diffusers(name, SD1) for name in pairs} == pairs


@pytest.mark.parametrize(
    "name", ["input_blocks.12.0.in_layers.0", "double_blocks.0.img_attn.qkv", "", "input_blocks.1.0"]
)
def test_foreign_names_are_refused(name):
    with pytest.raises(BadCheckpoint):
        ldm_to_diffusers(name, SD1)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["double_blocks.0.img_attn.qkv.weight"],
        ["input_blocks.0.0.weight", "input_blocks.1.0.in_layers.0.weight", "input_blocks.2.0.op.weight"],
        ["input_blocks.2.0.op.weight", "input_blocks.3.0.in_layers.0.weight", "input_blocks.4.0.in_layers.0.weight"],
    ],
    ids=["empty", "transformer", "ends in a downsampler", "uneven levels"],
)
def test_shapes_that_are_not_supported(names):
    with pytest.raises(BadCheckpoint):
        UNetShape.from_state_dict(names)


LAYER = "output_blocks.3.1.transformer_blocks.0.attn2.to_v"


@pytest.mark.parametrize(
    "architecture, shape, name",
    [
        ("sd1", SD1, "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn2_to_v"),
        ("sd2", SD1, "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn2_to_v"),
        ("sdxl", SDXL, "lora_unet_output_blocks_3_1_transformer_blocks_0_attn2_to_v"),
        ("sd1", DEMO, "lora_unet_output_blocks_3_1_transformer_blocks_0_attn2_to_v"),
        ("flux", None, "diffusion_model.output_blocks.3.1.transformer_blocks.0.attn2.to_v"),
    ],
)
def test_delta_names_are_what_each_host_finds(architecture, shape, name):
    assert keys.delta_name(LAYER, architecture, shape) == name


@pytest.mark.parametrize("architecture, shape", [("sd1", SD1), ("sdxl", SDXL), ("flux", None)])
def test_written_names_are_accepted(architecture, shape):
    accepted = keys.accepted_names(LAYER, shape)
    assert keys.delta_name(LAYER, architecture, shape) in accepted
    assert keys.NATIVE + LAYER in accepted
    assert len(set(accepted)) == (3 if shape else 1)


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    names = ["b.attn2.to_k.weight", "a.attn2.to_q.weight", "a.attn2.to_v.weight", "a.proj.bias"]
    return {name: torch.randn(30, 20, generator=generator) for name in names}


def test_fingerprint_is_the_same_in_half_and_in_any_order():
    half = {k: v.half() for k, v in weights().items()}
    single = {k: v.float() for k, v in reversed(half.items())}
    assert keys.fingerprint(half) == keys.fingerprint(single)
    assert len(keys.fingerprint(half)) == 16 and int(keys.fingerprint(half), 16)


def test_fingerprint_tells_models_apart():
    seen = {keys.fingerprint(weights())}
    for change in ("value", "name", "shape", "bfloat16"):
        w = weights()
        if change == "value":
            w["a.attn2.to_q.weight"][0, 0] += 0.1
        elif change == "name":
            w["c.attn2.to_k.weight"] = w.pop("b.attn2.to_k.weight")
        elif change == "shape":
            w["b.attn2.to_k.weight"] = w["b.attn2.to_k.weight"].view(20, 30)
        else:
            w = {k: v.bfloat16() for k, v in w.items()}
        seen.add(keys.fingerprint(w))
    assert len(seen) == 5


def test_fingerprint_without_cross_attention_takes_everything():
    w = {"x.qkv.weight": torch.ones(3, 3), "y.bias": torch.zeros(2)}
    before = keys.fingerprint(w)
    w["y.bias"] += 1
    assert keys.fingerprint(w) != before
    with pytest.raises(BadCheckpoint):
        keys.fingerprint({})
