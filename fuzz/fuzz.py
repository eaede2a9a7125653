"""Fuzz one target with atheris: fuzz.py --target=NAME [option or corpus of libFuzzer]..."""

import functools
import sys
from pathlib import Path

import atheris

NAME = next(option.removeprefix("--target=") for option in sys.argv if "--target=" in option)
# Watching PyYAML is slow, and where the file is made nothing of it is new.
sys.path.append(str(Path(__file__).parent.parent))  # the client of the http target
WATCHED = ["exporter", "prometheus_client", *(["yaml"] if not NAME.endswith("-made") else [])]

with atheris.instrument_imports(include=WATCHED):
    from exporter.config import loader
    from targets import TARGETS

# Made once, since it takes longer than all the rest; the exporter needs it once a start.
loader.make_converter = functools.cache(loader.make_converter)


def main() -> None:
    """Hand the target to libFuzzer, which does not return and passes over what begins with --."""
    # libFuzzer starts itself anew for -merge=1, by its first argument.
    again = f"{sys.executable} {sys.argv[0]}"
    atheris.Setup([again, *sys.argv[1:]], TARGETS[NAME])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
