"""The diffusion classifier and what it is asked."""
