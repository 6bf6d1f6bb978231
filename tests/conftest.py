"""Keeps every test to two threads, the size of the machines that the times are promised for."""

import torch

torch.set_num_threads(2)
