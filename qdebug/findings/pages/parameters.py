"""Pages of QD4xx: weights, biases, scales and zero points."""

from qdebug.findings.pages.page import Page

_AGAIN = "Convert the reference again. If a tool edits files after conversion, it changed this."

PAGES = (
    Page(
        "QD401",
        "weights_changed",
        "error",
        "A few weights are not the reference's",
        "int8 weight = fake-quantized kernel / its scale, with the sign turned where batch norm's factor is negative. "
        "This is exact: one weight by one code is a difference.",
        "The audit gives the count, the largest difference in codes, its channel and the first index. The row flips "
        "more codes in that channel than rounding can. Where all weights of a square dense kernel are wrong, they are "
        "held against batch norm's factors on the other axis: TensorFlow 2.3's converter folded them there.",
        _AGAIN,
    ),
    Page(
        "QD402",
        "bias_changed",
        "error",
        "Biases are not the reference's",
        "int32 bias = round(folded bias / (input scale x weight scale)). Both sides round, so one code is allowed, no "
        "more.",
        "The row's error is a constant in the channels concerned. Often zeroed biases, another order, or batch norm "
        "folded by hand without its offset. Where one layer is used several times, the converter's older quantizer "
        "(which still makes files of int16 activations) keeps one bias for all uses: right for one input scale only, "
        "and a fault of the converter.",
        _AGAIN + " For a layer used several times: give each use a layer of its own, or convert to int8 activations.",
    ),
    Page(
        "QD403",
        "RC09",
        "error",
        "Biases are clipped to the end of int32",
        "A channel whose weights are almost zero gets a tiny scale (1e-6 / 127 at the least); its bias, in units of "
        "input scale x weight scale, then does not fit into 32 bits.",
        "A bias of 2147483647; the channel's output is a constant, 60 LSB and more off, and everything behind suffers.",
        "Remove dead channels, or keep their weights above 1e-6 (prune before QAT, not after), and convert again.",
        (
            "tensorflow#33735: -2147483647 as a bias",
            "model-optimization#794: bias overflow",
            "onnxruntime PR#22020, PR#25278: the same bug, half of the accuracy lost",
        ),
    ),
    Page(
        "QD404",
        "scale_changed",
        "error",
        "An activation's scale is not what the reference's range gives",
        "The converter nudges the FakeQuant range and stores it as float32: it agrees to two units in the last place, "
        "unless an op that joins tensors imposes another one, which is told as a note. A float reference holds no "
        "ranges; there the biases behind a tensor tell which scale they were made for.",
        "The row diverges by a factor; later rows are locally clean.",
        _AGAIN,
    ),
    Page(
        "QD405",
        "zero_point_changed",
        "error",
        "An activation's zero point is not what the reference's range gives",
        "Kernels use the stored zero point consistently, so the real values stay the same; the range that the codes "
        "cover moves, and whoever reads the codes with the old zero point is off by a constant.",
        "Often no local error at all: only values near the ends of the range clip elsewhere.",
        _AGAIN,
    ),
    Page(
        "QD406",
        "channel_scales_permuted",
        "error",
        "Per-channel weight scales stand in another order",
        "The scales are the right ones for other channels: a tool that sorts, or takes another axis for the channel's.",
        "Each channel is off by the ratio of two scales.",
        _AGAIN,
    ),
    Page(
        "QD407",
        "scale_changed",
        "error",
        "Weight scales are not the reference's",
        "weight scale = |batch norm's factor| x FakeQuant scale, per channel.",
        "The channels concerned are off by the ratio.",
        _AGAIN,
    ),
    Page(
        "QD408",
        "scale_changed",
        "warning",
        "A stored bias scale is not input scale x weight scale",
        "int8 kernels never read it: nothing changes at run time. Other tools (importers, other runtimes, viewers) do.",
        "No row changes; the audit lists the channels.",
        _AGAIN,
    ),
    Page(
        "QD409",
        "RC20",
        "note",
        "One QAT range for all channels of a depthwise convolution",
        "tfmot's depthwise weight quantizer has one range for the whole kernel, though the file stores a scale per "
        "channel: channels with small weights use few codes, in training and in the file alike.",
        "Reference and file agree. Some channels' largest code is below 32; the float model is better.",
        "Equalize the channels (scale them against the next layer) before QAT, or use a per-channel quantizer.",
        ("model-optimization#808: the shape of depthwise ranges", "tensorflow#47858, tensorflow#43256"),
    ),
    Page(
        "QD410",
        "non_finite",
        "error",
        "Constants of the file or of the reference are NaN or infinite",
        "Training that diverged, an overflow in float16, or a damaged file.",
        "Every element that such a weight reaches is NaN on one side only.",
        "Find out which training step made them; convert a finite checkpoint.",
    ),
)
