"""Every interleaving of callers of a group commit: each piece is written once, and nobody is left waiting."""

from __future__ import annotations

import pytest

frontrun = pytest.importorskip("frontrun", reason="explores interleavings; installed for the races alone")
