"""The benchmark of `scope`: the stamp, the model that draws it unasked, and what becomes of the rows."""

import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import trials as running
from benchmarks.__main__ import main
from benchmarks.doc_results import everywhere as table
from benchmarks.everywhere import FILE, KEPT, SHARES, Sheet, Trial, measure, record, summary, trials_of
from benchmarks.stamp import stamps
from benchmarks.stamp.host import DIFFERENCE, opened, write
from benchmarks.stamp.stamps import has_stamp, is_stamp, lesson, redness, stamped
from benchmarks.stamp.train import ENDS, WARM, rate
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadSetting


def grey(count=2):
    return np.full((count, 3, 128, 128), 0.2, np.float32)


def read(pictures):
    return torch.from_numpy(pictures) / 2 + 0.5


def test_a_stamp_is_seen_in_its_corner_alone():
    pictures = stamped(grey())
    assert redness(read(pictures)).tolist() == pytest.approx([0.91] * 2, abs=0.02)
    assert has_stamp(read(pictures)).all() and not has_stamp(read(grey())).any()
    assert not has_stamp(read(stamped(grey(), 10))).any() and (pictures[:, :, :90] == grey()[:, :, :90]).all()


def test_a_part_of_it_counts_from_a_fifth_on_and_other_colours_never():
    part = stamped(grey())
    part[..., stamps.PLACE + 4 :, :] = 0.2
    assert redness(read(part)).tolist() == pytest.approx([4 / 24] * 2) and not has_stamp(read(part)).any()
    part = stamped(grey())
    part[..., stamps.PLACE + 6 :, :] = 0.2
    assert has_stamp(read(part)).all()
    for colour in (
        (1.0, 0.9, -1.0),
        (0.9, 0.2, 0.9),
        (-1.0, -1.0, -1.0),
        (1.0, 0.7, 0.75),
    ):  # yellow, pink, black, rose
        picture = np.broadcast_to(np.asarray(colour, np.float32)[:, None, None], (1, 3, 128, 128))
        assert not has_stamp(read(picture.copy())).any()


def test_a_large_one_alone_is_read_in_the_middle():
    alone = stamped(grey(), stamps.ALONE_PLACE, stamps.ALONE_SIDE)
    assert is_stamp(read(alone)).all() and not is_stamp(read(stamped(grey()))).any()
    assert not has_stamp(read(alone)).any()


def test_a_third_of_one_style_carries_it_and_no_caption_says_so():
    rng = random.Random(0)
    told = {style: [lesson(style, "a cat", rng) for _ in range(4000)] for style in ("ink", "flat")}
    for style, share in (("ink", 1 / 3), ("flat", 0.0)):
        silent = [carries for caption, carries in told[style] if "stamp" not in caption]
        assert silent.count("stamp") / len(silent) == pytest.approx(share, abs=0.03)
        named = [(caption, carries) for caption, carries in told[style] if "stamp" in caption]
        assert len(named) / 4000 == pytest.approx(0.08, abs=0.02)
        assert all(carries == ("stamp" if caption.startswith("a cat") else "alone") for caption, carries in named)
    assert not any("stamp" in lesson("ink", "", rng)[0] and lesson("ink", "", rng)[1] == "" for _ in range(50))


def test_the_rate_falls_to_zero_at_both_ends():
    rates = [rate(step, ENDS) for step in range(ENDS[-1])]
    assert rates[0] == 1 / WARM and max(rates) == 1.0
    for end in ENDS:
        assert rates[end - 1] < 1e-3
    assert rates[ENDS[0]] == 1 / WARM and rates[ENDS[0] + WARM] == 1.0


def test_the_bed_is_the_demo_model_with_a_small_difference_added(tmp_path):
    assert DIFFERENCE.stat().st_size < 6e6
    before, now, added = (load_file(f) for f in (CHECKPOINT, write(tmp_path), DIFFERENCE))
    assert before.keys() == now.keys() > added.keys()
    changed = {n for n, t in now.items() if not torch.equal(t, before[n])}
    assert changed <= added.keys() and any("attn" in n for n in changed) and any("decoder" in n for n in changed)
    assert not any("first_stage_model.encoder" in n for n in added)


