"""Means and stds in what people copy from: Markdown, reStructuredText, notebooks, shell scripts.

Of a document its code is read: fenced and indented blocks, doctests, the cells of a notebook. A block
is read as the language that it says it is, or as Python.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from imgnorm.checks.lint.data import decoded, pairs_in_tree
from imgnorm.checks.lint.frameworks import facts_of
from imgnorm.checks.lint.names import Named, named, spread_of
from imgnorm.checks.lint.pair import MAX_VALUES, NumberText, Pair, Written, moved
from imgnorm.checks.lint.python import pairs_in_blocks
from imgnorm.documents.tree import (
    LINE_BREAK,
    NUMBER,
    Lines,
    Node,
    Place,
    json_tree,
    toml_tree,
    yaml_trees,
)

MAX_SOURCE = 1 << 20  # characters in the cells of a notebook, without their outputs

_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*[{.]*([\w+-]*)")
_DIRECTIVE = re.compile(
    r"\s*\.\. (?:code-block|code|sourcecode|testcode|ipython|literalinclude)::[ \t]*([\w+-]*)"
)
_PROMPT = re.compile(r"^([ \t]*)(?:>>>|\.\.\.)(?= |$)|^([ \t]*)In \[\d+\]:")
_OPTION = re.compile(
    rf"--?([A-Za-z][\w-]*)[ =]+[\"'\[(]*({NUMBER.pattern}(?:[ ,]+{NUMBER.pattern}){{0,{MAX_VALUES - 1}}})(?![\w.])"
)
"""`--mean 0.485 0.456 0.406`, `--mean_values=[123.675,116.28,103.53]`."""
_FAR = 400  # characters between an option for a mean and one for its std
_PYTHON = {
    "",
    "python",
    "py",
    "python3",
    "pycon",
    "ipython",
    "ipython3",
    "code-cell",
    "default",
    "eval_rst",
}
_SHELL = {"", "bash", "sh", "shell", "console", "shell-session", "zsh", "text"}
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)")


@dataclass(frozen=True)
class _CodeBlock:
    language: str  # in lower case; "" if it is not said
    line: int  # of the file, from 1, at which it begins
    text: str  # with the columns that it has in the file


def markdown_pairs(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std in the code blocks of Markdown."""
    text = decoded(data)
    return _pairs(list(_fenced(LINE_BREAK.split(text), 1)), text, file)


