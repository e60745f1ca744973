"""Documents as both of PyYAML's parsers give them."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import strategies as st

from imgnorm.documents import reader
from imgnorm.documents.document import CONFIG_LIMITS, Document, DocumentLimits
from imgnorm.errors import InvalidDocument

LOADERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]


def parse(data: str | bytes, limits: DocumentLimits = CONFIG_LIMITS) -> Document:
    """The document, or InvalidDocument; the same from both parsers."""
    outcomes = []
    for loader in LOADERS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "_Loader", loader)
            try:
                encoded = data.encode() if isinstance(data, str) else data
                outcomes.append(reader.parse(encoded, "f.yaml", limits))
            except InvalidDocument as error:
                outcomes.append(error)
    assert 1 == len({type(outcome) for outcome in outcomes}), outcomes
    assert 1 == len({shape_of(outcome) for outcome in outcomes}), outcomes
    if isinstance(outcomes[-1], InvalidDocument):
        raise outcomes[-1]
    return outcomes[-1]


def shape_of(outcome: Document | InvalidDocument) -> str:
    places = outcome._places if isinstance(outcome, Document) else None
    return f"{outcome} {places and (places.marks, places.spans)}"


# JSON writes characters beyond the Basic Multilingual Plane as two escapes, which YAML refuses.
TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)
