"""Room 1: camera to halt. Never imports torch or another room."""
