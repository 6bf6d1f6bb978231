"""Measurements: many requests in a row beside published methods, attacks on a stack, speed of the training loop."""
