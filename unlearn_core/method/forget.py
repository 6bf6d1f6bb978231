"""forget(): the whole method on one screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

from torch import Tensor

from ..config import ForgetConfig
from ..delta.base_model import Untouched
from ..delta.format import Delta, DeltaInfo, Factor
from ..delta.stack import Stack, check_fits
from ..device_memory import Frugal, release
from ..errors import BadSetting, Cancelled, UnlearnError
from ..evaluate.evaluator import ROUNDS, SHOWN, Answers, Exam, Teacher, summary
from ..host import Conditioning, HostModel
from ..progress import Progress, Tracker
from ..sampling import LatentBank
from ..words.prompts import mapped, names, renamed, scenes, spread, style_words
from ..words.word_list import WordList
from .adapters import Adapters, attached, peft_parts
from .anchor import LEVELS, SIEVE, choose, choose_unseen
from .closed_form import KNOWN, PAST, SENTENCES, TRIES, Edit, edit_until_gone
from .text_layers import guarded, is_target
from .token_moments import kept_moment, moment_of
from .training.data import Lessons
from .training.loop import start_in_null_space, train
from .training.losses import TextGuard
from .training.memory import checkpointed, paced
from .training.replay import Replay

FORGET_PROMPTS = {"object": 32, "style": 64}
"""Sentences that training draws: a style has to go from everything that can be drawn."""
PROBED, JUDGED = 6, 16
KEPT_NEAR, KEPT_FAR = 5, 3


@dataclass(frozen=True)
class Result:
    """What a run gives: the delta, its report (plain JSON values, times in seconds) and pictures of `prompts`.

    before, after: `[n, 3, H, W]` in 0..1, same prompts and noise, the target's first; after is None for a stopped run,
    both are without the check.
    """

    delta: Delta
    report: dict
    prompts: tuple[str, ...]
    before: Tensor | None
    after: Tensor | None


def forget(
    host: HostModel,
    config: ForgetConfig,
    stack: Stack | None = None,
    progress: Progress | None = None,
    general: WordList | None = None,
) -> Result:
    """Train one delta on top of `stack` that makes `host` forget `config.concept`; the base model is the teacher.

    The host's model is the same afterwards, bit for bit, whatever happens. `progress` may return True for a stop.
    general: words that are held beside those of the checkpoint's own list; the bundled list where it is left out.
    Raises `Cancelled`, `TrainingFailed` or another `UnlearnError`.
    """
    stack = stack or Stack()
    # now rather than after minutes of drawing
    peft_parts()
    layers = host.layers()
    check_fits(stack, host.fingerprint, host.architecture, layers)
    words = WordList.load(host.words_file)
    kind, concept = asked_for(config, words, stack)
    earlier = stack.concepts()
    rest = words.without([concept, *earlier])
    all_scenes = scenes(words.without(earlier), concept, kind, SENTENCES[kind] + JUDGED, config.seed)
    judged = all_scenes[:: max(2, len(all_scenes) // JUDGED)][:JUDGED]
    shown = [s for s in all_scenes if s not in judged]
    # a look for garbage takes as long as an unchecked run's algebra, and only pictures leave much
    tidy = partial(release, host.device) if config.check else (lambda: None)
    job = Tracker(plan(config), progress, tidy)

    with host.session(stack) as backbone, Untouched(backbone, layers, stack).hooked(backbone) as untouched:
        written = {path: name for name, path in reversed(layers.items()) if is_target(path, config.layers)}
        paths = sorted(written)
        if not paths:
            raise UnlearnError(f"The model has no layers of the kind '{config.layers}' to train.")
        learned = config.rank * sum(sum(backbone.get_submodule(path).weight.shape) for path in paths)
        pace = paced(host, backbone, config.batch, learned, config.checkpointing, config.memory)
        host = Frugal(host, pace.rows)
        empty = host.encode([""])
        if config.check:
            job.start("sampling", config.sampling_steps, "the model draws the target")
            probed = shown[:PROBED]
            asked = host.encode([s.prompt for s in probed])
            probes = LatentBank.draw(host, asked, 1, config.seed, config.sampling_steps, job.tick).latents[:, 0]
            job.start("choosing", SIEVE + 4, "looking for neighbours and a replacement")
            seen = concept, kind, words, probed, probes, empty, earlier, stack.anchors()
            choice = choose(host, config, *seen, job.tick, job.pulse)
        else:
            job.start("choosing", 1, "the nearest word takes its place")
            choice = choose_unseen(host, config, concept, kind, words, earlier, stack.anchors())
        pairs = [(s.prompt, mapped(s, choice.anchor, kind, words).prompt) for s in shown]
        # of several mappings of a prompt the last holds: the earlier ones draw what has gone since
        gone = dict(stack.prompts())
        second_hand = [(p, renamed(m, concept, choice.anchor)) for p, m in gone.items() if names(m, concept)]
        erased = [(p, m) for p, m in gone.items() if not names(m, concept)]
        watched = [*choice.neighbours[:KEPT_NEAR], *spread(rest.all_objects, KEPT_FAR, config.seed + 5), *config.keep]
        kept = {w: tuple(scenes(rest, w, rest.kind(w), 2, config.seed + 6)) for w in dict.fromkeys(watched)}
        exam = Exam(concept, kind, choice.anchor, tuple(judged), kept, words, config)

        with (
            attached(backbone, paths, config.rank, config.seed) as adapters,
            checkpointed(backbone, lambda: pace.plan.checkpointing),
        ):
            teacher = partial(base_model, adapters, untouched)
            before, ask = None, unasked
            if config.check:
                job.start("before", 2, "the judge looks at the model")
                before = exam.take(host, teacher, empty, job.tick, job.pulse, sure=False)
                ask = partial(exam.still_drawn, host, teacher, empty, job.pulse)
            reads_text = any(map(guarded, paths))
            lists = [words, general or WordList.load(None)]
            held = cache(partial(kept_moment, host, lists, [concept, *earlier], config.seed, config.keep, job.pulse))
            firmness, steps, trained = 0.0, 0, 0.0
            if config.closed_form and not config.null_space and reads_text:
                job.start("editing", len(TRIES), f"forgetting '{concept}' in one go")
                kinds = stack.kinds()
                known = [((p, m), kinds[p]) for p, m in spread(erased, KNOWN, config.seed)]
                edit = Edit.make(host, pairs + second_hand, known, held(), job.pulse)
                # hundreds of sentences have gone through
                tidy()
                past = PAST[kind] if config.overshoot < 0 else config.overshoot
                firmness = edit_until_gone(edit, adapters, untouched.changes, past, ask, job) if edit else 0.0
            if not firmness and not config.check:
                raise UnlearnError("This model cannot forget in one go, and training has to look: switch Check on.")
            if not firmness:
                job.extend(training_plan(config, kind))
                job.start("replay", 5 * config.sampling_steps, "the model draws what has to go and what has to stay")
                replay = Replay.make(rest, kind, choice.neighbours, config.keep, erased, config.seed)
                with adapters.off():
                    drawn = [spread(p, FORGET_PROMPTS[kind], config.seed) for p in (pairs, second_hand)]
                    lessons = Lessons.prepare(host, config, *drawn, replay, choice.profile, untouched, job.tick)
                guard = None
                kept_words = held() if reads_text and (config.null_space or config.guard_weight) else None
                if kept_words and config.null_space:
                    start_in_null_space(config, adapters, lessons, kept_words.value)
                if kept_words and config.guard_weight:
                    moved = moment_of(host, [p for p, _ in erased], pulse=job.pulse) if erased else None
                    guard = TextGuard.make(adapters, kept_words, moved, untouched.changes)
                begun = job.seconds
                steps = train(host, config, kind, adapters, teacher, lessons, guard, job, ask, pace)
                trained = job.seconds - begun
            after = None if job.stopping or not before else last_look(exam, host, config, teacher, empty, job)
            factors = {written[p]: Factor.within_layer(*adapters.pair(p), float(config.rank)) for p in paths}

    judge = summary(before, after)
    info = DeltaInfo(
        concept=concept,
        kind=kind,
        anchor=choice.anchor,
        architecture=host.architecture,
        prediction_type=host.prediction_type,
        base_fingerprint=host.fingerprint,
        parents=stack.parents(),
        config=config.deciding(),
        prompts=tuple(pairs + second_hand),
        judge=judge,
        steps=steps,
        stopped=(f"stopped at step {steps}" if steps else "stopped before the last look") if job.stopping else "",
    )
    delta = Delta(factors, info).rounded()
    delta.check_effect()
    report = {
        "concept": concept,
        "kind": kind,
        "anchor": choice.anchor,
        "why": choice.why,
        "refused": choice.refused,
        "neighbours": list(choice.neighbours),
        "architecture": host.architecture,
        "prediction_type": host.prediction_type,
        "teacher_stack": earlier,
        "way": f"in one go, firmness {firmness:g}" if firmness else f"{steps} steps",
        "firmness": firmness,
        "steps": steps,
        "stopped": info.stopped,
        "seconds": job.seconds,
        "training_seconds": trained,
        "memory": pace.plan.sentence(),
        "judge": judge,
    }
    # takes part of a second on a CPU, where a stop waits for it; a card's memory is needed by others
    if after or host.device.type == "cuda":
        release(host.device)
    # without an after there is nothing to compare, and who stops does not want to wait: a few of the target's are shown
    count = SHOWN if after else SHOWN // 4
    pictures = [None if a is None else host.decode(a.latents[:count]) for a in (before, after)]
    prompts = before.prompts if before else tuple(s.prompt for s in judged)
    return Result(delta, report, prompts[:count], *pictures)


def asked_for(config: ForgetConfig, words: WordList, stack: Stack) -> tuple[str, str]:
    """(kind, concept) of a request. Raises `BadSetting` when the stack has already forgotten it."""
    kind = words.kind(config.concept) if config.kind == "auto" else config.kind
    concept = style_words(config.concept) if kind == "style" else config.concept
    if concept.casefold() in map(str.casefold, stack.concepts()):
        raise BadSetting(f"The stack has already forgotten '{concept}': take that delta out or name another concept.")
    return kind, concept


def unasked(number: int, settled: bool) -> bool:
    """The judge's answer where it is not to look."""
    return False


