"""Every rule by its id: what `--select`, `--ignore` and `--explain` know."""

from __future__ import annotations

from imgnorm.rules.numbers import RULES as _NUMBERS
from imgnorm.rules.order import RULES as _ORDER
from imgnorm.rules.portability import RULES as _PORTABILITY
from imgnorm.rules.reading import RULES as _READING
from imgnorm.rules.rule import Rule
from imgnorm.rules.stats import RULES as _STATS
from imgnorm.rules.structure import RULES as _STRUCTURE

RULES: dict[str, Rule] = {
    rule.id: rule
    for family in (_READING, _STRUCTURE, _ORDER, _NUMBERS, _STATS, _PORTABILITY)
    for rule in family
}