def rst_pairs(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std in the literal blocks and doctests of reStructuredText."""
    text = decoded(data)
    return _pairs(list(_literal(LINE_BREAK.split(text))), text, file)


def shell_pairs(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std among the options of commands."""
    text = decoded(data)
    return list(_in_options(_CodeBlock("sh", 1, text), text))


def notebook_pairs(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std in the cells of a notebook, without their outputs.

    Raises:
        ValueError: it is not a notebook, or has more than 1 MiB of source.
    """
    text = decoded(data)
    notebook = _Notebook(json_tree(text, left_out=("outputs", "attachments")))
    return [notebook.located(pair) for pair in _pairs(notebook.blocks, notebook.text, file)]


def _pairs(blocks: Sequence[_CodeBlock], text: str, file: str) -> list[Pair]:
    python = [block for block in blocks if block.language in _PYTHON]
    found = pairs_in_blocks(
        [(block.line, _without_prompts(block.text)) for block in python], text, file
    )
    lines = Lines(text)
    for block in blocks:
        if block.language in _SHELL:
            found += _in_options(block, text)
        elif block.language in _TREES:
            try:
                roots = _TREES[block.language]("\n" * (block.line - 1) + block.text)
            except ValueError:
                continue  # an example may be cut short
            for root in roots:
                found += pairs_in_tree(root, lines)
    return sorted(found, key=lambda pair: pair.mean.place)


_TREES: dict[str, Callable[[str], list[Node]]] = {
    "yaml": yaml_trees,
    "yml": yaml_trees,
    "json": lambda text: [json_tree(text)],
    "jsonc": lambda text: [json_tree(text)],
    "json5": lambda text: [json_tree(text)],
    "toml": lambda text: [toml_tree(text)],
}


def _fenced(lines: Sequence[str], first: int) -> Iterator[_CodeBlock]:
    """The fenced and the indented blocks of Markdown."""
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        end = at + 1
        if fence:
            while end < len(lines) and not lines[end].lstrip(" \t>").startswith(fence[1]):
                end += 1
            body = [
                line.replace(">", " ", 1)
                if line.lstrip().startswith(">") and ">>>" not in line
                else line
                for line in lines[at + 1 : end]
            ]
            yield _CodeBlock(fence[2].lower(), first + at + 1, "\n".join(body))
            end += 1
        elif _indented(lines[at]) and (at == 0 or not lines[at - 1].strip()):
            end = _end_of_indented(lines, at)
            yield _CodeBlock("", first + at, "\n".join(lines[at:end]))
        at = end


def _literal(lines: Sequence[str]) -> Iterator[_CodeBlock]:
    """The literal blocks and doctests of reStructuredText."""
    at = 0
    while at < len(lines):
        directive = _DIRECTIVE.match(lines[at])
        end = at + 1
        if directive or lines[at].rstrip().endswith("::"):
            while end < len(lines) and (
                not lines[end].strip() or lines[end].lstrip().startswith(":")
            ):
                end += 1
            start, end = end, _end_of_indented(lines, end)
            yield _CodeBlock(
                directive[1].lower() if directive else "", start + 1, "\n".join(lines[start:end])
            )
        elif lines[at].lstrip().startswith(">>> "):
            while end < len(lines) and lines[end].strip():
                end += 1
            yield _CodeBlock("", at + 1, "\n".join(lines[at:end]))
        at = max(end, at + 1)


def _indented(line: str) -> bool:
    return line.startswith(("    ", "\t")) and bool(line.strip())


def _end_of_indented(lines: Sequence[str], at: int) -> int:
    """The line after a run of indented lines; empty ones inside it belong to it."""
    end = last = at
    while end < len(lines) and (not lines[end].strip() or lines[end][0] in " \t"):
        end += 1
        if lines[end - 1].strip():
            last = end
    return last


def _without_prompts(text: str) -> str:
    """Without `>>>` and IPython's magics; where there are prompts, without the output, too."""
    lines = text.split("\n")
    prompted = any(_PROMPT.match(line) for line in lines)
    kept = []
    for line in lines:
        prompt = _PROMPT.match(line)
        if prompt:
            kept.append(" " * (prompt.end() + 1) + line[prompt.end() + 1 :])
        else:
            kept.append("" if prompted or line.lstrip()[:1] in ("%", "!", "?") else line)
    return "\n".join(kept)


def _in_options(block: _CodeBlock, text: str) -> Iterator[Pair]:
    """Pairs of options: `--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225`."""
    body = "\n" * (block.line - 1) + block.text
    lines = Lines(body)
    waiting: dict[str, tuple[Named, Written, int]] = {}
    for found in _OPTION.finditer(body):
        name = named(found[1])
        if not name:
            continue
        numbers = list(NUMBER.finditer(body, found.start(2), found.end(2)))
        texts = tuple(NumberText(n[0], lines.place(n.start())) for n in numbers)
        written = Written(tuple(float(n[0]) for n in numbers), texts[0].place, texts)
        before = waiting.get(name.stem)
        if before and before[0].role != name.role and found.start() - before[2] < _FAR:
            both = {name.role: (name, written), before[0].role: before[:2]}
            (mean_name, mean), (std_name, std) = both["mean"], both["std"]
            spread = spread_of(mean_name, std_name)
            facts = facts_of({mean_name.name.replace("-", "_"): None})
            if spread and (len(mean.values) > 1 or facts.framework):
                yield Pair(
                    mean,
                    std,
                    facts.pixels,
                    facts.unit,
                    facts.order,
                    spread=spread,
                    framework=facts.framework,
                )
        waiting[name.stem] = (name, written, found.end())


class _Notebook:
    """The source of a notebook's cells as one text, whose places are found again in the file."""

    def __init__(self, root: Node) -> None:
        self.blocks: list[_CodeBlock] = []
        self._lines: list[str] = []
        self._origins: list[tuple[int, int, list[int]]] = []  # cell, line and columns in the file
        size = 0
        for cell, fields in enumerate(_cells(root), 1):
            source, kind = fields["source"], fields["cell_type"].value
            first = len(self._lines)
            for part in source.value if isinstance(source.value, list) else [source]:
                size += len(part.text)
                if size > MAX_SOURCE:
                    raise ValueError(f"more than {MAX_SOURCE:,} characters of source")
                self._take(part, cell)
            lines = self._lines[first:]
            if kind == "code":
                self.blocks.append(_CodeBlock("python", first + 1, "\n".join(lines)))
            else:
                self.blocks += _fenced(lines, first + 1)
        self.text = "\n".join(self._lines)

    def located(self, pair: Pair) -> Pair:
        """With the places in the file instead of those in the text."""
        cell = self._origins[pair.mean.place[0] - 1][0]
        return replace(
            moved(pair, self._place),
            cell=cell,
        )

    def _place(self, place: Place) -> Place:
        line, column = place
        _, line, columns = self._origins[min(line, len(self._origins)) - 1]
        return line, columns[min(column, len(columns)) - 1] if columns else 1

    def _take(self, part: Node, cell: int) -> None:
        """The lines of a string of JSON, with the column in the file of each of their characters."""
        line, column = part.place
        raw = part.text[1:-1]
        position = 0
        characters: list[str] = []
        columns: list[int] = []
        while position < len(raw):
            escape = _ESCAPE.match(raw, position)
            character = str(json.loads(f'"{escape[0]}"')) if escape else raw[position]
            if character == "\n":
                self._lines.append("".join(characters))
                self._origins.append((cell, line, columns))
                characters, columns = [], []
            else:
                characters.append("?" if "\ud800" <= character <= "\udfff" else character)
                columns.append(column + 1 + position)
            position = escape.end() if escape else position + 1
        if characters:
            self._lines.append("".join(characters))
            self._origins.append((cell, line, columns))


def _cells(root: Node) -> Iterator[dict[str, Node]]:
    """The cells that have a source; in the third version of the format they are in worksheets."""
    top = root.value if isinstance(root.value, dict) else {}
    holders = [top, *(item.value for item in _listed(top.get("worksheets")))]
    for holder in holders:
        for cell in _listed(holder.get("cells") if isinstance(holder, dict) else None):
            fields = dict(cell.value) if isinstance(cell.value, dict) else {}
            fields.setdefault("source", fields.get("input", cell))
            if "cell_type" in fields and fields["source"] is not cell:
                yield fields


def _listed(node: Node | None) -> list[Node]:
    return node.value if node and isinstance(node.value, list) else []
