"""What is written down, and what reads it. No engine, and NumPy only inside of functions."""
