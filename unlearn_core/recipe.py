"""Every constant of the method in one place: what was searched once and is the same for all requests of a kind.

docs/recipe.md prints this table; `SMALL` is for tests that are not about how well the model forgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Counts, thresholds and weights of one kind of request. Shares are 0..1; prompts are counted, not tokens."""

    target_prompts: int = 96
    """Prompts of the target for the closed form: text alone, so many cost little."""
    unlisted_prompts: int = 0
    """Prompts of a style with things that only the general list names, beside these: it has to go from them too."""
    stacked_unlisted: int = 0
    """The same on top of earlier deltas, which leave less room."""
    entry_unlisted: int = 0
    """The same, stacked or not, where all text enters the model through layers of its own, as in Flux."""
    held_out_prompts: int = 16
    """Prompts of the target that nothing is learned from; the check asks with them."""
    probe_prompts: int = 6
    """Prompts whose pictures serve to measure score distances."""

    rivals: int = 20
    """Candidate anchors that are compared by score distance; more are first sieved by their text."""
    anchor_levels: int = 8
    """Noise levels at which two prompts are compared."""
    halving_pictures: int = 2
    """Pictures of the target on which all candidates are compared."""
    halving_open: float = 2.0
    """Candidates up to so many times as far as the nearest are compared at more points."""
    anchor_candidates: int = 9
    """Nearest candidates whose pictures are looked at."""
    anchor_gate: float = 0.1
    """Largest share of a candidate's pictures that may still read as the target."""
    anchor_pictures: int = 16
    """Pictures drawn of a candidate; twice as many of a category word and of no word at all, which stand for much."""
    anchor_steps: int = 8
    """Euler steps of these pictures."""
    anchor_glance: int = 8
    """How many of them are read first: most candidates that fail do so there."""

    reading_levels: tuple[float, ...] = (0.25, 0.4, 0.55, 0.7, 0.85)
    """Parts of the trained noise range at which pictures are read."""
    doubt: float = 1.05
    """While the method is still looking, a picture counts as the target's until its error as the target is this many
    times the next best reading's; too strict for a verdict, since the anchor of a likeness reads alike."""
    rounds: int = 2
    """Times that each held-out prompt is asked, each time with other noise."""
    forgotten_share: float = 0.05
    """Share of the target's pictures up to which a concept is called forgotten."""
    partly_share: float = 0.5
    """Share up to which it is called partly forgotten."""
    led_enough: float = 0.7
    """Part of the way to the anchor up to which a change is so weak that all pictures of the target are looked at."""
    group: int = 4
    """Pictures judged at a time, of the target up to twice as many where fewer cannot be enough; 0: all at once."""
    error: float = 0.02
    """Share of wrong answers that each of the sequential tests may give (Wald 1945)."""
    clear_reading: float = 0.5
    """Margin (log of the best other reading's error over its own) from which a picture is not read at more levels."""
    clear_verdict: float = 0.7
    """The same of a picture that the changed model has drawn: the verdict hangs on it."""
    clear_margin: float = 0.5
    """Margin by which a picture is clearly something else than the target."""
    doubtful_margin: float = 0.1
    """Margin up to which it is not clear what a candidate's picture shows."""
    kept_margin: float = 0.25
    """Margin up to which it is not clear that a picture of what is preserved, which has changed, still shows it."""
    near_shares: tuple[float, float] = (0.1, 0.5)
    """Test of "forgotten": largest and least share of pictures that are not clearly something else."""
    gate_shares: tuple[float, float] = (0.05, 0.65)
    """Test of a candidate anchor: largest and least share of its pictures that are not clearly something else."""
    forgotten_shares: tuple[float, float] = (0.02, 0.15)
    """Test of "partly forgotten" against "forgotten": shares of pictures that are read as the target."""
    partly_shares: tuple[float, float] = (0.35, 0.65)
    """Test of "not forgotten" against "partly forgotten": the same shares."""
    same_picture: float = 0.05
    """Squared change of a picture, as a part of its mean square, up to which it is not read again."""
    harmed_share: float = 0.05
    """Loss of preserved concepts from which they are called harmed."""
    known_share: float = 0.5
    """Share of a concept's pictures that has to be read right before the request, else the model does not know it and
    it counts for nothing."""
    least_preserved: float = 0.75
    """Part of what was read right before that has to be read right after, else nothing is handed on."""
    lost_by_chance: float = 1.0
    """Concepts whose loss is not yet taken for such harm, where few are known at all."""
    outside_harmed: float = 0.5
    """Change of prompts that name nothing listed, as a part of the target's, from which they are called harmed;
    a style's own prompts change more than a thing's."""
    outside_clear: float = 0.25
    """Part of it up to which the first point of a path tells that a prompt is not harmed; it is followed no further."""
    trail_steps: int = 3
    """Euler steps of the short paths on which such changes are measured."""
    trail_prompts: int = 4
    """Prompts of the target whose change is the measure."""
    glance_steps: int = 2
    """Euler steps of the short paths that a quick run looks at in place of pictures."""
    glance_near: float = 0.1
    """Part of the answers there that may still be near the target's own without a warning."""
    shown: int = 12
    """Pictures that are shown before and after, half of them the target's."""
    checked_near: int = 5
    """Nearest concepts that the check looks at."""
    checked_far: int = 3
    """Other concepts that the check looks at."""
    preserved_pictures: int = 2
    """Pictures of each preserved concept."""

    listed_prompts: tuple[int, int] = (3, 12)
    """Fewest and most prompts of each word of a list that the closed form preserves."""
    listed_total: int = 400
    """Prompts of a list between these bounds: few words meet each other in more of them."""
    unlisted_styles: int = 64
    """Prompts of each of the checkpoint's own styles that stay, with things that only the general list names, on top of
    earlier deltas and wherever a style goes from such things: it would be mixed up with these."""
    unlisted_styles_weight: float = 0.5
    """What each of these prompts weighs."""
    unlisted_near: int = 12
    """Prompts of each thing of the target's own category that only the general list names, there as well; all of them
    together weigh as much as a word of a list."""
    kept_prompts: int = 24
    """Prompts of a word that the artist wants to keep."""

    open_words: int = 600
    """Terms of the vocabulary that are read once for each text encoder, for checkpoints without a word list of their
    own. What is held of it needs fewer; with more of them the neighbours are found more surely."""
    open_weight: float = 0.25
    """What they weigh among all that is preserved."""
    near_candidates: int = 300
    """Terms around the target that are compared with it by their text."""
    near_words: int = 50
    """The nearest of them, which are preserved."""
    near_weight: float = 0.35
    """What these weigh among all that is preserved."""
    kept_as_near: float = 6.0
    """How many of them a word counts for that the artist wants to keep."""
    form_alike: float = 0.8
    """Likeness (cosine) from which a term that is spelled like the target counts as a form of it, and is not held."""
    form_prompts: int = 24
    """Prompts of a thing's plural that go with it, where the vocabulary tells that it has one."""
    anchor_apart: float = 1.0
    """How far from the target a candidate of the vocabulary has to be, as a part of how far no word at all is: what is
    nearer is another word for the same thing. What has nothing in common with the target lies about twice as far."""
    anchor_named: float = 0.5
    """Share of its pictures from which the target's name fits better than none, and a candidate is the target again."""
    near_rivals: int = 12
    """Of the candidate anchors the most that are taken from the target's own category before any other."""
    near_anchors: int = 40
    """Terms of the target's own category that are candidates beside those of the list."""

    tries: tuple[tuple[float, float], ...] = ((30.0, 0.0), (30.0, 0.25), (10.0, 0.25), (3.0, 0.5))
    """(preserve scale f, overshoot on top of the kind's) of the closed form, tried in this order until the target is
    gone."""
    open_tries: tuple[tuple[float, float], ...] = ((30.0, 0.35), (30.0, 0.6), (10.0, 0.5), (3.0, 0.7))
    """The same where the vocabulary is preserved as well: what is held around the target holds it back too."""
    overshoot: float = 0.05
    """How far past the anchor the closed form leads, as a part of the way: where f is finite it stops short of it."""
    entry_overshoot: float = 0.05
    """The same where all text enters the model through layers of its own, as in Flux: a style takes more there."""
    least_rank: int = 0
    """Least rank of the closed form's edits, where the artist has asked for no other."""
    entry_rank: int = 32
    """The same where all text enters the model through layers of its own: few layers have to tell all apart."""
    earlier_overshoot: float = 0.05
    """The same for earlier targets, of which the stack has taken most."""
    entry_earlier_overshoot: float = 0.0
    """The same where all text enters the model through layers of its own."""
    earlier_weight: float = 1 / 3
    """What the prompts of earlier targets weigh, as a part of the preserve scale."""
    earlier_scale: float = 0.0
    """The least preserve scale that counts for them, whatever is tried."""
    open_earlier_scale: float = 30.0
    """The same where the vocabulary is preserved as well: smaller scales are tried there, and would let them return."""
    earlier_shared: int = 10
    """Earlier targets up to which they share that weight; of more of them each weighs what one of so many does, else
    the first ones would come back."""
    many_from: int = 25
    """Earlier targets up to which what stays weighs no more: a stack of so many loses little of it."""
    many_held: float = 0.75
    """With n times so many of them it weighs n to this power as much, since more of it is moved."""
    many_overshoot: float = 0.15
    """How far past their anchors earlier targets are led then, as a part of the way, for each time that it weighs more:
    what is held would bring them back."""
    earlier_near: int = 1500
    """Most terms around earlier targets that are preserved as well, where these share their weight no more."""
    first_reach: float = 0.52
    """Balancing a stack: the part of the way to its anchor that each target is led at first."""
    further_reach: float = 0.05
    """How much further where one picture still shows it; twice as much where several do."""
    reach_rounds: int = 8
    """Most times that all targets are looked at there."""
    reach_pictures: tuple[int, int] = (2, 200)
    """Fewest pictures of each target that are looked at each time, and of all together where that is more."""
    reach_prompts: int = 20
    """Most prompts of each target that its way is measured with."""
    reach_together: float = 0.005
    """What the tokens of each target weigh there beside what is preserved, so that none goes far past the anchor for
    others that stay; of more than `earlier_shared` each weighs less."""
    reach_ridge: float = 3e-3
    """Ridge term there, as a part of the mean square of what is preserved."""
    earlier_prompts: int = 2000
    """Most prompts of earlier targets, so that a request costs the same however many came before."""
    ridge: float = 1e-3
    """Ridge term l, as a part of the mean square of the target's tokens."""

    training_prompts: int = 32
    """Prompts of the target that training draws: a style has to go from everything that can be drawn."""
    replay_near: int = 8
    """Near concepts that are replayed."""
    replay_near_prompts: int = 4
    """Prompts of a near concept, more where there are fewer concepts; a style has to stay on every object."""
    replay_far: int = 64
    """Prompts of other concepts that are replayed."""
    replay_erased: int = 48
    """Prompts of earlier targets that are replayed with their anchors."""
    warm_up: int = 10
    """Training steps in which the learning rate rises."""
    check_from: int = 50
    """Training step after which the check looks for the first time."""
    check_every: int = 25
    """Steps between two looks."""
    settle: int = 50
    """Last steps, in which the learning rate falls to zero: what the search for the target has harmed heals here."""
    recent: int = 20
    """Steps over which the forget loss is averaged."""
    fallen: float = 0.2
    """The check looks when the averaged forget loss has fallen to this part of what it begins with."""
    searching: float = 0.1
    """Part of the preservation penalty before the settling steps: the full one would slow the search."""
    settling: float = 1.0
    """Part of it while settling; a style shares its prompts with everything that is preserved, and the full penalty
    would bring it back."""
    patience: int = 150
    """Steps after which a target that is still drawn is steered past its anchor; a style is from the start."""
    training_overshoot: float = 0.5
    """How far, where the settings leave it open."""
    overshoot_while_settling: bool = True
    """Whether this goes on while settling; at the anchor itself the other styles heal."""
    averaged: float = 0.9
    """Share of the running average of the weights that each step keeps; a style's steps are rougher."""


