"""How a concept is forgotten: anchor, closed form, and training where that is not enough."""
