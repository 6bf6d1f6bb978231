"""Measurements of the method beside published ones; not shipped to hosts."""
