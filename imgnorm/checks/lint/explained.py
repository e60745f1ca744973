"""What the means and stds of a file are: which known set, and whether the file takes them so."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from imgnorm.checks.lint.files import content_of, files_in, pairs_of
from imgnorm.checks.lint.judge import comparable, judged
from imgnorm.checks.lint.pair import Pair
from imgnorm.constants.explain import Answer, Explanation, explain
from imgnorm.constants.findings import Order
from imgnorm.constants.presets import Numbers, numbers_of
from imgnorm.documents.reader import declared_format
from imgnorm.errors import SourceError
from imgnorm.stats.file import read_stats
from imgnorm.stats.stats import Stats

_FAULT = re.compile(r"[a-z-]+ \((error|warning|info)\): ")


@dataclass(frozen=True)
class ExplainedPair:
    """A mean and a std of a file; `str()` of it is what the command prints.

    Example:
        >>> (found,) = imgnorm.explain_file("configs/mnist.yaml")
        >>> found.where
        'configs/mnist.yaml:8: imgnorm, 0..1, RGB'
    """

    where: str  # file, line, and what they are for there: `config.py:3: mmengine, 0..255, RGB`
    explanation: Explanation

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return {"where": self.where, **self.explanation.to_dict()}

    def __str__(self) -> str:
        return f"{self.where}\n{self.explanation}"


def explain_file(
    path: str | os.PathLike[str], stats: Stats | str | os.PathLike[str] | None = None
) -> list[ExplainedPair]:
    """Every mean with its std in a file that lint reads.

    Args:
        stats: a measurement or its file; the numbers are compared with it in each unit and order.

    Raises:
        SourceError: a file cannot be read, or is of no kind that lint reads.
        InvalidDocument: one of imgnorm's own files has faults.
        IncompatibleStats: the stats have no images.

    Example:
        >>> (found,) = imgnorm.explain_file("configs/cifar10.yaml")
        >>> print(found.explanation.answers[0].what)
        0.24703223 0.24348513 0.26158784 is the std of CIFAR-10, train
    """
    if stats is not None and not isinstance(stats, Stats):
        stats = read_stats(os.fspath(stats))
    (file,) = files_in([os.fspath(path)])
    try:
        data = content_of(file)
        pairs = pairs_of(data, file)
    except ValueError as error:
        raise SourceError(f"{file}: {error}; name a file that holds a mean and a std") from error
    if not pairs and declared_format(data).startswith("imgnorm-stats/"):
        raise SourceError(f"{file}: its numbers are measured; `imgnorm show` prints them")
    once = {(pair.mean.place, pair.framework): pair for pair in pairs}
    known = {place for place, framework in once if framework}
    return [
        _explained(pair, file, stats)
        for (place, framework), pair in sorted(once.items())
        if framework or place not in known  # where they are used says more than where they are set
    ]


def _explained(pair: Pair, file: str, stats: Stats | None) -> ExplainedPair:
    mean, std = comparable(pair)
    texts = [[repr(value) for value in one.effective] for one in (std, mean)]
    if pair.spread == "std" and pair.std.divisor == pair.mean.divisor == 1:
        texts = [
            [
                text.text if text else repr(value)
                for text, value in zip(o.texts, o.values, strict=True)
            ]
            for o in (pair.std, pair.mean)
        ]
    found = explain(texts[0], mean=texts[1], stats=stats)
    problems = [one.problem for one in judged([pair], file)]
    against = dict(_against(pair, stats)) if stats else {}
    if pair.stated:  # the numbers of the stats in another order say more than the header does
        problems = [problem for problem in problems if problem.rule not in against]
    faults = [
        Answer(f"{p.rule} ({p.severity}): {p.message}", notes=(p.hint,) if p.hint else ())
        for p in problems
    ]
    rules = {problem.rule for problem in problems}
    faults += [answer for rule, answer in against.items() if rule not in rules]
    unit = f"0..{pair.unit:g}" if pair.unit else ""
    spread = "" if pair.spread == "std" else pair.spread
    takes = ", ".join(filter(None, (pair.framework, unit, pair.order, spread)))
    line, _ = pair.mean.place
    # What explain finds wrong goes by the size of the numbers; here their unit and order are known.
    answers = [one for one in found.answers if not _FAULT.match(one.what)] + faults
    return ExplainedPair(f"{file}:{line}: {takes}", replace(found, answers=tuple(answers)))


def _against(pair: Pair, stats: Stats) -> Iterator[tuple[str, Answer]]:
    """What the place of the numbers has against them, if they are those of the stats in any form."""
    mean, std = comparable(pair)
    orders: tuple[Order, Order] = ("RGB", "BGR")
    for scale in dict.fromkeys((1, 255, stats.scale)):
        for order in orders:
            step = 1 if order == "RGB" else -1
            same = all(
                numbers_of(one.effective, unit=scale).same(Numbers(values[::step], 0))
                for one, values in ((mean, stats.mean), (std, stats.std))
            )
            if not same:
                continue
            if pair.unit and pair.unit != scale and stats.scale > 1:
                text = f"unit (error): the numbers of the stats for 0..{scale}, where 0..{pair.unit:g} is taken"
                yield "unit", Answer(text)
            if pair.order and pair.order != order and len(stats.mean) == 3:
                text = f"channel-order (error): the numbers of the stats in {order} order, where {pair.order} is taken"
                yield "channel-order", Answer(text)
            return
