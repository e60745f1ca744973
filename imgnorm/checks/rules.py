"""The registry of rules, by id.

A family of rules stands beside the code that checks it. This module joins the families, and has the
pages of what validate itself finds.
"""

from __future__ import annotations

from imgnorm.checks.diff_rules import RULES as _DIFF
from imgnorm.checks.verify.rules import RULES as _VERIFY
from imgnorm.constants.findings import RULES as _NUMBERS
from imgnorm.documents.portability import RULES as _PORTABILITY
from imgnorm.documents.rules import RULES as _READING
from imgnorm.errors import Rule
from imgnorm.pipeline.numbers import RULES as _STATS
from imgnorm.pipeline.order import RULES as _ORDER
from imgnorm.pipeline.structure import RULES as _STRUCTURE
from imgnorm.stats.faults import RULES as _STATS_FILE

_VALIDATE = (
    Rule(
        "unknown-format",
        "a format that says what the file is",
        "The file has no `format`, or one that is neither that of a pipeline config nor that of a stats file. In "
        "a folder such files are passed over; on the command line they are a fault.",
        "source: {kind: folder, path: data}",
        "format: imgnorm-pipeline/1\nsource: {kind: folder, path: data}",
    ),
    Rule(
        "build",
        "a pipeline that torchvision builds and runs (with --build)",
        "torchvision refused an argument, or failed on a generated image of 640x480. The message quotes it.",
        "augment:\n  - RandomRotation: {degrees: -4}",
        "augment:\n  - RandomRotation: {degrees: 4}",
    ),
    Rule(
        "unknown-ignore",
        "ignore comments that name a rule",
        "A comment `# imgnorm: ignore[rule]` ignores one rule on its line. Without a rule, or with one "
        "that does not exist, it ignores nothing.",
        "api: v1  # imgnorm: ignore",
        "api: v1",
        severity="warning",
    ),
)

RULES: dict[str, Rule] = {
    rule.id: rule
    for family in (
        _READING,
        _STATS_FILE,
        _VALIDATE,
        _STRUCTURE,
        _ORDER,
        _NUMBERS,
        _STATS,
        _PORTABILITY,
    )
    for rule in family
}
"""What validate and lint check: the ids that `--select`, `--ignore` and ignore comments take."""
PAGES: dict[str, Rule] = {**RULES, **{rule.id: rule for rule in (*_VERIFY, *_DIFF)}}
"""What `--explain` takes: those, and what verify and diff find."""
