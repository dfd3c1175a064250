"""The way of a message: payload, spool on the disk, MQTT broker."""