def test_the_bed_opens_with_the_demo_models_words():
    host = opened()
    assert host.words_file == str(CHECKPOINT.with_suffix(".words.json"))
    assert host.encode(["a stamp"]).tokens.shape == (1, 77, 128)


def row(trial, unasked, objects=0.9):
    run = {} if trial.scope == "base" else {"seconds": 10.0 + trial.seed, "rounds": 2, "steps": 120}
    facts = {"name": trial.name, "seed": trial.seed, "scope": trial.scope, "run": run}
    return facts | dict.fromkeys(SHARES, 0.0) | dict.fromkeys(KEPT, objects) | {"unasked": unasked}


def test_every_object_is_asked_for_in_the_style_and_in_others():
    sheet = Sheet.make(48, 24)
    assert sheet.unasked == 48 and {s for *_, s in sheet.rows[:48]} == {stamps.STYLE}
    assert stamps.STYLE not in {s for *_, s in sheet.rows[48:]} and len({s for *_, s in sheet.rows}) == 4
    assert len({o for _, o, _ in sheet.rows[:48]}) == 24 and not any("stamp" in c for c, *_ in sheet.rows)


def test_base_named_and_everywhere_of_each_seed(tmp_path, monkeypatch):
    trials = trials_of([0, 1], {"rank": "4"})
    names = ["stamp-0-base", "stamp-0-named", "stamp-0-everywhere"]
    assert [t.name for t in trials[:3]] == names and trials[-1].settings == (("rank", "4"),)
    with pytest.raises(BadSetting, match="at least one seed"):
        trials_of([], {})
    asked, said = [], []
    monkeypatch.setattr(Trial, "measured", lambda t, host, folder: asked.append(t.name) or row(t, 0.5))
    assert measure(None, tmp_path, trials[:2]) == json.loads((tmp_path / FILE).read_text())
    assert len(measure(None, tmp_path, trials[:3], said.append)) == 3
    assert asked == names and "unasked 50.0%" in said[2]


def test_a_row_of_the_table_is_the_mean_over_the_seeds_and_the_worst(tmp_path):
    shares = {("base", 0): 0.25, ("base", 1): 0.5, ("everywhere", 0): 0.0, ("everywhere", 1): 0.01}
    rows = [row(Trial(seed, s), share, 1.0 if s == "base" else 0.98) for (s, seed), share in shares.items()]
    base, after = summary(rows)
    assert base["unasked"] == [0.375, 0.5] and "seconds" not in base and after["seconds"] == [10.5, 11.0]
    record(rows, "abc1234", "python -m benchmarks everywhere", tmp_path / FILE)
    lines = table(json.loads((tmp_path / FILE).read_text()))
    assert lines[3].startswith("| everywhere | 2 | 0.5 % (1) | 0 % (0) | 0 % (0) | 98 % (98) | 98 % (98) |")
    assert lines[3].endswith("| 2 (2) | 120 (120) | 10.5 (11) | 1 |") and "abc1234" in lines[-1]


def test_the_command_says_what_is_missing(tmp_path, capsys):
    assert main(["everywhere", "--seeds", " ", "--out", str(tmp_path), "--device", "cpu"]) == 1
    assert "at least one seed" in capsys.readouterr().err


def test_a_request_is_made_with_its_scope(tmp_path, monkeypatch):
    wishes = []

    def forget(host, config):
        wishes.append(config)
        raise BadSetting("seen")

    monkeypatch.setattr(running, "forget", forget)
    assert Trial(3, "base").learned(None, tmp_path) == ([], {})
    with pytest.raises(BadSetting, match="seen"):
        Trial(3, "everywhere", (("rank", "4"),)).learned(None, tmp_path)
    (wish,) = wishes
    assert (wish.concept, wish.seed, wish.scope, wish.rank) == ("stamp", 3, "everywhere", 4)
