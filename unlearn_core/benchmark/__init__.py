"""Measurements: many requests in a row beside published methods, speed of the training loop."""
