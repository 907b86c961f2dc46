"""The tool servers, each a module that stands alone; packages hold what they share."""

from pathlib import Path
from pkgutil import iter_modules

SERVERS = sorted(
    module.name for module in iter_modules([str(Path(__file__).parent)]) if not module.ispkg and module.name[0] != "_"
)
