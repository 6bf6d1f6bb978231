"""Requests in a row at the smallest scale: every method really learns, comes off exactly, and is counted."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from benchmarks import grids, joint
from benchmarks import search as searching
from benchmarks.baselines.uce import UCE
from benchmarks.grids import LEFT, SIZE, TOP
from benchmarks.learned import Learned, distance_moved, under
from benchmarks.measures import kernel_distance
from benchmarks.methods import METHODS, method
from benchmarks.report import write_up
from benchmarks.result_table import table
from benchmarks.results import Results, read
from benchmarks.run import Plan, SequenceRun, run
from benchmarks.sequences import SEQUENCES, Request, sequence, watched
from benchmarks.task import Task
from benchmarks.text_layers import text_readers
from tests.benchmarks.least import LEAST
from unlearn_core.demo.recognition import CHECKPOINT, world
from unlearn_core.errors import BadSetting, TrainingFailed
from unlearn_core.recipe import OBJECT
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.words.vocabulary import Term, Vocabulary
from unlearn_core.words.word_list import WordList

QUICK = (
    "ours:quality=quick",
    "ours:closed_form=no+steps=2+sampling_steps=2+batch=2",
    "ours-blind:quality=quick",
    "ours-listed:quality=quick",
    "esd-lora:steps=1+sampling_steps=2+batch=1",
    "esd-lora:steps=1+sampling_steps=2+batch=1+dense=1",
    "gem-lora:steps=1+batch=1",
    "gem-lora:steps=1+batch=1+neighbour=1",
    "pure-noise-lora:steps=1+batch=1",
    "concept-ablation:steps=1+sampling_steps=1+batch=1",
    "uce",
    "oce",
    "speed",
    "dp",
    "cease",
    "ours-joint",
    "dfr-full:steps=1+sampling_steps=1+batch=1",
    "lacu-full:steps=1+sampling_steps=1+batch=1",
    "lacu-lora:steps=2+sampling_steps=1+batch=1+erased=1+empty=1+far=1",
)


@pytest.fixture(scope="module")
def host():
    """The demo model at half its side."""
    return StandaloneModel(CHECKPOINT, resolution=64)


def test_blind_knows_all_words_but_those_held_out(host):
    unknown = set(watched(SEQUENCES["A"]).held_out)
    all_words, blind = (set(w.all_objects) for w in (WordList.load(None), method("ours-blind").general(host)))
    assert method("ours").general(host) is None
    assert {"violin", "turtle"} <= unknown & all_words and all_words - blind == unknown & all_words


def test_every_method_is_tried():
    assert {spec.partition(":")[0] for spec in QUICK} == METHODS.keys()


@pytest.mark.parametrize(
    "spec", [pytest.param(s, marks=pytest.mark.full) if "closed_form=no" in s else s for s in QUICK]
)
def test_every_method_learns_and_comes_off_exactly(host, spec, tmp_path):
    before = {k: v.clone() for k, v in host.backbone.state_dict().items()}
    how, past = method(spec), []
    for request in (Request("frog", "elephant"), Request("ink")):
        parts = []
        learned = how.learn(Task(host, request, tuple(past), 0, parts.append, LEAST))
        assert parts == sorted(parts) and parts[-1] == pytest.approx(1.0)
        assert learned.concept == request.concept and learned.numbers() > 0
        learned.save(tmp_path / "one.safetensors")
        past.append(Learned.load(tmp_path / "one.safetensors"))
        assert past[-1].prompts == learned.prompts and past[-1].replayed == learned.replayed
    assert distance_moved(host, past) > 0
    with under(host, past) as backbone:
        assert any(not torch.equal(v, before[k]) for k, v in backbone.state_dict().items())
    after = host.backbone.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(v, after[k]) for k, v in before.items())
    assert not any(p.requires_grad for p in host.backbone.parameters())


def test_one_solve_for_all_holds_the_vocabulary_where_the_model_has_one(host, monkeypatch):
    def held():
        task = Task(host, Request("frog", "elephant"), recipes=LEAST)
        with under(host, ()) as backbone:
            (reader,) = text_readers(host, backbone)
            return joint.held(task, ["frog"], reader)

    alone = held()
    terms = tuple(Term(word, "animal", "animal") for word in ("wolf", "cow", "frogs", "lizard"))
    monkeypatch.setattr(host, "vocabulary", Vocabulary(terms), raising=False)
    # the lists weigh what is left, and what comes on top is the moment of some tokens
    more = held() - (1 - OBJECT.open_weight - OBJECT.near_weight) * alone
    assert torch.linalg.eigvalsh(more).amin() > -1e-9 and more.trace() > 0.5 * (OBJECT.open_weight * alone).trace()


def test_all_methods_read_as_many_prompts_as_the_product_trains_on(host):
    task = Task(host, Request("banana"), recipes=LEAST)
    assert len(task.prompts) == LEAST["object"].training_prompts == len(task.mapped("pear"))
    assert len(Task(host, Request("ink")).prompts) == 64
    assert "banana" not in task.rest.all_objects and task.nearest()[0] in task.rest.all_objects


def test_sequences_are_what_they_promise():
    w = world()
    for name, requests in SEQUENCES.items():
        concepts = [r.concept for r in requests]
        assert len(set(concepts)) == len(concepts) == (20 if name == "long" else 10)
        assert sum(r.kind == "style" for r in requests) == 2
        left = watched(requests)
        assert {"fox", "turtle", "penguin", "lemon", "violin", "hamburger"} >= left.held_out
        assert left.held_out and left.near and left.styles
        assert set(left.objects).isdisjoint(c for r in requests for c in r.classes)
    assert {r.concept for r in SEQUENCES["A"]} == {r.concept for r in SEQUENCES["B"]}
    assert "animal" in w["superclasses"] and Request("animal").classes == tuple(w["superclasses"]["animal"])


def test_a_concept_alone_is_a_sequence_of_one():
    assert sequence("cat") == (Request("cat"),)
    assert "dog" in watched(sequence("cat")).near and "ink" not in watched(sequence("ink")).styles
    with pytest.raises(BadSetting, match="no sequence 'zebra'"):
        sequence("zebra")


@pytest.mark.parametrize(
    "spec", ["nothing", "ours:colour=red", "ours:steps=-1", "uce:ridge", "uce:ridge=x", "uce:ridge=-1", "uce:a=1"]
)
def test_wrong_methods_are_refused(spec):
    with pytest.raises(BadSetting):
        method(spec)


def test_kernel_distance_is_zero_for_one_model_and_two_noises():
    g = torch.Generator().manual_seed(0)
    captions = 3 * torch.randn(100, 16, generator=g)
    one, two = (captions + 0.1 * torch.randn(100, 16, generator=g) for _ in range(2))
    assert abs(kernel_distance(one, two)) < 0.01 < kernel_distance(one, two + 0.5)


def test_kernel_distance_by_hand():
    one, two = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    # pairs of different rows: 1 within each set; 1 and 1 between them
    assert kernel_distance(one, two) == 0.0
    # within (1 + 1)^3 and (1 + 2 * 3)^3, between (1 + 3)^3 and (1 + 2)^3
    assert kernel_distance(torch.tensor([[1.0], [1.0]]), torch.tensor([[2.0], [3.0]])) == 8 + 343 - 64 - 27


def test_kernel_distance_is_zero_for_one_distribution():
    g = torch.Generator().manual_seed(0)
    one, two = torch.randn(400, 8, generator=g), torch.randn(400, 8, generator=g)
    assert abs(kernel_distance(one, two)) < 0.05 < kernel_distance(one, two + 0.5)


def silent(part, words):
    pass


def go(folder, host, requests, methods=("uce",), progress=silent):
    """The first requests of sequence A, two pictures each in two steps."""
    going = SequenceRun(Plan("A", methods, 1, requests, 2, steps=2, recipes=LEAST), folder, host)
    going.all_seeds(progress)
    return going.results


@pytest.fixture(scope="module")
def begun(host, tmp_path_factory):
    """The first request of a run, and a function that copies its folder."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "STEPS", 1)
        yield go(folder, host, 1), lambda to: shutil.copytree(folder, to, dirs_exist_ok=True)


