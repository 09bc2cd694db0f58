"""``python -m threadkit``: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from threadkit import demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return what the process should exit with.

    Args:
        arguments: the words after ``python -m threadkit``; None takes the process's own.

    Example:
        >>> main(["demo", "--help"])
        Traceback (most recent call last):
        SystemExit: 0
    """
    parser = argparse.ArgumentParser("threadkit", description="In-process concurrency for Python, without a broker.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "demo",
        help="index a folder with all six primitives at work",
        description="Index a folder: size, lines and SHA-256 of every file; functions and classes of Python.",
    )
    command.add_argument(
        "folder",
        nargs="?",
        metavar="FOLDER",
        help="what to index; the standard library of this interpreter by default",
    )
    command.add_argument("--watch", action="store_true", help="go on watching the folder for changes")
    command.add_argument("--workers", type=int, default=4, metavar="N", help="files indexed at once (default: 4)")
    command.add_argument(
        "--index", metavar="PATH", help="the SQLite file to write; in a temporary directory by default"
    )
    command.add_argument("--json", action="store_true", help="print nothing but the summary, as JSON")
    options = parser.parse_args(arguments)
    try:
        return demo.run(
            options.folder, watch=options.watch, workers=options.workers, index=options.index, as_json=options.json
        )
    except demo.Refused as refusal:
        command.error(str(refusal))


if __name__ == "__main__":
    sys.exit(main())
