"""Measurements: speed of the training loop."""
