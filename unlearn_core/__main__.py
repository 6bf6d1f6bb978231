"""Entry point of `python -m unlearn_core`."""

from .cli.main import program

program()
