"""The formats that tables and blocks are written in."""
