"""The tool servers, each a module that stands alone; packages hold what they share."""

from pathlib import Path

SERVERS = sorted(module.stem for module in Path(__file__).parent.glob("[!_]*.py"))
