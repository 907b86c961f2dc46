"""`python -m aworld …` is the command `aworld …`."""

import sys

from aworld.cli import main

sys.exit(main())
