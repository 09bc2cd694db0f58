"""Chance comes in by this door, unless a component is given another.

The module ``random`` is loaded when the first number is wanted: it brings hashlib along, which takes longer to load
than all of threadkit may.
"""

from __future__ import annotations


def chance() -> float:
    """Return a random number from 0 up to, and without, 1."""
    from random import random

    return random()  # noqa: S311 - it spreads retries; nothing is kept secret by it
