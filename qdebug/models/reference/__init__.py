"""The reference side: opened, frozen into one graph, run by TensorFlow or LiteRT, and replayed."""
