"""A source that makes its images up: what a scan costs beside reading and decoding."""

from dataclasses import dataclass

from PIL import Image

from imgnorm.sources.source import Listing


@dataclass(frozen=True)
class GeneratedSource:
    """So many images of one pixel, which nobody decodes."""

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
