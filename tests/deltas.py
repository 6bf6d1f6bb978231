"""A delta that fills in everything its file can say, for the tests of the file."""

import torch

from unlearn_core.delta.format import Delta, DeltaInfo, Factor, Parent

LAYER = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"


def an_info(**changes) -> DeltaInfo:
    values = {
        "concept": "banana",
        "kind": "object",
        "anchor": "Obst",
        "architecture": "sd1",
        "prediction_type": "epsilon",
        "base_fingerprint": "0123456789abcdef",
        "parents": (Parent("frosch-grün", "ab" * 32, 0.5, "frog"),),
        "config": {"rank": 3, "keep": ["apple", "梨"], "learning_rate": 1e-3, "checkpointing": False},
        "prompts": (("a banana on a table", "a fruit on a table"), ("banana", "fruit")),
        "check": {"forgotten_after": 0.01, "worst_neighbour": "lemon"},
        "steps": 12,
        "stopped": "stopped at step 12",
        "merged": (Parent("x", "cd" * 32, 1.0, "cat"),),
    }
    return DeltaInfo(**{**values, **changes})


def a_delta(seed: int = 0, rank: int = 3, alpha: float = 1.5, **changes) -> Delta:
    g = torch.Generator().manual_seed(seed)
    names = (LAYER, LAYER.replace("to_k", "to_v"), "lora_unet_a.b")
    factors = {n: Factor(torch.randn(rank, 8, generator=g), torch.randn(6, rank, generator=g), alpha) for n in names}
    return Delta(factors, an_info(**changes)).rounded()
