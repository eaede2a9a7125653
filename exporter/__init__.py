"""Prometheus exporter for LiFePO4 batteries with a JBD BMS, read over Bluetooth Low Energy.

Which module does what: CONTRIBUTING.md, "Where things are".
"""

from typing import Final

__version__: Final = "0.2.0"
