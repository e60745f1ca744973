"""Every rule by its id: what `--select` and `--ignore` know, and, with what verify tells of, `--explain`."""

from __future__ import annotations

from imgnorm.rules.numbers import RULES as _NUMBERS
from imgnorm.rules.order import RULES as _ORDER
from imgnorm.rules.portability import RULES as _PORTABILITY
from imgnorm.rules.reading import RULES as _READING
from imgnorm.rules.rule import Rule
from imgnorm.rules.stats import RULES as _STATS
from imgnorm.rules.structure import RULES as _STRUCTURE
from imgnorm.rules.truth import RULES as _TRUTH

RULES: dict[str, Rule] = {
    rule.id: rule
    for family in (_READING, _STRUCTURE, _ORDER, _NUMBERS, _STATS, _PORTABILITY)
    for rule in family
}
PAGES: dict[str, Rule] = {**RULES, **{rule.id: rule for rule in _TRUTH}}
