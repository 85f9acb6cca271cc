"""Find a planted fault: one weight scale of the converted file is made 1.5 times too large."""

import flatbuffers
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from ai_edge_litert import schema_py_generated as schema

import qdebug

model = keras.Sequential(
    [
        keras.layers.Input((12,)),
        keras.layers.Dense(16, activation="relu", name="first"),
        keras.layers.Dense(16, activation="relu", name="second"),
        keras.layers.Dense(4, name="logits"),
    ]
)
model = tfmot.quantization.keras.quantize_model(model)
x = np.random.default_rng(0).normal(size=(400, 12)).astype(np.float32)
model.compile("adam", "mse")
model.fit(x, x[:, :4], epochs=20, verbose=0)

converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
content = converter.convert()

file = schema.ModelT.InitFromPackedBuf(content, 0)
main = file.subgraphs[0]
layers = [
    op
    for op in main.operators
    if file.operatorCodes[op.opcodeIndex].builtinCode == schema.BuiltinOperator.FULLY_CONNECTED
]
weights = main.tensors[layers[1].inputs[1]]
weights.quantization.scale = weights.quantization.scale * np.float32(1.5)
builder = flatbuffers.Builder(len(content))
builder.Finish(file.Pack(builder), b"TFL3")

run = qdebug.trace(model, bytes(builder.Output()), x)
print(run)
print("the fault is at", run.first_divergent)
assert run.first_divergent == "second"
