"""The inputs that fuzzing has found: corpus/TARGET.txt holds one a line, in base64.

`corpus.py unpack TARGET FOLDER` writes each input into its own file, as libFuzzer needs them;
`corpus.py pack TARGET FOLDER` replaces the corpus by the files of the folder.
"""

import hashlib
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"


def inputs(target: str) -> list[bytes]:
    """Return the inputs of one target; a new target has none."""
    path = CORPUS / f"{target}.txt"
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [b64decode(line, validate=True) for line in lines]


def unpack(target: str, folder: Path) -> None:
    """Write each input into a file named after its hash, as libFuzzer does."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs(target):
        (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)


def pack(target: str, folder: Path) -> None:
    """Replace the corpus of a target by the files of a folder."""
    lines = sorted(b64encode(path.read_bytes()).decode() + "\n" for path in folder.iterdir())
    (CORPUS / f"{target}.txt").write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
