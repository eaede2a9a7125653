"""What can be used on this machine to reach batteries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import Management
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.transport import Backend, ScanningTransport, Transport
from exporter.doctor.trace import Trace, make_kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What can be used on this machine to reach batteries."""

    routes: Sequence[str]  # of direct, gentle and bluez: those to try, in this order
    tries_gentle: bool = False  # even if direct works
    adapters: Sequence[str] = ()  # that are on; with several, the one that receives best is used
    kernel: Kernel = field(default_factory=Kernel)
    backend: Backend | None = None
    scans: bool = True
    discovering: bool = False  # another program scans

    def make_direct(self, adapter: str | None) -> Callable[[Trace], Transport]:
        """Return a function that makes the direct transport; it changes no setting."""

        def make(trace: Trace) -> Transport:
            kernel = make_kernel(self.kernel, trace)
            return DirectTransport(
                adapter=adapter, kernel=kernel, management=Management(kernel=kernel)
            )

        return make

    def make_bluez(self, adapter: str | None) -> ScanningTransport:
        """Return the transport through bluetoothd; it changes no setting."""
        # This loads bleak, which `--quick` does not need.
        from exporter.ble.bleak import BleakTransport  # noqa: PLC0415

        return BleakTransport(
            adapter=adapter, backend=self.backend, management=Management(kernel=self.kernel)
        )

    def scanners(self, adapter: str | None = None) -> dict[str | None, ScanningTransport]:
        """Return a scanner for this adapter; without one, for each that is on."""
        several = self.adapters if len(self.adapters) > 1 else [None]
        return {name: self.make_bluez(name) for name in ([adapter] if adapter else several)}
