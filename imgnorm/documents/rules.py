"""The pages of the rules that reader.py checks, about YAML, and kinds.py, about keys and values."""

from __future__ import annotations

from imgnorm.errors import Rule

_CONFIG = "format: imgnorm-pipeline/1\n"

RULES = (
    Rule(
        "syntax",
        "valid YAML",
        "The file cannot be read as YAML from this place on. Tabs, text that starts with @ or `, and "
        "': ' inside of text without quotes are the usual reasons.",
        "image: {mode: RGB",
        "image: {mode: RGB}",
    ),
    Rule(
        "empty",
        "a file that is not empty",
        "The file holds nothing, or comments only.",
        "# nothing yet",
        f"{_CONFIG}…",
    ),
    Rule(
        "encoding",
        "UTF-8",
        "Files are read as UTF-8, with or without a byte order mark. Anything else means different "
        "text on different machines.",
        "(a file saved as UTF-16)",
        "(the same, saved as UTF-8)",
    ),
    Rule(
        "control-character",
        "no control characters",
        "The only control characters that YAML allows are tab and line break. A NUL usually comes from a "
        "damaged file.",
        "source: {kind: folder, path: data\\x00}",
        "source: {kind: folder, path: data}",
    ),
    Rule(
        "multiple-documents",
        "one document in a file",
        "A line '---' starts a second document. Which of the two a program takes depends on its reader.",
        "format: imgnorm-stats/1\n---\nmean: [0.5]",
        "format: imgnorm-stats/1\nmean: [0.5]",
    ),
    Rule(
        "directive",
        "no %YAML directive but 1.2",
        "The file asks for another version of YAML than 1.2. In YAML 1.1, `no` is false and 010 is eight.",
        "%YAML 1.1",
        "(no directive)",
    ),
    Rule(
        "duplicate-key",
        "no key twice",
        "A key is given twice in one mapping. Most readers keep the last value and report nothing.",
        "mean: [0.5]\nmean: [0.4]",
        "mean: [0.4]",
    ),
    Rule(
        "key-not-text",
        "keys that are text",
        "A key is a list or a mapping.",
        "[mean, std]: 0.5",
        "mean: [0.5]",
    ),
    Rule(
        "merge-key",
        "no merge keys",
        "In YAML 1.1, `<<` merges another mapping into this one; in 1.2 it is a key like any other.",
        "image: {<<: {mode: RGB}}",
        "image: {mode: RGB}",
    ),
    Rule(
        "anchor",
        "no anchors",
        "With anchors and aliases, the meaning of a line depends on another line, and a small file can take "
        "any amount of memory.",
        "mean: &m [0.5]",
        "mean: [0.5]",
    ),
    Rule(
        "alias",
        "no aliases",
        "See `anchor`. Write out the value that the alias stands for.",
        "std: *m",
        "std: [0.25]",
    ),
    Rule(
        "tag",
        "no tags",
        "Tags ask the reader to build objects. With some readers they run code.",
        "mean: !!python/tuple [0.5]",
        "mean: [0.5]",
    ),
    Rule(
        "number-too-large",
        "numbers within a float64, and of at most 1,300 digits",
        "The number is beyond the range of a 64-bit float, or has more digits than any real measurement.",
        "mean: [1e999]",
        "mean: [0.5]",
    ),
    Rule(
        "limit",
        "within the limits of size, depth and number",
        "A config has at most 1 MiB, 20,000 values and 16 levels, so that a hostile file cannot keep CI busy; a "
        "stats file 64 MiB and 4,000,000 values. Reading ends at the limit, "
        "and a report ends after 1,000 faults.",
        "[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]",
        "[0]",
    ),
    Rule(
        "unknown-key",
        "keys that are known",
        "This file format does not have the key, so it would do nothing.",
        "image: {modus: RGB}",
        "image: {mode: RGB}",
        alone=True,
    ),
    Rule(
        "missing-key",
        "all required keys",
        "A key that has no default is missing.",
        "source: {kind: torchvision}",
        "source: {kind: torchvision, name: CIFAR10}",
    ),
    Rule(
        "wrong-type",
        "values of the right type",
        "Text is never read as a number, nor a number as text. Scalars are read by YAML 1.2: 1e-3 is a "
        "number, `no` is text.",
        "normalize: {mean: 0.5, std: 0.25}",
        "normalize: {mean: [0.5], std: [0.25]}",
        alone=True,
    ),
    Rule(
        "wrong-value",
        "values that are allowed",
        "The value has the right type, but the format does not allow it.",
        "api: v3",
        "api: v2",
        alone=True,
    ),
)
