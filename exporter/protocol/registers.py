"""Describes a number at a fixed place in a payload, and reads it."""

from dataclasses import dataclass

from exporter.errors import DecodeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One big-endian number at a fixed place: value = (raw + offset) / divisor.

    A divisor, not a factor: 2502 / 1000 is 2.502, 2502 * 0.001 is 2.5020000000000002.
    """

    name: str
    at: int
    size: int
    unit: str = ""
    divisor: int = 1
    offset: int = 0
    signed: bool = False

    def raw(self, payload: bytes, *, base: int = 0) -> int:
        """Return the undivided integer, `base` bytes further on.

        Raises:
            DecodeError: The payload ends before this register does.
        """
        start = base + self.at
        field = payload[start : start + self.size]
        if len(field) < self.size:
            raise DecodeError(
                f"{self.name}: expected {self.size} bytes at offset {start}, "
                f"got a payload of {len(payload)} bytes"
            )
        return int.from_bytes(field, "big", signed=self.signed)

    def read(self, payload: bytes, *, base: int = 0) -> float:
        """Return the value in its unit. Raises as `raw` does."""
        return (self.raw(payload, base=base) + self.offset) / self.divisor


def bits_set(mask: int) -> frozenset[int]:
    """Return the positions of the 1 bits: 0b101 -> {0, 2}."""
    return frozenset(i for i in range(mask.bit_length()) if mask >> i & 1)
