#!/usr/bin/env python
"""Run the benchmarks one after the other, and write docs/benchmarks.md.

    python benchmarks/bench.py                     # needs no package but ours
    python benchmarks/bench.py --rivals            # installs other systems, each in an environment of its own
    python benchmarks/bench.py experience engine   # these alone

Run it on an idle machine.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import results

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", nargs="*", metavar="NAME", help=f"of {', '.join(results.ORDER)} (default: all)")
    parser.add_argument(
        "--rivals", action="store_true", help=f"measure {', '.join(results.WITH_RIVALS)} beside other systems"
    )
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.benchmarks if name not in results.ORDER]:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(results.ORDER)}")
    offered = results.WITH_RIVALS if arguments.rivals else results.ORDER
    if alone := [name for name in arguments.benchmarks if name not in offered]:
        parser.error(f"no rivals of {', '.join(alone)}; there are some of {', '.join(offered)}")
    failed = []
    for name in arguments.benchmarks or offered:
        command = [sys.executable, str(HERE / f"{name}.py"), "--keep", *["--rivals"] * arguments.rivals]
        with results.progress(name):
            done = subprocess.run(command)
        if done.returncode:
            failed.append(name)
            print(f"{name} failed with exit code {done.returncode}; the others go on", file=sys.stderr, flush=True)
    results.PAGE.write_text(results.page())
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
