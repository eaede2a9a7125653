"""Ways to a battery over Bluetooth Low Energy."""
