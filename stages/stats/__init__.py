"""Statistics: intervals, paired tests, and the rows of the metric files. Nothing here reads or writes a file."""
