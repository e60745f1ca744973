"""What a rule is; the rules themselves are in the modules beside this one."""

from __future__ import annotations

from dataclasses import dataclass

from imgnorm.errors import Severity


@dataclass(frozen=True)
class Rule:
    """One thing that validate and lint look for."""

    id: str  # as on the command line: known-wrong
    severity: Severity
    summary: str  # half a line
    explanation: str  # one paragraph, for `--explain RULE` and the documentation
    bad: str  # an example in YAML that breaks it
    good: str  # the same, mended
