"""Pages of QD2xx: the reference's own state."""

from qdebug.findings.pages.page import Page

PAGES = (
    Page(
        "QD201",
        "RC02",
        "warning",
        "Activation ranges have not converged",
        "tfmot's activation quantizers are moving averages that begin at -6..6 and forget with 0.999 per training "
        "step, without a correction for the beginning: after N steps 0.999^N of the initial range is left (99.8 % "
        "after 2 steps, 37 % after 1,000, 5 % after 3,000). Wider sums are cut off, narrower ones use few codes.",
        "Reference and file agree; both are worse than the baseline. Lower ends behind a ReLU are below 0 (their zero "
        "point is far from -128), or most ranges stand near -6..6. With data: the saturated share per layer, and what "
        "the sums before quantization really reach.",
        "Train the QAT model for about 3,000 steps in all, one for each batch: for a built-in model --qat-epochs 2 on "
        "mnist, --qat-epochs 70 on the 1,500 digits. Or give the quantizers a smaller ema_decay.",
        (
            "model-optimization#368: MobileNet falls to 0.2 %, with a table of the moving averages",
            "model-optimization#309: an end-to-end test whose accuracy was never checked",
            "model-optimization#439: QAT worse than quantization after training",
        ),
    ),
    Page(
        "QD202",
        "RC03",
        "error",
        "Quantizers were never updated",
        "Weight quantizers also begin at -6..6 and take their ranges only in a call with training=True. A model "
        "converted right after quantize_model, or rebuilt and given only its weights, stores kernels of +-0.3 with "
        "the scale 6/127: a few codes out of 255.",
        "Every weight range is exactly -6..6 (weight scale 0.0472), the input's range is 0..0. Reference and file "
        "agree exactly, and both are far from the baseline.",
        "Call fit (or the model with training=True on real data) before converting. After load_weights into a new "
        "QAT model, train one epoch, or load the whole .h5.",
        (
            "tensorflow#59274: saving the weights of a QAT model",
            "TinyNeuralNetwork#106: the QAT model was not trained",
            "model-optimization#309",
        ),
    ),
    Page(
        "QD203",
        "RC25",
        "error",
        "The file was made from another model than this reference",
        "Somebody converted the float base model, an earlier checkpoint, or quantized after training with other "
        "ranges. Weight codes that differ on equal scales mean another checkpoint; equal weights with other "
        "activation ranges mean that the ranges come from elsewhere; equal weight codes with other scales and "
        "biases behind a batch norm mean that its statistics moved after conversion.",
        "Most layers diverge at once: then no layer is named. Where one layer alone was trained on, it is named.",
        "Convert this reference again, or compare with the checkpoint that the file was converted from. "
        "With a QAT model, a representative data set is ignored: do not quantize its weights a second time.",
        (
            "model-optimization#408: quantization after training mixed with QAT",
            "tensorflow#42082, tensorflow#38285: converting the wrong model, or without its ranges",
            "StackOverflow 66447121: copying QAT weights into a float model",
        ),
    ),
    Page(
        "QD204",
        "RC04",
        "warning",
        "Batch-norm moving statistics do not fit the data",
        "In training, batch norm uses the batch's mean and variance; inference, and the file, use moving averages. "
        "After short fine-tuning, with a high momentum or a frozen backbone, these are stale: the accuracy that fit() "
        "prints is not the one that ships.",
        "Reference (in inference) and file agree. The data's variance in front of a batch norm is more than 4 times, "
        "or its mean more than 1.5 sigma, away from the moving statistics.",
        "Train longer with a lower momentum, or run the training data through the model once to set the statistics. "
        "Converting again does not help.",
        ("model-optimization#1086: MobileNetV2 with a frozen base", "model-optimization#368", "keras#9965, keras#7177"),
    ),
    Page(
        "QD205",
        "RC27",
        "error",
        "Part of the quantizers hold their initial values",
        "Saving only weights, or the .keras format, loses tfmot's range variables; layers that were never reached in "
        "training keep theirs at -6..6 too.",
        "Some weight or activation ranges are exactly -6..6 while others are trained.",
        "Save the whole QAT model as .h5 (model.save('qat.h5')) and load it within quantize_scope; look whether these "
        "layers were called in training at all.",
        ("model-optimization PR#1123: .keras loses variables", "model-optimization#426, #773: save and load"),
    ),
)
