"""Room 2: the hub. Operators see halts, inspectors label, engineers roll out."""
