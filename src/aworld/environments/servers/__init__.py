"""The tool servers, each a module that stands alone."""

from pathlib import Path
from pkgutil import iter_modules

HELPERS = ("__main__", "endpoint", "execute", "internet", "opened", "paths", "readers", "result", "run_code", "work")
SERVERS = sorted(module.name for module in iter_modules([str(Path(__file__).parent)]) if module.name not in HELPERS)
