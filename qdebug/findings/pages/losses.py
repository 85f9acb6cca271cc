"""Pages of QD604 to QD610: what the grids cost."""

from qdebug.findings.pages.page import Page

PAGES = (
    Page(
        "QD604",
        "RC11",
        "error",
        "One channel takes the range, the others share few codes",
        "An activation has one scale for all of its channels. Example: channel 0 goes from 0 to 510, the others from 0 "
        "to 6. The step is 510 / 255 = 2, so the others hold 0, 2, 4 and 6: 6 / 2 + 1 = 4 codes, log2(4) = 2 of 8 "
        "bits. A grid for each channel would have a step of 6 / 255 = 0.024 there, 85 times finer. The layer still "
        "does all that its grid allows, so it is no divergence.",
        "The points are measured: the reference's exact values of this layer are handed on, then the same rounded to "
        "the file's step, then on a grid for each channel. The steps take the points, and the grids for each channel "
        "bring at least half of them back, while one grid over the data's own range does not. A quantization-aware "
        "reference is run without quantizers, then with those up to this layer: what the last of them adds is its.",
        "Equalize: divide the wide channel in the layer's kernel and bias and multiply it back in the next layer's "
        "kernel (exact across a ReLU, or nothing, in between). Or train with a limit (ReLU6), or keep the layer in "
        "int16 or float. A repair of the layer alone brings nothing back: it keeps the grid.",
    ),
    Page(
        "QD605",
        "RC20",
        "error",
        "Weights on one scale",
        "A kernel with one scale for all channels is as coarse as its largest weight makes it. Example: channel 0 "
        "holds weights up to 12.7, the others up to 0.2. The step is 12.7 / 127 = 0.1, so the others hold -0.2, -0.1, "
        "0, 0.1 and 0.2: 5 codes of 255. A scale for each channel has a step of 0.2 / 127 = 0.0016 there.",
        "The points are measured: the layer is computed with the file's weights and nothing else of the file, then "
        "with the reference's weights rounded on a scale for each channel. Where that brings less than half back, "
        "8 bits are too few for this kernel on any scale, and the title says so. A quantization-aware reference is run "
        "with its quantizers up to this kernel's own, and with those before it.",
        "Convert with a scale for each channel (the default for convolutions; _experimental_disable_per_channel turns "
        "it off), or bring the channels to like sizes. In quantization-aware training tfmot gives depthwise and dense "
        "kernels one scale: leave the layer unannotated. Else keep this layer's weights in float.",
    ),
    Page(
        "QD606",
        "RC26",
        "error",
        "The range is too wide for the data, and its steps cost points",
        "One outlier in calibration widens a range for ever. Example: the data go from 0 to 1, one calibration sample "
        "went to 60. The step is 60 / 255 = 0.235, so the data use 1 / 0.235 + 1 = 5 codes, log2(5) = 2.3 bits. A pool "
        "or a reshape keeps the grid of its input, and that may be too wide for it, too.",
        "The points are measured: the layer's exact values are rounded to the file's step, then on a grid over the "
        "data's own range. The first takes points, the second brings at least half of them back. Where many layers "
        "take a little each, all of them are put on such grids at once, and no layer is named.",
        "Find the outlier in the calibration data and leave it out; calibrate on samples like those of the field.",
    ),
    Page(
        "QD607",
        "RC26",
        "error",
        "The range is too narrow for the data, and clipping costs points",
        "Calibration saw less than the data holds. Example: calibrated on images up to 0.15, the data go up to 1. "
        "Codes end at 0.15: what is larger becomes 0.15, an error of up to 0.85 where the step is 0.15 / 255 = 0.0006.",
        "The points are measured: the layer's exact values are cut at the ends of the file's range and not rounded. "
        "Where the reference is right on this data, the data are right and the calibration is at fault: scaling the "
        "data would only hide it. QD101 is told instead where the reference, too, does better on scaled data.",
        "Calibrate on samples like this data, with the same preprocessing, and convert again.",
    ),
    Page(
        "QD608",
        "RC26",
        "error",
        "8 bits are too few for these values",
        "Values with a long tail, or far from 0, leave few steps where most of them lie; a grid must hold 0. Example: "
        "most values lie within 1 of 0, a few reach 200. The step is 200 / 255 = 0.78: about one step per standard "
        "deviation, and rounding adds 0.29 steps of noise, 29 % of the signal. Logits near 3000 have steps of 11.8 "
        "and differ by 5: all classes share one or two codes.",
        "The points are measured: rounding to the file's step takes them, and neither a grid over the data's own range "
        "nor one for each channel brings half of them back.",
        "Cut the tail (ReLU6, or calibration without the outermost values), remove the offset, or keep this layer in "
        "int16 activations or float.",
    ),
    Page(
        "QD609",
        "RC16",
        "warning",
        "A fixed output grid is too coarse here",
        "SOFTMAX and LOGISTIC have steps of 1 / 256, TANH of 1 / 128, whatever the data. Example: 1000 classes share a "
        "probability of 1; all but the first few lie below 1 / 512 and become code 0, so their order is lost.",
        "The points are measured: rounding the op's exact values to its fixed step takes them.",
        "Judge by the logits in front of the op: arg max of the logits is that of the probabilities.",
    ),
    Page(
        "QD610",
        "RC26",
        "warning",
        "The loss is spread over many layers",
        "Every grid adds rounding noise, of 1/√12 = 0.29 steps RMS. In 40 layers of like weight the noise adds up to "
        "√40 = 6.3 times that of one, and none of the 40 is a culprit.",
        "No layer, or layers with less than half of the loss, take more than chance explains. The first layers of the "
        "ranking are then kept in float together, the others as in the file, and what that brings back is measured; "
        "points of single layers do not add up.",
        "Keep the first layers in float or int16 if they bring back enough; else train quantization-aware.",
    ),
)
