"""The language that every room of Haltline speaks: pure types, decisions, messages and formats.

Nothing here has a clock, a socket, a thread or a file handle. Time arrives as data in events; what must be done
leaves as actions. That is why the same guard can stop a line, replay last week and judge a model.
"""
