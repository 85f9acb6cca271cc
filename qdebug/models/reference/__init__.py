"""The reference side: opened, frozen into one TensorFlow graph, run and replayed."""
