"""The way to the line, and `plc-sim` at its other end."""
