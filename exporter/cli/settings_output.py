"""What `settings` prints: sentences for people, JSON for programs."""

from collections.abc import Iterator, Mapping
from typing import Final

from exporter.cli.output import dump_json
from exporter.cli.settings_words import Settings

ADVICE: Final = (
    "Settings with ! stand out for LiFePO4; other cells may need them. Change them with the "
    "vendor's app: this program cannot."
)


def settings_table(name: str, address: str, settings: Settings, *, everything: bool) -> str:
    """Return the settings as sentences in groups, with what stands out marked."""
    return "\n".join(_lines(name, address, settings, everything=everything))


def _lines(name: str, address: str, settings: Settings, *, everything: bool) -> Iterator[str]:
    yield name if name == address else f"{name} ({address})"
    groups = settings.group(everything=everything)
    for title, sentences in groups.items():
        yield ""
        yield title
        for sentence in sentences:
            yield f"  {'!' if sentence.remark else ' '} {sentence.text}"
            if sentence.remark:
                yield f"      {sentence.remark}"
    if any(sentence.remark for sentences in groups.values() for sentence in sentences):
        yield ""
        yield ADVICE


def settings_json(name: str, address: str, settings: Settings) -> str:
    """Return the settings that were read as a JSON object; every unit is in its name."""
    shown: Mapping[str, object] = {
        "battery": name,
        "address": address,
        "settings": settings.values,
        "remarks": settings.remarks(),
    }
    return dump_json(shown)
