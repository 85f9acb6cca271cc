"""Named causes: small rules, each a value, pure over what was recorded and derived. No TensorFlow.

`rule` is the vocabulary, `diagnosis` asks every rule in the order of a diagnosis, `pages` explains each code
and imports nothing else.
"""
