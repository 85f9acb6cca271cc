"""What does it cost? The task metric as a function of the layer, and what a repair brings back."""
