"""Fuzz one target with atheris: fuzz.py --target=NAME [option or corpus of libFuzzer]..."""

import functools
import sys
from pathlib import Path

import atheris

NAME = next(option.removeprefix("--target=") for option in sys.argv if "--target=" in option)
sys.path.append(str(Path(__file__).parent.parent))  # for tests.support, which the http target uses
# Instrumenting PyYAML is slow, and generated files reach nothing new in it.
INSTRUMENTED = ["exporter", "prometheus_client", *(["yaml"] if "-made" not in NAME else [])]

with atheris.instrument_imports(include=INSTRUMENTED):
    from exporter.config import loader
    from targets import TARGETS

# Built once: it takes longer than everything else. The exporter builds it once per start.
loader.make_converter = functools.cache(loader.make_converter)


def main() -> None:
    """Run libFuzzer, which does not return; it ignores options that begin with two dashes."""
    # For -merge=1 libFuzzer restarts itself by its first argument.
    restart = f"{sys.executable} {sys.argv[0]}"
    atheris.Setup([restart, *sys.argv[1:]], TARGETS[NAME])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
