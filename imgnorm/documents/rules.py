"""What reading itself finds: YAML that does not mean the same to everybody, models, stats files.

The rules are carried out by document.py and statsfile.py; here is what they are about.
"""

from __future__ import annotations

from imgnorm.errors import Rule

_CONFIG = "format: imgnorm-pipeline/1\n"

RULES = (
    Rule(
        "syntax",
        "error",
        "valid YAML",
        "The file cannot be read as YAML from this place on. Tabs, text that starts with @ or `, and "
        "': ' inside of text without quotes are the usual reasons.",
        "image: {mode: RGB",
        "image: {mode: RGB}",
    ),
    Rule(
        "empty",
        "error",
        "a file with something in it",
        "The file holds no YAML at all, or comments only.",
        "# nothing yet",
        f"{_CONFIG}…",
    ),
    Rule(
        "encoding",
        "error",
        "UTF-8",
        "Files are read as UTF-8, with or without a byte order mark. Anything else means different "
        "text on different machines.",
        "(a file saved as UTF-16)",
        "(the same, saved as UTF-8)",
    ),
    Rule(
        "control-character",
        "error",
        "no control characters",
        "YAML allows no control characters but tab and line break; a NUL usually comes from a damaged "
        "file.",
        "source: {kind: folder, path: data\\x00}",
        "source: {kind: folder, path: data}",
    ),
    Rule(
        "multiple-documents",
        "error",
        "one document in a file",
        "A line '---' starts a second document. Which of the two is meant depends on the reader.",
        "format: imgnorm-stats/1\n---\nmean: [0.5]",
        "format: imgnorm-stats/1\nmean: [0.5]",
    ),
    Rule(
        "directive",
        "error",
        "no %YAML directive but 1.2",
        "The file asks to be read by another version of YAML than 1.2, in which `no` is false and 010 "
        "is eight.",
        "%YAML 1.1",
        "(no directive)",
    ),
    Rule(
        "duplicate-key",
        "error",
        "no key twice",
        "A key is given twice in one mapping. Most readers keep the last value without a word.",
        "mean: [0.5]\nmean: [0.4]",
        "mean: [0.4]",
    ),
    Rule(
        "key-not-text",
        "error",
        "keys that are text",
        "A key is a list or a mapping.",
        "[mean, std]: 0.5",
        "mean: [0.5]",
    ),
    Rule(
        "merge-key",
        "error",
        "no merge keys",
        "`<<` merges another mapping into this one in YAML 1.1, and is a key like any other in 1.2.",
        "image: {<<: {mode: RGB}}",
        "image: {mode: RGB}",
    ),
    Rule(
        "anchor",
        "error",
        "no anchors",
        "Anchors and aliases make what a line means depend on another line, and a small file as large "
        "as one likes in memory.",
        "mean: &m [0.5]",
        "mean: [0.5]",
    ),
    Rule(
        "alias",
        "error",
        "no aliases",
        "See anchor: write out what the alias stands for.",
        "std: *m",
        "std: [0.25]",
    ),
    Rule(
        "tag",
        "error",
        "no tags",
        "Tags ask the reader to build objects; with some readers they run code.",
        "mean: !!python/tuple [0.5]",
        "mean: [0.5]",
    ),
    Rule(
        "number-too-large",
        "error",
        "numbers within a float64, and of at most 1,300 digits",
        "The number is beyond what a 64-bit float holds, or has so many digits that it cannot be meant.",
        "mean: [1e999]",
        "mean: [0.5]",
    ),
    Rule(
        "limit",
        "error",
        "within the limits of size, depth and number",
        "A config has at most 1 MiB, 20,000 values and 16 levels; a stats file that is validated 12 MiB and "
        "400,000 values beside those of its histogram, so that nobody can keep CI busy; the other commands "
        "read 64 MiB and 2,000,000. Reading ends there, and so does a report after 1,000 faults.",
        "[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]",
        "[0]",
    ),
    Rule(
        "unknown-key",
        "error",
        "keys that are known",
        "The key is not one that this file format has, so it would do nothing.",
        "image: {modus: RGB}",
        "image: {mode: RGB}",
    ),
    Rule(
        "missing-key",
        "error",
        "all keys that must be there",
        "A key without default is not there.",
        "source: {kind: torchvision}",
        "source: {kind: torchvision, name: CIFAR10}",
    ),
    Rule(
        "wrong-type",
        "error",
        "values of the right type",
        "Text is never taken for a number, nor a number for text. Scalars are read by YAML 1.2: 1e-3 is "
        "a number, `no` is text.",
        "normalize: {mean: 0.5, std: 0.25}",
        "normalize: {mean: [0.5], std: [0.25]}",
    ),
    Rule(
        "wrong-value",
        "error",
        "values that are allowed",
        "The value has the right type, and is none of those that the format allows.",
        "api: v3",
        "api: v2",
    ),
    Rule(
        "channels",
        "error",
        "as many values as channels, in a stats file",
        "Lists of a stats file have one value for each of its channels, and the channels are those of "
        "its mode.",
        "channels: [R, G, B]\nmean: [0.5]",
        "channels: [L]\nmean: [0.5]",
    ),
    Rule(
        "reason",
        "error",
        "reasons from the closed list",
        "A skipped image of a stats file has one of the reasons that imgnorm knows.",
        "skipped: [{name: a.png, reason: broken}]",
        "skipped: [{name: a.png, reason: corrupt}]",
    ),
    Rule(
        "derived",
        "error",
        "numbers that follow from the integers",
        "A measured stats file holds the integers that everything else in it is computed from. A number "
        "that does not follow from them was edited, or the file is damaged. Measure again.",
        "exact: {count: 4, total: [510], …}\nmean: [0.4]",
        "exact: {count: 4, total: [510], …}\nmean: [0.5]",
    ),
    Rule(
        "impossible",
        "error",
        "numbers that some images can have",
        "No images have these numbers: more of a class than there are in all, sums that no pixels add up "
        "to. Nothing can be computed from them. Measure again.",
        "images: 23\nmodes: {RGB: 24}",
        "images: 24\nmodes: {RGB: 24}",
    ),
)
