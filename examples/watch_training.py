"""Watch, epoch by epoch, what the conversion of a QAT model will cost."""

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from sklearn.datasets import load_digits

from qdebug.callbacks import ConversionGap

digits = load_digits()
x, y = (digits.images / 16).astype(np.float32).reshape(-1, 64), digits.target

model = keras.Sequential(
    [
        keras.layers.Input((64,)),
        keras.layers.Dense(32, activation="relu", name="hidden"),
        keras.layers.Dense(10, name="logits"),
    ]
)
model = tfmot.quantization.keras.quantize_model(model)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

watch = ConversionGap(x[1500:], y[1500:], every=2)
history = model.fit(x[:1500], y[:1500], epochs=4, verbose=0, callbacks=[watch]).history

for epoch, run in watch.runs.items():
    print(
        f"epoch {epoch + 1}: loss {history['loss'][epoch]:.3f}, "
        f"accuracy lost {history['gap_accuracy'][epoch]:.4f}, "
        f"worst saturation {history['gap_worst_saturated_percent'][epoch]:.2f} %, {run.verdict}"
    )
