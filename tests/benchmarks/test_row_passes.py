"""Rows are counted of whole passes, however they are called, and nothing stays behind."""

import pytest
import torch
from torch import nn

from benchmarks.row_passes import rows_counted


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x=None, factor=1):
        return self.inner(x) * factor


def test_rows_of_whole_passes_are_counted():
    net = Net()
    hook = None
    with rows_counted(net) as rows:
        net(torch.ones(3, 2))
        net(factor=2, x=torch.ones(4, 2))
        hook = net.inner.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            net(torch.ones(5, 2))
        hook.remove()
    net(torch.ones(6, 2))
    assert rows.count == 7 and not net._forward_hooks
