"""Files that come with aworld beside its code: configurations, batch scripts, definitions of images, locked versions.

In a clone they are links to its own folders, so that both have the same files. An installed wheel holds copies.
"""

from pathlib import Path


def shipped(name: str) -> Path:
    """The real path of a file or folder that comes with aworld, such as `configs`."""
    return Path(__file__).with_name(name).resolve()
