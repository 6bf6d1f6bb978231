"""The three losses of arXiv 2512.02657 as pure functions of predicted directions d `[b, c, h, w]`."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """|| d_S - sg d_T ||^2 per sample, mean over the elements, `[b]`: re-steering (teacher sees the mapped prompt)
    and preservation (teacher sees the same prompt), eqs. L_unlearn and L_preserve."""
    return (student.float() - teacher.detach().float()).pow(2).flatten(1).mean(1)


def drift(factors: Iterable[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Sum of ||s B A||_F^2 over (A `[..., r, in]`, B `[..., out, r]`, s), without forming the product:

    s^2 tr((B^T B)(A A^T)).
    """
    return sum(s * s * ((b.mT @ b) * (a @ a.mT)).sum() for a, b, s in factors)
