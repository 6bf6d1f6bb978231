"""The demo world's own classifier: which object and which style a picture shows, or "other" for neither.

It exists to measure forgetting on the bundled demo model; `assets/demo/train_demo.py` trains it on
the drawings themselves, never on pictures of the diffusion model.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

OTHER = "other"


class DemoClassifier(nn.Module):
    """Four strided convolutions and two linear heads over `[b, 3, 128, 128]` pictures in -1..1.

    objects, styles: names of the classes, without `OTHER`, which is the last class of both heads.
    """

    def __init__(self, objects: list[str], styles: list[str]):
        super().__init__()
        self.objects, self.styles = [*objects, OTHER], [*styles, OTHER]
        widths = (3, 32, 64, 96, 128)
        layers = []
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.object_head = nn.Linear(widths[-1], len(self.objects))
        self.style_head = nn.Linear(widths[-1], len(self.styles))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Object logits `[b, objects + 1]` and style logits `[b, styles + 1]`."""
        features = self.features(pictures)
        return self.object_head(features), self.style_head(features)

    def features(self, pictures: Tensor) -> Tensor:
        """Pooled features `[b, 128]`, for distances between sets of pictures."""
        return self.body(F.avg_pool2d(pictures, 2)).mean((2, 3))

    @torch.no_grad()
    def recognise(self, pictures: Tensor) -> list[tuple[str, str]]:
        """The most likely (object, style) of each picture."""
        objects, styles = self(pictures.float())
        return [
            (self.objects[o], self.styles[s])
            for o, s in zip(objects.argmax(1).tolist(), styles.argmax(1).tolist(), strict=True)
        ]

    @classmethod
    def load(cls, file: str | Path) -> DemoClassifier:
        """Read the classifier that `assets/demo/train_demo.py` wrote."""
        with safe_open(file, "pt") as f:
            names = f.metadata()
            net = cls(names["objects"].split(","), names["styles"].split(","))
            net.load_state_dict({k: f.get_tensor(k).float() for k in net.state_dict() if k in f.keys()}, strict=False)
        return net.eval()
