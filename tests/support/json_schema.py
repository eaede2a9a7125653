"""Checks a file against one of the JSON schemas that come with check-jsonschema."""

import subprocess
import sys
from pathlib import Path


def check_schema(path: Path, schema: str) -> subprocess.CompletedProcess[str]:
    """Run check-jsonschema with a schema of its own; nothing is downloaded."""
    program = Path(sys.executable).with_name("check-jsonschema")
    return subprocess.run(
        [program, "--builtin-schema", schema, path], capture_output=True, text=True, check=False
    )
