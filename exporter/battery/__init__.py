"""One battery: the session with its BMS, polls and what is known of it; knows no Bluetooth."""
