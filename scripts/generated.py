"""A source that generates its images, to measure what a scan costs beside reading and decoding."""

from dataclasses import dataclass

from PIL import Image

from imgnorm.sources.source import Listing


@dataclass(frozen=True)
class GeneratedSource:
    """This many images of one pixel each, which need no decoding."""

    count: int
    kind = "generated"
    ref = "generated"

    def listing(self) -> Listing:
        return Listing([f"class-{i % 10}/{i:09}.jpg" for i in range(self.count)])

    def class_of(self, name: str) -> str | None:
        return name.partition("/")[0]

    def read(self, name: str) -> Image.Image:
        return _PIXEL


_PIXEL = Image.new("RGB", (1, 1))
