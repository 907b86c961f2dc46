"""`python -m aworld.tools python files search`: several tool servers as one process over stdio."""

import gc
import sys
from importlib import import_module

from aworld.tools import SERVERS


def serve(names: list[str]) -> None:
    gc.disable()  # during imports: it would take a tenth of a start
    from aworld.tools.common.server import ToolServer

    server = ToolServer()
    for name in names:
        if name not in SERVERS:
            raise SystemExit(f"no tool server '{name}'; valid: {', '.join(SERVERS)}")
        import_module(f"aworld.tools.{name}").add_to(server)
    gc.freeze()  # nor later look at what was imported
    gc.enable()
    server.run()


if __name__ == "__main__":
    serve(sys.argv[1:])
