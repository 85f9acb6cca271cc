"""Pages of QD1xx: input and harness."""

from qdebug.findings.pages.page import Page

PAGES = (
    Page(
        "QD101",
        "RC01",
        "error",
        "The data does not fit the range that the model's input covers",
        "A quantized input covers the range that its quantizer saw in training. Data with another normalization "
        "(0..255 where 0..1 was trained on, another mean) is clipped at the input on both sides, so the reference "
        "and the file agree with each other and are both wrong.",
        "More than 10 % of the data lies beyond the covered range, or all of it fits into a few codes. Every layer "
        "is locally clean; accuracy is low for both models.",
        "Give the data the preprocessing of training; --scale 255 divides images of bytes. In your own harness "
        "quantize with clip(round(x / scale) + zero_point): a bare cast truncates (about half of the codes are off "
        "by one) and wraps around.",
        (
            "tensorflow#47068: a script that casts instead of rounding loses most of the accuracy",
            "tensorflow#53278: constant bytes fed to a float model",
            "tflite-micro#342: image preprocessing on the device differs from training",
        ),
    ),
    Page(
        "QD102",
        "RC01",
        "error",
        "The colour channels seem to be reversed",
        "OpenCV reads BGR, Keras' loaders RGB. A network trained on one loses accuracy on the other, before and "
        "after conversion alike.",
        "The first batch norm's moving mean fits its input at least twice as well when the data's last axis is "
        "reversed. Without a batch norm behind the first convolution nothing can be told.",
        "Reverse the last axis of the data (x[..., ::-1]) and trace again.",
        ("PINTO0309/onnx2tf#610: preprocessing differences taken for conversion errors",),
    ),
    Page(
        "QD103",
        "RC29",
        "note",
        "The file lists its inputs or outputs in another order than Keras",
        "The converter orders outputs by its own graph. A harness that takes output number 0 for the first head "
        "compares two different heads.",
        "qdebug pairs outputs by graph, name and shape, so its own figures are right; the note is about your code.",
        "Use the signature runner, or look tensors up by their signature names.",
        ("tensorflow#32180, tensorflow#58732, tensorflow#62674: several outputs arrive in another order",),
    ),
    Page(
        "QD104",
        "RC24",
        "note",
        "Keeping intermediate tensors changes the outputs",
        "To read every tensor, the interpreter plans its memory anew and, with XNNPACK, runs each op as a delegate "
        "of its own. Where fused kernels round differently, the outputs change.",
        "The first batch was run once more without keeping tensors, and some output elements differ.",
        "Trust the end-to-end numbers of an unwatched run; use --kernels builtin to see whether XNNPACK is the reason.",
        ("tensorflow#79355: outputs differ when all tensors are kept", "LiteRT#413: the same with delegates"),
    ),
)
