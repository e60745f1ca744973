"""The pages of the rules about stats files, which faults.py checks.

They are apart from it because the list of all rules loads nothing else.
"""

from __future__ import annotations

from imgnorm.errors import Rule

RULES = (
    Rule(
        "channels",
        "error",
        "as many values as channels, in a stats file",
        "Each list of a stats file has one value per channel, and the channels are those of its mode.",
        "channels: [R, G, B]\nmean: [0.5]",
        "channels: [L]\nmean: [0.5]",
    ),
    Rule(
        "reason",
        "error",
        "reasons that imgnorm knows",
        "The reason of a skipped image in a stats file is one of a fixed list.",
        "skipped: [{name: a.png, reason: broken}]",
        "skipped: [{name: a.png, reason: corrupt}]",
    ),
    Rule(
        "derived",
        "error",
        "numbers that follow from the integers",
        "A measured stats file holds integers, and all its other numbers are computed from them. A number "
        "that does not follow from the integers was edited, or the file is damaged. Measure again.",
        "exact: {count: 4, total: [510], …}\nmean: [0.4]",
        "exact: {count: 4, total: [510], …}\nmean: [0.5]",
    ),
    Rule(
        "impossible",
        "error",
        "numbers that some images can have",
        "No images can have these numbers: a class with more images than the dataset, or sums that no pixel "
        "values add up to. Nothing can be computed from them. Measure again.",
        "images: 23\nmodes: {RGB: 24}",
        "images: 24\nmodes: {RGB: 24}",
    ),
)