def last_look(
    exam: Exam, host: HostModel, config: ForgetConfig, teacher: Teacher, empty: Conditioning, job: Tracker
) -> Answers | None:
    """The judge's answers after training; None when the artist stops here and keeps what was learned."""
    job.start("after", 2, "the judge looks at the student")
    try:
        return exam.take(host, teacher, empty, job.tick, job.pulse, sure=True)
    except Cancelled:
        if config.on_stop == "discard":
            raise
        return None


@contextmanager
def base_model(adapters: Adapters, untouched: Untouched) -> Iterator[None]:
    """The model without the delta in training and without the stack, for the length of a block."""
    with adapters.off(), untouched.shown():
        yield


LOOK = 2 * JUDGED * ROUNDS * 2 * 2
"""Forward passes of an exam, a sampling step."""


def plan(config: ForgetConfig) -> dict[str, float]:
    """Expected cost of each phase in forward passes, for the progress bar, when the closed form is enough."""
    if not config.check:
        return {"choosing": 1.0, "editing": 4.0}
    looked = LOOK * config.sampling_steps
    phases = {"sampling": PROBED * config.sampling_steps, "choosing": 40 * PROBED * LEVELS, "before": looked}
    return phases | {"editing": looked, "after": looked}


def training_plan(config: ForgetConfig, kind: str) -> dict[str, float]:
    """What comes when it is not, the last look included."""
    drawn = FORGET_PROMPTS[kind] * config.latents_per_prompt * config.sampling_steps
    steps = config.steps * config.batch * 2 * 4
    return {"replay": 4 * drawn, "training": steps, "after": LOOK * config.sampling_steps}
