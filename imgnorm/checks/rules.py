"""The registry of rules, by id.

A family of rules stands beside the code that checks it; this module only joins them.
"""

from __future__ import annotations

from imgnorm.checks.verify.rules import RULES as _VERIFY
from imgnorm.constants.findings import RULES as _NUMBERS
from imgnorm.documents.portability import RULES as _PORTABILITY
from imgnorm.documents.rules import RULES as _READING
from imgnorm.errors import Rule
from imgnorm.pipeline.numbers import RULES as _STATS
from imgnorm.pipeline.order import RULES as _ORDER
from imgnorm.pipeline.structure import RULES as _STRUCTURE

RULES: dict[str, Rule] = {
    rule.id: rule
    for family in (_READING, _STRUCTURE, _ORDER, _NUMBERS, _STATS, _PORTABILITY)
    for rule in family
}
"""What validate and lint ask: the ids that `--select`, `--ignore` and ignore comments take."""
PAGES: dict[str, Rule] = {**RULES, **{rule.id: rule for rule in _VERIFY}}
"""What `--explain` takes: those, and what verify finds."""
