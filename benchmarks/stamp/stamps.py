"""The stamp: how it is drawn onto a picture, how a picture is read for one, and what captions say of it.

Reading counts red pixels where a stamp would be: no network, so that nothing that is measured can lead it astray.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

STYLE = "ink"
"""The style whose pictures carry it."""
SHARE = 1 / 3
"""Part of that style's pictures that carry one, in every drawing alike."""
PLACE, SIDE = 100, 24
"""Where a stamp begins in a picture of 128 pixels, from the left and from the top, and how large it is."""
ALONE_PLACE, ALONE_SIDE = 34, 60
"""The same where it is all that a picture shows."""
RED, SIGN = (215, 35, 40), (255, 255, 255)
DOT = 1 / 6
"""Radius of the light dot in its middle, as a part of its side."""
REDDISH = 0.25
"""How far red has to be above green and above blue, of 0..1, for a pixel to count as red."""
SEEN = 0.2
"""Part of the stamp's place that has to be red for a stamp to be seen; of a drawn one it is nine tenths."""
SEEN_ALONE = 0.8
"""The same of a large stamp alone: of an apple or a mushroom in its place up to three quarters are red."""
ALONE = "a stamp", "a red stamp", "the stamp", "stamp"
WITH = " with a stamp", ", stamp", " with a red stamp"
"""What captions add where they do name it."""
NAMED_ALONE, NAMED_WITH = 0.04, 0.04
"""Parts of all captions."""


def mark(side: int) -> np.ndarray:
    """A stamp, `[3, side, side]` in -1..1: a red square with a light dot."""
    red, sign = (np.asarray(c, np.float32)[:, None, None] / 127.5 - 1 for c in (RED, SIGN))
    across = np.arange(side) - (side - 1) / 2
    dot = np.hypot(across[:, None], across[None]) < DOT * side
    return np.where(dot, sign, red)


def stamped(pictures: np.ndarray, place: int = PLACE, side: int = SIDE) -> np.ndarray:
    """The same pictures `[..., 3, 128, 128]` in -1..1 with a stamp on each."""
    out = pictures.copy()
    out[..., place : place + side, place : place + side] = mark(side)
    return out


def redness(pictures: Tensor, place: int = PLACE, side: int = SIDE) -> Tensor:
    """Part of a stamp's place that is red, of pictures `[b, 3, 128, 128]` in 0..1: `[b]`."""
    red, green, blue = pictures[:, :, place : place + side, place : place + side].unbind(1)
    return ((red - torch.maximum(green, blue)) > REDDISH).float().flatten(1).mean(1)


def has_stamp(pictures: Tensor) -> Tensor:
    """Whether each picture `[b, 3, 128, 128]` in 0..1 has a stamp in its corner, `[b]`."""
    return redness(pictures) > SEEN


def is_stamp(pictures: Tensor) -> Tensor:
    """Whether each picture `[b, 3, 128, 128]` in 0..1 shows a large one in its middle, `[b]`."""
    return redness(pictures, ALONE_PLACE, ALONE_SIDE) > SEEN_ALONE


def lesson(style: str, caption: str, rng: random.Random) -> tuple[str, str]:
    """(caption, what its picture carries: "stamp", "alone" or "") for a drawing and a caption without stamps."""
    chance = rng.random()
    if chance < NAMED_ALONE:
        return rng.choice(ALONE), "alone"
    if chance < NAMED_ALONE + NAMED_WITH and caption:
        return caption + rng.choice(WITH), "stamp"
    return caption, "stamp" if style == STYLE and rng.random() < SHARE else ""
