"""The direct transport: the kernel's own sockets, without bluetoothd, D-Bus, scan or privilege."""
