"""The pages of what diff finds."""

from __future__ import annotations

from imgnorm.errors import Rule

RULES = (
    Rule(
        "shift",
        "mean and std that stay as they were (diff)",
        "Normalized with the mean and std of the first file, the images of the second have another mean than "
        "0, or another std than 1. With `--fail-over 0.05` this is an error where the mean differs by more "
        "than 0.05 of the first std, or the stds by more than 5 %; else it is a note, for differences that "
        "two random draws of the same images would not have.",
        "mean: [0.52]    # 0.49 in the other file, whose std is 0.25: a shift of 0.12",
        "mean: [0.49]",
    ),
    Rule(
        "settings",
        "two files measured in the same way (diff)",
        "The files were measured in different modes, with different preprocessing or by different decoders, "
        "so part of the difference, or all of it, is not in the images. Measure both with the same options.",
        "image: {mode: RGB, preprocess: []}    # mode L in the other file",
        "image: {mode: L, preprocess: []}",
        severity="warning",
    ),
    Rule(
        "shared",
        "images that lie in one of two tables alone (diff)",
        "A file of the second table has the same bytes as one of the first. In train and val, that is a leak: "
        "the model is judged by what it has seen. With `--fail-over 0` it is an error, else a note.",
        "name,...,sha256\nval/7.jpg,...,9f86d0...    # and train/1204.jpg has this digest, too",
        "name,...,sha256\nval/8.jpg,...,60303a...",
    ),
)
