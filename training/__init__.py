"""Room 3: labelled pictures to a checked bundle. The only room with torch."""
