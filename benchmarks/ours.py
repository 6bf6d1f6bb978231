"""The product itself: `forget()`, with its defaults or with some settings changed, for the table that chooses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from unlearn_core.config import ForgetConfig
from unlearn_core.delta.format import Delta
from unlearn_core.delta.paths import safe_file_name
from unlearn_core.demo.recognition import world
from unlearn_core.method.forget import forget
from unlearn_core.progress import StepReport
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.words.word_list import WordList

from .baselines.student import Tick
from .changes import Learned, stack_of
from .sequences import Request


@dataclass(frozen=True)
class Ours:
    """settings: {setting of `ForgetConfig`: value} other than the defaults."""

    name: ClassVar[str] = "ours"
    label: ClassVar[str] = "ours"
    GRID: ClassVar[dict] = {"learning_rate": (2e-3, 4e-3, 8e-3), "steps": (200, 300)}
    settings: dict = field(default_factory=dict)

    def learn(self, host: StandaloneModel, request: Request, past: Sequence[Learned], seed: int, tick: Tick) -> Learned:
        """Train one request on top of the earlier ones."""
        values = {"concept": request.concept, "anchor": request.anchor, "seed": seed}
        config = ForgetConfig.from_flat(values | self.settings)

        def show(report: StepReport) -> None:
            tick(report.fraction)

        made = forget(host, config, stack_of(past), show, self.general(host))
        info = made.delta.info
        delta = Delta(made.delta.factors, info, safe_file_name(request.concept))
        # near ones, and far ones that reach over the whole list: whatever the list names may have been replayed
        gone = [request.concept, *(p.concept for p in past)]
        replayed = WordList.load(host.words_file).without(gone).all_objects
        return Learned(request.concept, delta, None, replayed, info.anchor, info.prompts, info.steps)

    def general(self, host: StandaloneModel) -> WordList | None:
        """The words that are held beside those of the checkpoint's own list; None: the bundled ones."""
        return None


@dataclass(frozen=True)
class OursBlind(Ours):
    """The same without a word of what no list of the checkpoint names: the bundled list names most of it."""

    name: ClassVar[str] = "ours-blind"
    label: ClassVar[str] = "ours, what is held out is unknown to it"

    def general(self, host: StandaloneModel) -> WordList:
        """The bundled list without the demo model's held-out objects."""
        known = WordList.load(host.words_file).all_objects
        return WordList.load(None).without([o for o in world()["objects"] if o not in known])
