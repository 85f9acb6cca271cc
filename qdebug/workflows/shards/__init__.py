"""Samples on several processes or machines: what is sent to a worker, what it does there, and how the client leads."""
