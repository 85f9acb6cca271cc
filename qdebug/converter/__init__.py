"""What a converter makes of weights, biases and grids. Pure: nothing runs here."""