OBJECT = Recipe()
STYLE = Recipe(
    target_prompts=128,
    stacked_unlisted=64,
    entry_unlisted=64,
    overshoot=0.5,
    entry_overshoot=0.9,
    earlier_overshoot=0.25,
    entry_earlier_overshoot=0.25,
    training_prompts=64,
    replay_near_prompts=8,
    outside_harmed=0.1,
    settling=0.3,
    patience=0,
    training_overshoot=0.75,
    overshoot_while_settling=False,
    averaged=0.97,
)
DEFAULT: dict[str, Recipe] = {"object": OBJECT, "style": STYLE}
"""The recipe of each kind of request."""
SMALL: dict[str, Recipe] = {
    kind: replace(
        recipe,
        target_prompts=4,
        stacked_unlisted=min(4, recipe.stacked_unlisted),
        entry_unlisted=min(4, recipe.entry_unlisted),
        unlisted_styles=4,
        unlisted_near=2,
        held_out_prompts=6,
        probe_prompts=2,
        rivals=4,
        anchor_levels=4,
        reading_levels=(0.3, 0.7),
        rounds=1,
        checked_near=2,
        checked_far=1,
        open_words=12,
        near_candidates=12,
        near_words=4,
        form_prompts=2,
        near_anchors=4,
        reach_rounds=3,
        reach_pictures=(2, 0),
        training_prompts=4,
        replay_near=2,
        replay_far=4,
        group=0,
        trail_steps=4,
    )
    for kind, recipe in DEFAULT.items()
}
"""Few prompts, pictures and noise levels, and the full check, for tests."""
REPLAY_SHARES: Mapping[str, float] = {"near": 0.35, "far": 0.4, "empty": 0.1, "erased": 0.2, "keep": 0.2}
"""How much of the replay each group gets, as far as the group exists."""


def at_the_entry(recipe: Recipe) -> Recipe:
    """The same recipe for a model through whose first layers all text enters; what is tried with it ends as far."""
    more = recipe.entry_overshoot - recipe.overshoot
    tries = tuple((scale, max(0.0, further - more)) for scale, further in recipe.open_tries)
    return replace(
        recipe,
        overshoot=recipe.entry_overshoot,
        earlier_overshoot=recipe.entry_earlier_overshoot,
        unlisted_prompts=recipe.entry_unlisted,
        stacked_unlisted=recipe.entry_unlisted,
        least_rank=recipe.entry_rank,
        open_tries=tries,
    )


def thorough(recipe: Recipe) -> Recipe:
    """The same recipe with more pictures, more noise and a lower threshold, for those who want to be sure."""
    return replace(
        recipe,
        held_out_prompts=2 * recipe.held_out_prompts,
        rounds=recipe.rounds + 1,
        anchor_pictures=2 * recipe.anchor_pictures,
        anchor_glance=2 * recipe.anchor_glance,
        checked_near=2 * recipe.checked_near,
        checked_far=2 * recipe.checked_far,
        forgotten_share=recipe.forgotten_share / 2,
        group=0,
        trail_steps=4,
    )
