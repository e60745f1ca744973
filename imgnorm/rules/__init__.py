"""Every rule by its id: what `--select`, `--ignore` and `--explain` know."""

from __future__ import annotations

from imgnorm.rules.numbers import RULES as _NUMBERS
from imgnorm.rules.rule import Rule

RULES: dict[str, Rule] = {rule.id: rule for rule in _NUMBERS}
