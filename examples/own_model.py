"""Your own QAT model, in memory: train, convert and trace it."""

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from sklearn.datasets import load_digits

import qdebug

digits = load_digits()
x, y = (digits.images / 16).astype(np.float32)[..., None], digits.target

model = keras.Sequential(
    [
        keras.layers.Input((8, 8, 1)),
        keras.layers.Conv2D(8, 3, activation="relu", name="conv"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(10, name="logits"),
    ]
)
model = tfmot.quantization.keras.quantize_model(model)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss)
model.fit(x[:1500], y[:1500], epochs=2, verbose=0)

run = qdebug.trace(model, data=x[1500:], labels=y[1500:])  # without a candidate the model is converted
print(run)
