"""ESPHome Bluetooth proxies; imported only if one is configured."""
