"""What fuzzing has learned: corpus/TARGET.txt holds one input a line, in base64.

corpus.py unpack TARGET FOLDER writes each input into a file of its own, as libFuzzer wants them;
corpus.py pack TARGET FOLDER reads them back.
"""

import hashlib
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"


def inputs(target: str) -> list[bytes]:
    """Return the inputs of one target; none for a new one."""
    path = CORPUS / f"{target}.txt"
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [b64decode(line, validate=True) for line in lines]


def unpack(target: str, folder: Path) -> None:
    """Write each input into a file that is named after its hash, as libFuzzer does."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs(target):
        (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)


def pack(target: str, folder: Path) -> None:
    """Replace the corpus of a target by the files of a folder."""
    lines = sorted(b64encode(path.read_bytes()).decode() + "\n" for path in folder.iterdir())
    (CORPUS / f"{target}.txt").write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
