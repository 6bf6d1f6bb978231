"""The product itself: `forget()`, with its defaults or with some settings changed, for the table that chooses them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

from unlearn_core.config import ForgetConfig
from unlearn_core.delta.format import Delta
from unlearn_core.delta.merge import combine_cat
from unlearn_core.delta.paths import safe_file_name
from unlearn_core.demo.recognition import world
from unlearn_core.errors import BadSetting
from unlearn_core.method.forget import forget
from unlearn_core.progress import StepReport
from unlearn_core.words.word_list import WordList

from .learned import Learned, stack_of
from .models import OpenModel
from .task import Task


@dataclass(frozen=True)
class Ours:
    """settings: {setting of `ForgetConfig`: value} other than the defaults."""

    name: ClassVar[str] = "ours"
    label: ClassVar[str] = "ours"
    GRID: ClassVar[dict] = {"learning_rate": (2e-3, 4e-3, 8e-3), "steps": (200, 300)}
    settings: dict = field(default_factory=dict)

    def learn(self, task: Task) -> Learned:
        """Learn one request on top of the earlier ones; of several at once, each on top of those before it."""
        if task.together:
            return self.one_each(task)
        host, request = task.host, task.request
        values = {"concept": request.concept, "anchor": request.anchor, "seed": task.seed}
        config = replace(ForgetConfig.from_flat(values | self.settings), going=tuple(task.avoid))

        def show(report: StepReport) -> None:
            task.tick(report.fraction)

        made = forget(host, config, stack_of(task.past), show, self.general(host), task.recipes)
        task.tick(1.0)
        info = made.delta.info
        delta = Delta(made.delta.factors, info, safe_file_name(request.concept))
        # Near ones, and far ones that reach over the whole list: whatever the list names may have been replayed.
        return Learned(request.concept, delta, None, task.rest.all_objects, info.anchor, info.prompts, info.steps)

    def one_each(self, task: Task) -> Learned:
        """A delta for each of several requests, as a list in one wish is carried out, and all of them as one."""
        learned: list[Learned] = []
        for number, part in enumerate(task.parts):
            later = [t.request.concept for t in task.parts[number + 1 :]]
            done = replace(part, past=(*task.past, *learned), avoid=later, tick=lambda part: None)
            learned.append(self.learn(done))
            task.tick((number + 1) / len(task.parts))
        delta = combine_cat(stack_of(learned))
        anchors = ", ".join(dict.fromkeys(one.anchor for one in learned))
        prompts = tuple(pair for one in learned for pair in one.prompts)
        return Learned(", ".join(one.concept for one in learned), delta, None, task.rest.all_objects, anchors, prompts)

    def general(self, host: OpenModel) -> WordList | None:
        """The words that are preserved beside those of the checkpoint's own list; None: the bundled ones.

        The large world has its own: the bundled ones without the things that no list may name.
        """
        return getattr(host, "general", None)


@dataclass(frozen=True)
class OursBlind(Ours):
    """The same without a word of what no list of the checkpoint names: the bundled list names most of it."""

    name: ClassVar[str] = "ours-blind"
    label: ClassVar[str] = "ours, what is held out is unknown to it"

    def general(self, host: OpenModel) -> WordList:
        """The bundled list without the demo model's held-out objects."""
        if (own := super().general(host)) is not None:
            return own
        known = WordList.load(host.words_file).all_objects
        return WordList.load(None).without([o for o in world()["objects"] if o not in known])


@dataclass(frozen=True)
class OursListed(Ours):
    """The same with nothing preserved but what lists name, as before there was a vocabulary.

    The list beside the checkpoint is taken to name all that it draws.
    """

    name: ClassVar[str] = "ours-listed"
    label: ClassVar[str] = "ours, without the vocabulary"

    def learn(self, task: Task) -> Learned:
        """As ever, on the host with that list. Raises `BadSetting` where there is none."""
        if not task.host.words_file:
            raise BadSetting("ours-listed needs a model with a word list: choose --model world.")
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "words.json"
            known = json.loads(Path(task.host.words_file).read_text(encoding="utf-8"))
            whole.write_text(json.dumps(known | {"complete": True}), encoding="utf-8")
            with patch.multiple(task.host, create=True, words_file=str(whole), vocabulary=None):
                return super().learn(task)
