"""Batteries over the kernel's own sockets: no bluetoothd, no D-Bus, no scan, no privilege."""
