"""What is done by hand, beside the pipeline: `python -m stages COMMAND`."""
