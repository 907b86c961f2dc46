"""Run a command on a run directory while its disk is full, and once more when there is room again.

`unshare --user --map-root-user --mount python on_a_full_disk.py FOLDER FREE WORD …`: FOLDER moves to a small disk of
its own, of which FREE bytes are left over; the words are the command. Prints what the two said, as JSON.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

SIZE = 64 << 20


def main(folder: Path, free: int, words: list[str]) -> None:
    kept = shutil.copytree(folder, folder.with_name("kept"), symlinks=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
    shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
    ballast = folder / "ballast"
    with open(ballast, "wb") as f:
        f.write(bytes(shutil.disk_usage(folder).free - free))
    said = []
    for _ in range(2):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        said.append({"code": done.returncode, "stderr": done.stderr})
        ballast.unlink(missing_ok=True)
    print(json.dumps(said))
    shutil.rmtree(kept)
    shutil.copytree(folder, kept, symlinks=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
