"""python -m unlearn_core demo: the whole job on the bundled checkpoint, counted by the bundled classifier."""

from __future__ import annotations

import argparse

from ..delta.atomic import write_json
from ..delta.paths import check_folder, safe_file_name
from ..demo import recognition
from ..errors import BadSetting, Cancelled
from ..method.known_words import meant
from ..words.prompts import style_words
from ..words.wish import read_wish
from ..words.word_list import WordList
from .console import STOPPED
from .forget import WITHHELD, Done, Files, forgotten, print_report
from .progress_bar import Counter
from .unfinished import how_it_goes_on

NEXT = (
    "Next: look at the pictures, the upper row before and the lower one after. For your own model: "
    "python install.py app --checkpoint model.safetensors"
)


def run_demo(args: argparse.Namespace) -> int:
    """Forget concepts of the demo model; pictures, deltas and reports go into one folder."""
    recognition.check_present()
    names = [*recognition.world()["objects"], *recognition.world()["styles"]]
    words = WordList.load(recognition.CHECKPOINT.with_suffix(".words.json"))
    wish = read_wish(args.concept, [words, WordList.load(None)], args.force)
    for concept in wish.concepts:
        if style_words(concept) not in names:
            raise BadSetting(
                f"The demo model does not know '{concept}'. {meant([concept], names)} It knows {', '.join(names)}."
            )
    check_folder("--out", args.out)
    folder, args.checkpoint = args.out, str(recognition.CHECKPOINT)
    stem = f"forget-{safe_file_name(wish.concepts[0])}" if len(wish.concepts) == 1 else "forget"
    args.out = folder / f"{stem}.safetensors"
    # called after what is forgotten, so that those of an earlier demo stay
    args.preview, args.report = args.out.with_suffix(".png"), args.out.with_suffix(".json")
    code = 0
    for done in forgotten(args, count):
        if isinstance(done, Files):
            continue
        print_report(done)
        if done.report["stopped"]:
            return STOPPED
        code = WITHHELD if done.report["withheld"] else code
    print(NEXT)
    return code


def count(done: Done) -> None:
    """Add the classifier's counts before and after to the report. Raises `Cancelled` where a stop is asked for."""
    if done.late:
        raise Cancelled(f"Stopped before '{done.report['concept']}' was counted. {how_it_goes_on(done.saved)}")
    stacks = {"before": done.before, "after": done.before.with_delta(done.delta)}
    report = done.report
    print("Counting with a classifier what is recognised, before and after. This takes a while.", flush=True)
    about = report["concept"]
    with Counter("counting", recognition.ticks(done.host, about, len(stacks))) as counter:
        report["classifier"] = recognition.measure(done.host, stacks, about, report["seed"], counter.tick)
    if done.files.report:
        write_json(done.files.report, report)
