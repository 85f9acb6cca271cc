"""Pages of QD3xx: what the converter made of the graph."""

from qdebug.findings.pages.page import Page

_ISLAND = (
    "The file has DEQUANTIZE, a float op, QUANTIZE around this layer. The numbers are right to the bit; size, "
    "speed and accelerators suffer, and a microcontroller may refuse the file."
)

PAGES = (
    Page(
        "QD301",
        "RC05",
        "warning",
        "A batch norm could not be folded into per-tensor quantized weights",
        "Folding scales each output channel. The converter can rescale per-channel FakeQuant ranges, not per-tensor "
        "ones: behind a Dense, a Conv2DTranspose, or a convolution with disable_per_axis, the layer's weights stay "
        "float.",
        _ISLAND,
        "Put the batch norm behind a Conv2D or DepthwiseConv2D, fold it into the weights before QAT, or give the layer "
        "a per-channel weight quantizer.",
        (
            "model-optimization#1131: per-tensor QAT with batch norm",
            "model-optimization#552, #438",
            "tensorflow#43939: Conv2DTranspose with batch norm",
        ),
    ),
    Page(
        "QD302",
        "RC06",
        "warning",
        "A dilated convolution runs in float",
        "With a free batch, Keras computes a dilated convolution between space-to-batch and batch-to-space ops; the "
        "pattern that folds bias and batch norm does not see through them.",
        _ISLAND,
        "Convert from a concrete function whose input has a batch of 1: the converter then makes one dilated kernel of "
        "it all. Or use undilated convolutions.",
        ("tensorflow#50172: folding fails with dilation > 1",),
    ),
    Page(
        "QD303",
        "RC07",
        "warning",
        "A gamma of exactly zero leaves the whole convolution in float",
        "A channel whose batch-norm gamma is 0 (pruned, or initialized so) would get a weight scale of 0, which is no "
        "valid scale: the converter then gives up quantizing the whole layer.",
        _ISLAND,
        "Set such gammas to 1e-6, or remove the channels, and convert again.",
    ),
    Page(
        "QD304",
        "RC08",
        "warning",
        "A layer runs in float because the reference does not quantize it",
        "tfmot's 8-bit scheme knows few layers (no Conv1D, Multiply, LayerNormalization, PReLU, a batch norm on its "
        "own). What it does not annotate has no range.",
        _ISLAND,
        "Annotate the layer with a QuantizeConfig, or replace it.",
        ("model-optimization#523, #974, #1107, #1139: layers without quantizers in an int8 file",),
    ),
    Page(
        "QD305",
        "RC30",
        "warning",
        "The file is not quantized",
        "Without converter.optimizations a QAT model becomes a float graph with pairs of QUANTIZE and DEQUANTIZE that "
        "imitate it.",
        "No op computes on codes. Outputs equal the reference's; nothing is smaller or faster.",
        "Set converter.optimizations = [tf.lite.Optimize.DEFAULT].",
    ),
    Page(
        "QD306",
        "RC10",
        "note",
        "Two grids meet at a concatenation",
        "CONCATENATION needs one scale for all inputs and its output. tfmot drops the output quantizers of the layers "
        "in front only where it recognizes them; elsewhere the converter overwrites their scale, or requantizes.",
        "The error shows at the layer in front (often around 10 % flips of one code, more where ranges differ and the "
        "reference clips), and the concatenation itself is exact.",
        "Nothing, where ranges are alike. Else fake-quantize the parts together, or give them like ranges.",
        ("model-optimization#1053: violated same-scale constraint", "tensorflow#30861: why a QUANTIZE stands there"),
    ),
    Page(
        "QD307",
        "RC12",
        "note",
        "Two grids meet at a resize",
        "RESIZE_BILINEAR keeps the scale of its input; QAT fake-quantizes its output only. The converter moves that "
        "scale to the layer in front.",
        "The layer in front and the resize flip around 10 % of codes by one.",
        "UpSampling2D with interpolation='nearest', or accept it.",
        ("model-optimization#1000: bilinear upsampling", "tensorflow#56871"),
    ),
    Page(
        "QD308",
        "RC13",
        "note",
        "Pooling rounds on the grid of its input",
        "AVERAGE_POOL_2D keeps its input's scale: the average is rounded there, then requantized to the range that QAT "
        "gave the output. Two roundings for one.",
        "A QUANTIZE behind the pool; 10 to 20 % of codes differ by one at these two rows.",
        "Accept it, or use GlobalAveragePooling2D, whose MEAN rounds once.",
        ("tensorflow#46754: same-scale constraint of pooling", "tensorflow#27813"),
    ),
    Page(
        "QD309",
        "RC14",
        "note",
        "The reference fake-quantizes twice where the file rounds once",
        "Activation('relu6') is not recognized as part of the layer before it, so that layer keeps its quantizer; the "
        "converter fuses both and drops the inner one.",
        "About 10 % of codes differ by one at that layer.",
        "Use ReLU(6.0) as a layer.",
        ("model-optimization#1030: relu6 as an Activation", "tensorflow#48497"),
    ),
    Page(
        "QD310",
        "RC15",
        "note",
        "One layer became several ops",
        "Swish becomes LOGISTIC and MUL, layer normalization a dozen ops. QAT quantizes the layer's output only; the "
        "tensors between have codes that training never saw.",
        "An inner row (its name has a colon) off the reference's grid by up to half a step.",
        "Expected. ReLU, ReLU6 and hard swish have kernels of their own.",
        ("NVIDIA/TensorRT#1114: the same effect elsewhere",),
    ),
    Page(
        "QD311",
        "RC16",
        "note",
        "A fixed output grid that QAT does not simulate",
        "SOFTMAX and LOGISTIC always give 1/256 steps from 0, TANH 1/128 around 0. tfmot adds no quantizer there.",
        "Residues spread evenly over half a step: RMS 0.29 LSB, at most 0.5 before flips of the input.",
        "Expected. Compare the logits where you need to judge the conversion.",
        ("model-optimization#918: should softmax be quantized", "PINTO_model_zoo#352"),
    ),
    Page(
        "QD312",
        "RC31",
        "note",
        "A layer that is used several times has one set of ranges",
        "All uses of a layer share its quantizers. The converter may also quantize such a kernel a second time, on "
        "scales of its own.",
        "Rows named layer and layer#2 with one scale; where the weights were quantized again, each weight may be off "
        "by half a step and more codes differ.",
        "Expected. Give each use a layer of its own where ranges differ much.",
        ("tensorflow#17984, Vitis-AI#1088: shared layers",),
    ),
    Page(
        "QD313",
        "wiring_changed",
        "error",
        "An op reads other tensors than the reference's layer",
        "The file was edited, or made from a graph with other connections: a residual from another block, inputs of a "
        "concatenation in another order.",
        "The row diverges; its inputs and its kernel are right.",
        "Convert the reference again; compare the op's inputs in the file with the evidence.",
    ),
    Page(
        "QD314",
        "RC08",
        "warning",
        "Ranges that no quantizer of the reference gives",
        "Where a QAT model has no quantizer, a representative data set fills in. Its ranges were never part of "
        "training, and clip where that data was narrower than the real one.",
        "Scale and zero point of these tensors equal no FakeQuant. An error where such a layer diverges.",
        "Annotate the layers, or use representative data like the real data.",
        ("model-optimization#974: full int8 from partial QAT",),
    ),
    Page(
        "QD315",
        "wiring_changed",
        "error",
        "An op has other options than the reference's layer",
        "Strides, padding, dilation, window, axes, resize mode or slope differ: the op computes another function that "
        "happens to have the same shape.",
        "The row diverges strongly; weights and scales agree.",
        "Convert the reference again.",
    ),
    Page(
        "QD316",
        "activation_changed",
        "error",
        "A fused activation was lost, added or swapped",
        "The activation is a field of the op in front of it. An edited file, or a converter's fusion, can drop it; the "
        "output range then often hides the loss, but not where it reaches below 0 or above 6.",
        "The row diverges at its clamped elements. Where the tensor's codes cover nothing that the activation would "
        "cut, it is a note.",
        "Convert the reference again.",
    ),
    Page(
        "QD317",
        "RC10",
        "error",
        "An op with one scale on all sides gave an input its range",
        "MINIMUM, MAXIMUM, CONCATENATION and PACK have one scale for what they read and what they give. Where one "
        "reads a model input, the converter puts the input on the range of the op's result: a box limited to 180 makes "
        "an input of 0 to 400 end at 180, also for every other reader of it.",
        "The input is clipped on data that the reference is right on and that calibration has seen.",
        "Keep the op in float, or give it a copy of the input that has a scale of its own (a multiplication by 1).",
    ),
)
