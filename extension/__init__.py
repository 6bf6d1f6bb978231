"""The Unlearn tab: for Automatic1111, Forge and their relatives, and on its own (`python -m extension`)."""
