"""Ways to the line: MQTT for a plant, a dry run for the desk."""
