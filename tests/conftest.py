"""Keeps every test to two threads at most, the size of the machines that the times are promised for."""

import torch

torch.set_num_threads(min(2, torch.get_num_threads()))
