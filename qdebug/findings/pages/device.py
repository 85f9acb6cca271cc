"""Pages of QD7xx: what a device computes."""

from qdebug.findings.pages.page import Page

PAGES = (
    Page(
        "QD701",
        "device_input",
        "error",
        "The board was given other inputs",
        "The firmware prepares the data in its own way: another scale or zero point, unsigned values for signed ones, "
        "another order of the axes or colours, the sample before.",
        "The input's row holds other codes than the data give on the file's grid. All that comes after it is right for "
        "the inputs that the board had.",
        "Mend the preprocessing first: half of all differences between desk and board begin here.",
        ("tflite-micro#3046: values printed by hand",),
    ),
    Page(
        "QD702",
        "device_memory",
        "warning",
        "A tensor was overwritten before it was dumped",
        "An interpreter for microcontrollers lets tensors share memory: once the ops that read a tensor have run, a "
        "later one takes its place. What is dumped after Invoke() is then the later one's.",
        "Values of a tensor are those of a later one, byte by byte. It, and the ops that read it, are unmeasured.",
        "Make the interpreter with preserve_all_tensors = true, or dump each tensor right after its op.",
        ("tflite-micro#2615: garbage was compared for want of preserve_all_tensors",),
    ),
    Page(
        "QD703",
        "device_op",
        "error",
        "On the device, an op gives other codes than its own inputs demand",
        "The op was run by a host on the very codes that the device gave it, with plain reference kernels, and with "
        "those of TensorFlow Lite Micro where they are installed. What the device made of them is more than rounding: "
        "an optimized kernel that handles a size, a border or a range wrongly, a port of an op, or weights that are "
        "read wrongly.",
        "The device's column of the layer table, and the pattern of the wrong codes: channels beyond a multiple of 8, "
        "the last row, saturated, stuck, rounded down.",
        "Run the op with the plain reference kernel on the device. If that mends it, report the optimized kernel with "
        "the pattern.",
        (
            "esp-nn#34: FULLY_CONNECTED, width no multiple of 8",
            "esp-nn#31: SAME padding, the last row only",
            "esp-nn#23: codes stuck at -128",
            "esp-nn#22: equal up to tensor 22",
        ),
    ),
    Page(
        "QD704",
        "device_dump",
        "warning",
        "Tensors of the dump are damaged",
        "A serial connection cuts lines, mixes or doubles them.",
        "These tensors are unmeasured; nothing of them is believed.",
        "Dump again, at a lower baud rate or with flow control.",
    ),
)
