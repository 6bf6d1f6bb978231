"""What a whole stack has forgotten and preserved: the same questions of every stack, read by the base model."""

import pytest

from tests.small import a_delta, stack_of
from tests.unit.runs import Pictures, stack_on
from unlearn_core import Stack
from unlearn_core.delta.merge import combine_cat
from unlearn_core.evaluate import stack_report
from unlearn_core.evaluate.stack_report import Forgotten, StackReport, contents, report_on

COLOURS = {"banana": 1.0, "pear": -1.0}


class Erased(Pictures):
    """Under any stack a banana is drawn as a pear; what is read is read without one."""

    stacked = False

    def session(self, stack):
        self.stacked = bool(stack.active)
        return super().session(Stack())

    def encode(self, prompts):
        return super().encode([p.replace("banana", "pear") for p in prompts] if self.stacked else prompts)


@pytest.fixture
def host():
    return Erased(COLOURS)


@pytest.fixture
def stack(host):
    return stack_on(host, {"concept": "banana", "anchor": "pear"})


def test_a_forgotten_concept_is_no_longer_generated_and_others_stay_as_they_are(host, stack):
    bare, whole, again = report_on(host, [Stack(), stack, stack], stack)
    assert bare.generated == {"banana": 1.0} and whole.generated == {"banana": 0.0} and whole == again
    assert bare.preserved == whole.preserved


def test_what_does_not_fit_is_drawn_and_read_in_smaller_passes(stack):
    class Crowded(Erased):
        """Has room for five rows."""

        def denoise(self, x, sigma, conditioning):
            if len(x) > 5:
                raise RuntimeError("CUDA out of memory. Tried to allocate 16.00 GiB")
            return super().denoise(x, sigma, conditioning)

    wanted, found = (report_on(host(COLOURS), [Stack(), stack], stack) for host in (Erased, Crowded))
    assert found == wanted


def test_work_is_told(host, stack):
    told = []
    report_on(host, [Stack()], stack, tick=lambda: told.append(1))
    # steps of each batch of prompts, then a tick for each reading: 3 of the target, itself and rivals of the others
    prompts = stack_report.PICTURES + stack_report.PRESERVED * stack_report.PRESERVED_PICTURES
    assert len(told) == stack_report.STEPS * -(-prompts // 32) + 3 + 1 + stack_report.RIVALS


def test_contents_of_a_stack():
    style = a_delta("ink", 1, kind="style", anchor="flat")
    assert contents(stack_of((style, 1.0))) == [Forgotten("ink", "style", "flat", ())]
    merge = combine_cat(stack_of((style, 1.0), (a_delta("cat", 2, anchor="dog"), 1.0)))
    assert contents(Stack().with_delta(merge)) == [Forgotten(c, "", "", ()) for c in ("ink", "cat")]


def test_the_line_of_a_report():
    assert StackReport({"cat": 0.0, "owl": 0.0}, 0.975).line("after") == (
        "check, after: forgotten concepts still generated 0.0%, others right 97.5%"
    )
    assert StackReport({"cat": 0.125, "owl": 0.5}, 1.0).line("x") == (
        "check, x: forgotten concepts still generated 31.2% (most: 'owl' 50%), others right 100.0%"
    )
    assert "0.0%, others right 50.0%" in StackReport({}, 0.5).line("x")
