"""The report's parts: cells (what belongs together), words, tables and figures. Nothing here reads or writes a file."""
