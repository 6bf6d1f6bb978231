"""The demo model with a stamp on a third of one style's pictures that no caption names."""
