"""The built-in models: architectures, training, cache."""
