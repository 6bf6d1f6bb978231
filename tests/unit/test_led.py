"""How far a change leads the target's prompts, by text alone."""

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import LAYER, opened, stack_on
from unlearn_core import ForgetConfig
from unlearn_core.method.closed_form import changes
from unlearn_core.method.led import led
from unlearn_core.recipe import SMALL

PAIRS = [("a banana", "a pear")]
WISH = ForgetConfig(concept="banana", anchor="pear")


def test_nothing_leads_nowhere_and_the_anchors_answer_is_the_whole_way():
    with opened(TinyHost(), WISH, recipes=SMALL) as run:
        assert led(run, PAIRS) == 0
        (reader,) = run.readers
        tokens, way = changes(reader, PAIRS)
        own = torch.linalg.lstsq(tokens.values[0].T @ tokens.values[0], tokens.values[0].T @ way[0], driver="gelsd")
        for part in (0.5, 1.0, 1.3):
            factors = {p: (own.solution.T, part * run.edits.weight(p)) for p in reader.paths}
            run.edits.set(factors)
            assert led(run, PAIRS) == pytest.approx(part, rel=1e-3)
        with run.edits.off():
            assert led(run, PAIRS) == pytest.approx(1.3, rel=1e-3), "what is on the layers counts, switched on or not"


def test_what_the_stack_does_counts_and_can_be_taken_back():
    host = TinyHost()
    stack = stack_on(host, {"concept": "frog", "anchor": "cat"})
    with opened(host, WISH, stack, SMALL) as run:
        below = led(run, PAIRS)
        assert below != 0
        factor = stack.active[0].delta.factors[LAYER]
        path = host.layers()[LAYER]
        run.edits.set({path: (factor.down, -factor.scale * factor.up)})
        assert led(run, PAIRS) == pytest.approx(0, abs=1e-4 * max(1.0, abs(below)))


def test_where_nothing_tells_it_is_taken_for_all_of_the_way(monkeypatch):
    with opened(TinyHost(), WISH, recipes=SMALL) as run:
        assert led(run, [("a banana", "a banana")]) == 1.0
        monkeypatch.setattr("unlearn_core.method.led.changes", lambda *_: None)
        assert led(run, PAIRS) == 1.0
