"""Problems with the content of a pipeline config that the kinds of its values do not show.

They are about `normalize` (one way only, a usable preset) and about the transforms of `preprocess` and
`augment`: their names, their arguments, and which of them are allowed there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from imgnorm.constants.presets import preset
from imgnorm.documents.document import Document, Path
from imgnorm.documents.kinds import as_yaml
from imgnorm.errors import Problem, Rule, SourceError
from imgnorm.pipeline.augmentations import NORMALIZE, TENSOR_STEPS, Api, left_out, transforms_of
from imgnorm.settings import STEPS
from imgnorm.wording import cut, nearest


def structure_problems(document: Document) -> Iterator[Problem]:
    """What is wrong with `normalize`, `preprocess` and `augment`. A value of the wrong type is skipped."""
    value = document.value
    if not isinstance(value, dict):
        return
    if isinstance(value.get("normalize"), dict):
        yield from _normalize_problems(document, value["normalize"])
    if isinstance(value.get("preprocess"), list):
        for index, entry in enumerate(value["preprocess"]):
            yield from _preprocess_problems(document, ("preprocess", index), entry, api_of(value))
    if isinstance(value.get("augment"), list):
        for index, entry in enumerate(value["augment"]):
            yield from _augment_problems(document, ("augment", index), entry, api_of(value))


def api_of(value: dict[str, Any]) -> Api:
    """The API that a config chooses, whatever else is wrong with it."""
    return "v2" if value.get("api") == "v2" else "v1"


_TWO_NORMALIZATIONS = Rule(
    "two-normalizations",
    "one way to normalize",
    "`normalize` has more than one of a stats file, a preset, and a mean and a std. Nothing says which of "
    "them counts.",
    "normalize: {stats: stats.yaml, mean: [0.5], std: [0.25]}",
    "normalize: {stats: stats.yaml}",
    alone=True,
)

_UNKNOWN_PRESET = Rule(
    "unknown-preset",
    "presets that exist and are not wrong",
    "`imgnorm presets` lists the names. A set that is known to be wrong cannot be used by its name; write "
    "its numbers out if a checkpoint depends on them.",
    "normalize: {preset: cifar-11}",
    "normalize: {preset: cifar10}",
    alone=True,
)


def _normalize_problems(document: Document, value: dict[str, Any]) -> Iterator[Problem]:
    given = {key for key in ("stats", "preset", "mean", "std") if value.get(key) is not None}
    chosen = next((key for key in ("stats", "preset") if key in given), None)
    if not given:
        yield document.problem(
            ("normalize",),
            "missing-key",
            "expected stats, preset, or mean and std",
            "write {stats: stats.yaml}, {preset: cifar10}, or {mean: [...], std: [...]}",
            of_key=True,
        )
    elif chosen:
        for key in sorted(given - {chosen}):
            yield document.problem(
                ("normalize", key),
                _TWO_NORMALIZATIONS.id,
                f"given beside {chosen}",
                f"keep one of them: {chosen} has its own mean and std",
                of_key=True,
            )
    else:
        for key in {"mean", "std"} - given:
            yield document.problem(("normalize", key), "missing-key", "missing key")
    if isinstance(value.get("preset"), str):
        try:
            preset(value["preset"])
        except SourceError as error:
            message, _, hint = str(error).rpartition("; ")
            yield document.problem(("normalize", "preset"), _UNKNOWN_PRESET.id, message, hint)


_UNKNOWN_ARGUMENT = Rule(
    "unknown-argument",
    "arguments that the transform has",
    "The transform has no such argument in torchvision. In `preprocess`, size is the only argument; ToTensor, "
    "ToImage, ToDtype and Normalize take none, because the pipeline fills theirs in.",
    "augment:\n  - RandomCrop: {sise: 32}",
    "augment:\n  - RandomCrop: {size: 32}",
    alone=True,
)

_MISSING_ARGUMENT = Rule(
    "missing-argument",
    "all arguments that have no default",
    "The transform cannot be made without this argument.",
    "augment:\n  - RandomCrop: {}",
    "augment:\n  - RandomCrop: {size: 32}",
)

_WRONG_ARGUMENT = Rule(
    "wrong-argument",
    "arguments of the right type",
    "torchvision's own signature does not allow this value for this argument.",
    "augment:\n  - RandomCrop: {size: large}",
    "augment:\n  - RandomCrop: {size: 32}",
    alone=True,
)

_RANDOM_PREPROCESS = Rule(
    "random-preprocess",
    "nothing random in preprocess",
    "Every image is measured once, after `preprocess`, so nothing there may be random. Random transforms "
    "belong in `augment`, which the eval transform leaves out.",
    "preprocess:\n  - RandomCrop: {size: 32}",
    "augment:\n  - RandomCrop: {size: 32}",
    alone=True,
)

_NOT_MEASURABLE = Rule(
    "not-measurable",
    "only Resize and CenterCrop in preprocess",
    "The images are measured after `preprocess`, so imgnorm applies it itself, pixel for pixel as "
    "torchvision does. It can do that for Resize and CenterCrop only.",
    "preprocess:\n  - Pad: {padding: 4}",
    "preprocess:\n  - Resize: {size: 256}\n  - CenterCrop: {size: 224}",
    alone=True,
)


def _preprocess_problems(document: Document, path: Path, entry: Any, api: Api) -> Iterator[Problem]:
    name = yield from _name_problems(document, path, entry)
    if name is None:
        return
    known = transforms_of(api)
    if name not in STEPS:
        if name in known and known[name].random:
            message = "is random, but every image is measured once, after preprocess"
            hint = "put it under augment"
            yield document.problem((*path, name), _RANDOM_PREPROCESS.id, message, hint, of_key=True)
        elif name in known or name in (*TENSOR_STEPS["v1"], *TENSOR_STEPS["v2"], NORMALIZE):
            message = "cannot be part of the measurement"
            hint = "only Resize and CenterCrop can; put the rest under augment"
            yield document.problem((*path, name), _NOT_MEASURABLE.id, message, hint, of_key=True)
        else:
            yield _unknown(document, (*path, name), list(STEPS), "preprocess")
        return
    arguments = entry[name]
    for key in arguments:
        if key != "size":
            message = "unknown argument; size is the only one in preprocess, and Resize is bilinear"
            near = None if key in known[name].parameters else _suggestion(key, ["size"])
            where = (*path, name, key)
            yield document.problem(where, _UNKNOWN_ARGUMENT.id, message, near, of_key=True)
    if "size" not in arguments:
        yield document.problem((*path, name), _MISSING_ARGUMENT.id, "size is missing", of_key=True)
    elif not _is_size(arguments["size"]):
        message = (
            f"expected a whole number above 0, or two of them; got {_as_text(arguments['size'])}"
        )
        yield document.problem((*path, name, "size"), _WRONG_ARGUMENT.id, message)


def _augment_problems(document: Document, path: Path, entry: Any, api: Api) -> Iterator[Problem]:
    name = yield from _name_problems(document, path, entry)
    if name is None:
        return
    known, arguments = transforms_of(api), entry[name]
    if name in (*TENSOR_STEPS[api], NORMALIZE):
        for key in arguments:
            hint = "mean and std are those of `normalize`" if name == NORMALIZE else None
            message = f"{name} takes no argument here"
            where = (*path, name, key)
            yield document.problem(where, _UNKNOWN_ARGUMENT.id, message, hint, of_key=True)
        return
    if name not in known:
        yield _unknown(document, (*path, name), [*known, *TENSOR_STEPS[api], NORMALIZE], api)
        return
    parameters = known[name].parameters
    for key, value in arguments.items():
        where = (*path, name, key)
        if key not in parameters:
            near = _suggestion(key, [p for p in parameters if p not in arguments])
            yield document.problem(
                where, _UNKNOWN_ARGUMENT.id, "unknown argument", near, of_key=True
            )
        elif not parameters[key].accepts(value):
            message = f"expected {parameters[key].expected()}; got {_as_text(value)}"
            near = _suggestion(value, parameters[key].choices) if isinstance(value, str) else None
            yield document.problem(where, _WRONG_ARGUMENT.id, message, near)
    for key, parameter in parameters.items():
        if parameter.required and key not in arguments:
            message = f"{key} is missing"
            yield document.problem((*path, name), _MISSING_ARGUMENT.id, message, of_key=True)


def _name_problems(
    document: Document, path: Path, entry: Any
) -> Generator[Problem, None, str | None]:
    """Why an entry is not `Name: {arguments}`; returns the transform's name if it is."""
    if isinstance(entry, str):
        message = f"expected a mapping; got {as_yaml(entry)} (text)"
        yield document.problem(path, "wrong-type", message, f"write {cut(entry)}: {{}}")
        return None
    if not isinstance(entry, dict) or not entry:
        got = "nothing" if entry == {} else as_yaml(entry)
        yield document.problem(path, "wrong-type", f"expected a transform; got {got}")
        return None
    if len(entry) > 1:
        message = f"expected one transform; got {len(entry)} keys: {cut(', '.join(entry), 80)}"
        hint = "start each with its own '-', and indent its arguments further"
        yield document.problem(path, "wrong-type", message, hint)
        return None
    name: str = next(iter(entry))
    arguments = entry[name]
    if not isinstance(arguments, dict):
        message = f"expected a mapping of arguments; got {as_yaml(arguments)}"
        how = f"write {cut(name)}: {{}}" if arguments is None else None
        yield document.problem((*path, name), "wrong-type", message, how)
        return None
    return name


