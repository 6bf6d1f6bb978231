"""Tensors of a file put into a network: every one that it needs, no other, all of them finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import BadCheckpoint
from ..extremes import ends_of
from ..untrusted import listed

SCALES = (".scale_weight", ".weight_scale")
"""What float8 weights have to be multiplied with, as ComfyUI writes it."""
BESIDE = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")
"""What only faster arithmetic needs."""
QUANTISED = (".qweight", ".absmax", ".quant_map", ".SCB", ".qzeros", ".weight_scale_2", ".quant_state")


def unscaled(weights: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """The weights with the scales of float8 ones multiplied in. Raises `BadCheckpoint` for other kinds of numbers."""
    if odd := [n for n in weights if any(mark in n for mark in QUANTISED)]:
        raise BadCheckpoint(
            f"{file} is quantised ({listed(odd)}), which is not supported: use the float16 or bfloat16 file."
        )
    scales = {n: t for n, t in weights.items() if n.endswith(SCALES)}
    rest = {n: t for n, t in weights.items() if n not in scales and not n.endswith(BESIDE)}
    if odd := [n for n, t in rest.items() if not t.is_floating_point() and "position_ids" not in n]:
        raise BadCheckpoint(
            f"{file} holds numbers of the type {rest[odd[0]].dtype} ({listed(odd)}), which is not supported: "
            "use the float16 or bfloat16 file."
        )
    for name, scale in scales.items():
        scaled = name[: name.rindex(".")] + ".weight"
        value = scale.float()
        if scaled not in rest or scale.numel() != 1 or not (bool(value.isfinite()) and float(value) > 0):
            raise BadCheckpoint(
                f"{file} holds scaled weights in a form that is not supported ({name}): use the float16 or bfloat16 "
                "file."
            )
        rest[scaled] = with_scale(rest[scaled], scale)
    return rest


def with_scale(weight: Tensor, scale: Tensor) -> Tensor:
    """A float8 weight times its one scale, in float32. Raises `RuntimeError` where that is no single number."""
    return weight.float() * scale.float().reshape(())


def network(
    make: Callable[[], Any],
    state: Mapping[str, Tensor],
    dtype: torch.dtype,
    what: str,
    original: Callable[[str], str] = str,
) -> Any:
    """The network that `make` describes with these weights, and nothing else was ever allocated for it.

    what: the network in a sentence. original: a name inside the network as the artist's file has it. Raises
    `BadCheckpoint` when a tensor is missing, has no place, has another shape, or is not finite.
    """
    try:
        with torch.device("meta"):
            model = make()
    except (KeyError, IndexError, RuntimeError, TypeError, ValueError, AttributeError, ZeroDivisionError) as e:
        raise BadCheckpoint(f"{what} is of an unknown build ({e}).") from e
    wanted = {n: tuple(t.shape) for n, t in model.state_dict().items()}
    check_names(wanted, {n: tuple(t.shape) for n, t in state.items()}, what, original)
    # copied even in the right type: the file may change while we work
    held = {n: finite(t.to(dtype, copy=True), f"{what} holds in {original(n)}") for n, t in state.items()}
    model.load_state_dict(held, assign=True)
    return model


def check_names(
    wanted: Mapping[str, tuple[int, ...]],
    given: Mapping[str, tuple[int, ...]],
    what: str,
    original: Callable[[str], str] = str,
) -> None:
    """Raise `BadCheckpoint` where tensors are missing, left over or of another shape."""
    if missing := [original(n) for n in wanted if n not in given]:
        raise BadCheckpoint(
            f"{what} is incomplete: {listed(missing)} missing ({len(missing)} of {len(wanted)}); "
            "copy or download it again."
        )
    if extra := [original(n) for n in given if n not in wanted]:
        raise BadCheckpoint(
            f"{what} holds what its network has no place for: {listed(extra)} ({len(extra)} in all); "
            "use the checkpoint without additions."
        )
    for name, shape in wanted.items():
        if given[name] != shape:
            raise BadCheckpoint(
                f"{what} does not fit its network: {original(name)} is {list(given[name])}, not {list(shape)}."
            )


def finite(tensor: Tensor, where: str) -> Tensor:
    """The tensor. Raises `BadCheckpoint` when it holds NaN or infinity, or numbers that its type cannot hold."""
    if tensor.numel():
        # one pass, without a second tensor; both ends of one that holds NaN are NaN
        low, high = ends_of(tensor)
        if not bool((low.isfinite() & high.isfinite()).item()):
            raise BadCheckpoint(
                f"{where} numbers that are not finite (NaN or infinity): copy or download the checkpoint again."
            )
    return tensor
