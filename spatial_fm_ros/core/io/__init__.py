"""Files: one way to open them for reading, one way to write them, and how their names are shown."""
