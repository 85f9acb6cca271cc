"""Is the difference expected? Expectations, counts and verdicts. Pure: nothing runs here."""
