"""The report's parts, from what belongs together to the files as text. Nothing here writes a file."""
