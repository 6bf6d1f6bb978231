"""Entry point of `python -m unlearn_core`."""

import sys

from .cli.main import main

sys.exit(main())
