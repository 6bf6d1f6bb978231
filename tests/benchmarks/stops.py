"""A training that is cut off after each thing that it keeps, and goes on when it is started again."""

import pytest


def whole_and_in_parts(monkeypatch, training, made):
    """({name: weights} of a whole run, the same of one that was stopped when it had kept something).

    training: the module with `keep`. made: runs it to its end in a folder of this name.
    """
    once, keep = made("once"), training.keep

    def stopped(*given):
        keep(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "keep", stopped)
        made("twice")
    return once, made("twice")
