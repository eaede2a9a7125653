"""The transports over Bluetooth Low Energy, and the choice of a route to each battery."""
