"""`python -m aworld.tools.work NAME TOOL < arguments`: print the lines that this function yields.

An error ends it with status 1 and, as the last line of stderr, what went wrong.
"""

import json
import sys
from importlib import import_module


def main(name: str, tool: str) -> None:
    arguments = json.load(sys.stdin)
    try:
        for line in getattr(import_module(f"aworld.tools.work.{name}"), tool)(**arguments):
            print(line, flush=True)
    except ModuleNotFoundError as reason:
        sys.exit(f"there is no library {reason.name!r} here: pip install {reason.name}")
    except Exception as reason:  # whatever a library makes of a damaged file
        failed = f"{arguments['path']} cannot be read" if "path" in arguments else f"{tool} failed"
        sys.exit(f"{failed}: {type(reason).__name__}: {' '.join(str(reason).split())[:200]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
