"""The rooms that know TensorFlow, tfmot and LiteRT; importing this package imports none of them."""
