"""Two small flow transformers, trained on the demo model's own pictures: the families that Stable Diffusion is not."""
