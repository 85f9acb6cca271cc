"""The `.tflite` side: parsed, run by LiteRT, cut into parts."""
