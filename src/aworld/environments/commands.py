"""`aworld corpus`: an index of documents for the search tool."""

import argparse
from pathlib import Path

from aworld.commands import Commands, add


def add_to(commands: Commands) -> None:
    """Add the command to those of `aworld`."""
    corpus = add(commands, "corpus", _corpus, "index a folder of documents, or a JSONL dump, for the search tool")
    corpus.add_argument("source", metavar="FOLDER|FILE", type=Path, help="pdf, docx, html, txt, …; or title and text")
    corpus.add_argument("index", metavar="INDEX", type=Path, help="where it goes; then environment.corpus=INDEX")


def _corpus(arguments: argparse.Namespace) -> None:
    from aworld.environments.corpus import index

    pages, unread = index(arguments.source, arguments.index)
    print(f"{arguments.index}: {pages} pages" + (f"; {unread} files could not be read" if unread else ""))
