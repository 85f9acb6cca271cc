"""qdebug: a layer-wise differential debugger for quantized TFLite models."""

__version__ = "0.1.0"
