"""Where the project's files are."""

from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[2]
FRAMES_FOLDER: Final = PROJECT / "tests" / "frames"
"""Recorded frames; README.md there names their sources."""
