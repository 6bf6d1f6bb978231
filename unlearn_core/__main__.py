"""Entry point of `python -m unlearn_core`."""

import sys

from .cli import main

sys.exit(main())
