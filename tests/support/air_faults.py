"""The faults of a simulated radio: of the adapter's chip and of the air to the batteries."""

from dataclasses import dataclass
from typing import Final, Literal

NOT_ESTABLISHED: Final = 0x3E  # HCI: six connection events without an answer
LOST: Final = 0x08
ENDED_BY_BATTERY: Final = 0x13
NO_RESOURCES: Final = 0x0D
COLLISION: Final = 0x23


@dataclass(frozen=True, slots=True, kw_only=True)
class AirFaults:
    """The faults of one adapter and its radio; by default it has none."""

    establish_fails: int = 0  # connections that end with 0x3E before they are established
    early_loss: int = 0  # the next ones, with 0x08
    hang_up: int = 0  # the next ones, with 0x13
    reject_second: bool = False  # 0x23 for a connection while another one is being made
    deaf: bool = False  # answers no command until the reset that a power cycle begins with
    stuck: bool = False  # the kernel discovers for nobody, and begins no scan for a connect
    slots: int = 0  # connections at once, 0x0D for more; 0: no limit
    min_interval_ms: float = 0.0  # a connection with a shorter interval is lost
    needs_mtu: bool = False  # batteries answer nothing before the exchange of the MTU
    gap_after_disconnect_s: float = 0.0  # without advertisements
    advertise_ms: int = 320  # kinder than life: 1000 to 2000
    chip: Literal["4.2", "5.0"] = "4.2"  # with 5.0 Linux uses the extended commands

    def failing(self) -> list[int]:
        """Return the HCI errors of the next connections, in order."""
        return (
            [NOT_ESTABLISHED] * self.establish_fails
            + [LOST] * self.early_loss
            + [ENDED_BY_BATTERY] * self.hang_up
        )