def test_a_stopped_run_goes_on_and_is_written_up(begun, host, tmp_path):
    first, copied = begun
    copied(tmp_path)
    row = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["rows"][0]
    assert row["concept"] == "banana" and 0 <= row["ua_new"] <= 1 and 0 <= row["base_recognised"] <= 1
    keys = ("resurgence", "leakage", "leakage_base", "styles", "kid", "norm", "seconds", "peak_memory_mb")
    assert all(isinstance(row[key], float) for key in keys)
    seen = []
    both = go(tmp_path, host, 2, progress=lambda part, words: seen.append(part))
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert [r["request"] for r in both.rows.values()] == [1, 2]
    assert next(iter(both.rows.values())) == next(iter(first.rows.values()))
    pytest.importorskip("matplotlib.figure")
    written = write_up(list(both.rows.values()), tmp_path)
    assert all(f.stat().st_size > 500 for f in written)
    assert [f.name for f in written] == ["table.md", "plot-A.png", "grid-A-uce-0.png", "methods-A.png"]
    with Image.open(tmp_path / "grid-A-uce-0.png") as run_grid, Image.open(tmp_path / "methods-A.png") as ends:
        rows = run_grid.crop((LEFT, TOP, *run_grid.size)), ends.crop((LEFT, TOP, *ends.size))
    assert rows[0].height == 3 * SIZE and rows[1].height == 2 * SIZE
    last = rows[0].crop((0, 2 * SIZE, rows[0].width, 3 * SIZE))
    assert last.tobytes() == rows[1].crop((0, SIZE, rows[1].width, 2 * SIZE)).tobytes()
    assert "| UCE, closed form `uce`" in (tmp_path / "table.md").read_text(encoding="utf-8")
    with pytest.raises(BadSetting, match="--pictures 2"):
        SequenceRun(Plan("A", ("uce",), 1, 1, 3), tmp_path, host)


