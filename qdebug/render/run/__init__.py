"""What is shown of a run: its answer and its tables."""