_UNKNOWN_TRANSFORM = Rule(
    "unknown-transform",
    "transforms that torchvision has",
    "Each entry names a torchvision transform of the API that `api` chooses. The transform must take plain "
    "values and turn one image into one image, which Compose, Lambda, FiveCrop and PILToTensor do not. "
    "Dotted names and code are never run.",
    "augment:\n  - RandomHorizontallFlip: {}",
    "augment:\n  - RandomHorizontalFlip: {}",
    alone=True,
)


def _unknown(document: Document, path: Path, choices: Sequence[str], where: str) -> Problem:
    name, hint = str(path[-1]), _suggestion(str(path[-1]), choices)
    other: Api = "v1" if where == "v2" else "v2"
    if where == "v1" and name in (*transforms_of(other), *TENSOR_STEPS[other]):
        hint = f"torchvision has it with `api: {other}` only"
    elif where == "v2" and name in TENSOR_STEPS[other]:
        hint = "with `api: v2` write ToImage and ToDtype"
    elif name in (*left_out("v1"), *left_out("v2")):
        message = "torchvision has it, but a pipeline config cannot use it"
        hint = "what takes functions, transforms or boxes, or converts images, needs code around it"
        return document.problem(path, _UNKNOWN_TRANSFORM.id, message, hint, of_key=True)
    elif "." in name:
        hint = "write the name of a torchvision transform alone; no other code is run"
    return document.problem(path, _UNKNOWN_TRANSFORM.id, "unknown transform", hint, of_key=True)


def _suggestion(word: str, choices: Sequence[str]) -> str | None:
    near = nearest(word, choices)
    return f"did you mean '{near[0]}'?" if near else None


def _as_text(value: object) -> str:
    if not isinstance(value, list):
        return as_yaml(value)
    first = ", ".join(map(as_yaml, value[:8]))
    return f"[{first}{', …' if len(value) > 8 else ''}]"


def _is_size(value: object) -> bool:
    edges = value if isinstance(value, list) and len(value) == 2 else [value]
    return all(isinstance(e, int) and not isinstance(e, bool) and 1 <= e < 1 << 24 for e in edges)


RULES = tuple(page for page in globals().values() if isinstance(page, Rule))