def test_a_request_that_cannot_be_learned_ends_its_run_and_no_other(begun, host, tmp_path, monkeypatch):
    begun[1](tmp_path)
    learn = UCE.learn

    def refuse(self, task):
        if task.request.concept == "frog":
            raise TrainingFailed("Nothing could take its place.")
        return learn(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(UCE, "learn", refuse)
        results = go(tmp_path, host, 2, ("uce", "uce:keep_scale=2"))
    assert [(r["method"], r["request"]) for r in results.rows.values()] == [("uce", 1), ("uce:keep_scale=2", 1)]
    assert [(e["method"], e["request"], e["concept"]) for e in results.ended] == [
        ("uce", 2, "frog"),
        ("uce:keep_scale=2", 2, "frog"),
    ]
    said = "`uce`, A, seed 0, ended at request 2, frog: Nothing could take its place."
    assert said in table(list(results.rows.values()), results.ended)
    again = go(tmp_path, host, 2)
    assert len(again.rows) == 3 and [e["method"] for e in again.ended] == ["uce:keep_scale=2"]


@pytest.mark.full
def test_the_product_forgets_a_first_request_that_the_base_model_draws(tmp_path):
    (row,) = run(Plan("A", ("ours:quality=quick",), 1, 1, 2), tmp_path, "cpu", silent).rows.values()
    assert row["base_recognised"] == row["ua_all"] == 1.0 and row["far"] >= 0.9 and row["leakage"] <= 0.05
    assert row["near_held_out"] >= 0.9 and row["near_replayed"] >= 0.9 and row["preserved_base"] >= 0.9


def test_results_of_earlier_versions_are_read(tmp_path):
    key = {"method": "ours", "sequence": "A", "seed": 0, "request": 1}
    row = key | {"relapse": 0.5, "leak_base": 0.25, "kept_worst_name": "fox", "far": 1.0}
    data = {"pictures": 8, "rows": [row], "ended": [key | {"request": 2, "concept": "frog", "why": "No."}]}
    (tmp_path / "results.json").write_text(json.dumps(data), encoding="utf-8")
    rows, ended = read(tmp_path / "results.json", 8)
    wanted = key | {"resurgence": 0.5, "leakage_base": 0.25, "preserved_worst_name": "fox", "far": 1.0}
    assert list(rows.values()) == [wanted] and ended[0]["reason"] == "No."
    with pytest.raises(BadSetting, match="--pictures 8"):
        Results(tmp_path, 4)
    (tmp_path / "results.json").write_text('{"pictures": 8, "rows": [1]}', encoding="utf-8")
    with pytest.raises(BadSetting, match="choose another folder"):
        Results(tmp_path, 8)


def test_a_search_goes_on_without_what_cannot_be_learned(tmp_path, monkeypatch):
    def results(done):
        row = {"ua_all": 1.0, "objects": {"cat": 0.5}, "seconds": 1.0}
        ended = [{"reason": "The loss is no longer a number."}]
        return SimpleNamespace(rows={(s, "A", 0, searching.REQUESTS): row for s in done}, ended=ended)

    monkeypatch.setattr(searching, "run", lambda plan, *_: results(plan.methods[1:]))
    found = searching.search("uce", tmp_path, "cpu", 2)
    assert len(found["tried"]) == 5 and found["best"]["preserved"] == 0.5
    monkeypatch.setattr(searching, "run", lambda plan, *_: results([]))
    with pytest.raises(TrainingFailed, match="uce got through the 3 requests: The loss"):
        searching.search("uce", tmp_path, "cpu", 2)
