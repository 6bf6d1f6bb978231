"""A recipe with as little as can be drawn and asked, for tests that are not about what comes out."""

from dataclasses import replace

from unlearn_core.recipe import SMALL

LEAST = {
    kind: replace(
        small,
        held_out_prompts=2,
        probe_prompts=1,
        rivals=2,
        anchor_levels=2,
        reading_levels=(0.5,),
        checked_near=1,
        checked_far=1,
        preserved_pictures=1,
        shown=2,
        replay_near=1,
        replay_near_prompts=1,
        replay_far=2,
        tries=small.tries[:1],
        open_tries=small.open_tries[:1],
        listed_prompts=(1, 2),
        listed_total=40,
    )
    for kind, small in SMALL.items()
}
