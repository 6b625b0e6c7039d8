"""What all rest on: settings, records, files, processes, and what environments say of themselves.

No stage depends on this package in DVC's eyes: the settings that a stage uses are tracked one by one under `params:`, and a table of
another schema is refused when it is read.
"""
