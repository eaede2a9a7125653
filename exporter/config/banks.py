"""Checks the banks of a configuration."""

from collections.abc import Iterator

from exporter.config.yaml_document import Complaint, Document


def bank_complaints(document: Document) -> Iterator[Complaint]:
    """Find names that are used twice, and batteries that are unknown or in two places."""
    batteries = [battery.get("name") for battery in document.mappings("batteries")]
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for index, bank in enumerate(document.mappings("banks")):
        path = f"banks[{index}]"
        yield from _name_complaints(document, f"{path}.name", bank.get("name"), batteries, names)
        members = bank.get("batteries")
        if members == []:
            yield document.complaint(f"{path}.batteries", "expected at least one battery")
        for number, member in enumerate(members if isinstance(members, list) else ()):
            if isinstance(member, str):
                place = f"{path}.batteries[{number}]"
                for text in _member_complaints(member, path, batteries, taken):
                    yield document.complaint(place, text)


def _name_complaints(
    document: Document, path: str, name: object, batteries: list[object], names: dict[str, str]
) -> Iterator[Complaint]:
    if not isinstance(name, str):
        return
    first = names.setdefault(name, path)
    if first != path:
        yield document.complaint(path, document.describe_taken(name, first, "choose another one"))
    if name in batteries:
        yield document.complaint(path, f"{name!r} is the name of a battery: choose another one")


def _member_complaints(
    member: str, bank: str, batteries: list[object], taken: dict[str, str]
) -> Iterator[str]:
    if member not in batteries:
        known = [name for name in batteries if isinstance(name, str)]
        if known and len(known) == len(batteries):  # else a wrong name may be this one
            yield f"no battery is named {member!r}: expected one of {', '.join(known)}"
    elif member not in taken:
        taken[member] = bank
    elif taken[member] == bank:
        yield f"{member!r} is in this bank already: remove one of them"
    else:
        yield f"{member!r} is in {taken[member]} already: a battery belongs to one bank"
