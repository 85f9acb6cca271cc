"""Pages of QD6xx: ranges that fit the data badly."""

from qdebug.findings.pages.page import Page

PAGES = (
    Page(
        "QD601",
        "RC26",
        "warning",
        "The input's range does not fit the data",
        "tfmot's input quantizer keeps the smallest and largest value that it ever saw. One outlier in training widens "
        "the step for ever; data beyond its range is clipped.",
        "The data uses less than a quarter of the input's codes, or more than 1 % of it lies outside.",
        "Find the outlier in the training data; train the quantizers again without it, or set the range by hand.",
    ),
    Page(
        "QD602",
        "RC26",
        "note",
        "Layers saturate, or use few codes, on this data",
        "The ranges come from training data that is not like this data, or from rare extremes.",
        "More than 1 % of a layer's codes stand at an end that no activation explains, or less than a quarter of the "
        "codes is used.",
        "Train the ranges on data like this; look for outliers.",
    ),
    Page(
        "QD603",
        "RC11",
        "warning",
        "Ranges far apart share one scale",
        "A concatenation of box coordinates (0..640) and scores (0..1) has one scale, about 2.5: every score becomes "
        "the same code.",
        "The parts' own ranges are more than 50 times apart. The small part keeps one or two codes.",
        "Give the parts outputs of their own, or normalize them to like ranges before they are joined.",
        ("ultralytics PR#1695: lost accuracy after joining boxes and scores", "tensorflow#59505"),
    ),
)
