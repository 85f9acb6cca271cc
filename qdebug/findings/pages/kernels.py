"""Pages of QD5xx: arithmetic and kernels."""

from qdebug.findings.pages.page import Page

PAGES = (
    Page(
        "QD501",
        "RC17",
        "note",
        "HARD_SWISH is computed in 16-bit fixed point",
        "The kernel approximates x * relu6(x + 3) / 6 with 16-bit multiplications.",
        "About 1 % of codes differ by one.",
        "Expected.",
        ("tensorflow#40781: precision of the quantized op", "model-optimization#1107: MobileNetV3"),
    ),
    Page(
        "QD502",
        "RC18",
        "note",
        "LEAKY_RELU rounds twice on the builtin and reference kernels",
        "Their fixed-point multiplication rounds at 31 bits and again after the shift; with multipliers near 0.15 this "
        "moves an eighth of the negative values away from zero.",
        "4 to 6 % flips with a negative mean on these kernels, none on XNNPACK.",
        "Expected; judge with the kernels that ship.",
    ),
    Page(
        "QD503",
        "RC19",
        "note",
        "MEAN rounds twice on the builtin and reference kernels",
        "The sum is multiplied by scale / count in fixed point and rounded twice.",
        "3 to 5 % flips with a positive mean on these kernels, none on XNNPACK.",
        "Expected; judge with the kernels that ship.",
        ("LiteRT#7441: mixed rounding modes", "tensorflow#33588: a mean that differs when quantized"),
    ),
    Page(
        "QD504",
        "RC21",
        "note",
        "Kernel families round differently",
        "Reference, optimized, XNNPACK, microcontroller and accelerator kernels round once or twice, half to even or "
        "half away from zero. No specification asks for equal bits.",
        "One code of difference at about 2^-(r+1) of the elements, where the multiplier is in [2^-(r+1), 2^-r).",
        "Compare with the kernels that ship.",
        (
            "tensorflow#99072: reference against optimized, 80 of 51,200 elements",
            "tflite-micro#3252: single rounding",
            "tensorflow#38845: quantized Conv2D differs by one",
        ),
    ),
    Page(
        "QD505",
        "RC21",
        "error",
        "A layer diverges though the file holds what the reference says",
        "Weights, biases, grids, activation, options and wiring were all derived from the reference and agree, so the "
        "kernel itself computes something else: a bug in a kernel or a delegate, or an op that qdebug does not "
        "model well enough.",
        "Local flips beyond what the op's rounding can make, at this layer and not because of those above.",
        "Run with --kernels all: a family that alone diverges is at fault. Report it to its maintainers with the "
        "worst sample; where all families agree, report it to qdebug.",
        ("tensorflow#38845, tensorflow#25087: differences at a single op",),
    ),
    Page(
        "QD506",
        "non_finite",
        "error",
        "Values are NaN or infinite on one side only",
        "An overflow, a division by zero, or a NaN constant, on one side and not on the other.",
        "The row counts such elements; they never pass a gate.",
        "Look at the layer's constants and inputs on the sample that the row names as worst.",
    ),
    Page(
        "QD507",
        "RC08",
        "warning",
        "An op that jumps turns one step of its input into its whole range",
        "floor, a remainder, a comparison, the index of the largest: their result does not change with small changes "
        "of their input, then all at once. A matrix product of whole numbers on a grid of 0.15 is off by up to 0.076: "
        "35.98 in place of 36. Modulo 2 that is 1.98 in place of 0. The op itself is exact on what it is given.",
        "The op's row is exact or rounding, its cumulative error is as large as its range. It is an error where the "
        "signal is less than 10 dB above that, a warning below 30 dB, else a note.",
        "Keep the op, and what feeds it, in float, or compute it outside of the file. Where its input holds whole "
        "numbers, a scale of 1 (or of 1/n) makes every one of them a code.",
    ),
)
