"""What verify tells of: a stats file that is no longer true of its data."""

from __future__ import annotations

from imgnorm.errors import Rule

RULES = (
    Rule(
        "names",
        "error",
        "the names that were measured",
        "The digest of the names that the source lists now is not the one in the file: images were added, "
        "removed or renamed. Where one or two did, and where classes changed, they are named.",
        "listing_sha256: 5b41...    # of 24 names; the folder has 25 now",
        "listing_sha256: 90fe...    # of the 25 names, measured again",
    ),
    Rule(
        "skipped",
        "error",
        "the same images skipped as then",
        "Images that were counted cannot be read now, or images that were skipped can be. Mend the files, "
        "or measure again.",
        "skipped: []    # and circle/png.png is truncated now",
        "skipped: [{name: circle/png.png, reason: truncated}]",
    ),
    Rule(
        "differs",
        "error",
        "every integer that measuring all images gives",
        "With `--sample all`, or where the sample would be all images, everything is measured again and "
        "compared, integer by integer. This one is another now.",
        "pixels: 87598    # 87,000 now",
        "pixels: 87000",
    ),
    Rule(
        "mode",
        "error",
        "images of the mode that all had",
        "The file was measured with `--mode auto`, which found one mode that all images share. Images of "
        "the sample have another one now: color among gray ones, say.",
        "image: {mode: L, auto: true}    # and cat/7.png is RGB now",
        "image: {mode: RGB, auto: true}",
    ),
    Rule(
        "modes",
        "error",
        "no more images of a mode than were counted",
        "The sample has more images of one of Pillow's modes (before conversion) than the file has counted "
        "in all. So files were replaced or converted.",
        "modes: {RGB: 18, L: 3}    # 5 of L in the sample",
        "modes: {RGB: 16, L: 5}",
    ),
    Rule(
        "formats",
        "error",
        "no more images of a format than were counted",
        "The sample has more images of one format than the file has counted in all. So files were encoded "
        "again, and where that is lossy, other pixels came of it.",
        "formats: {PNG: 24}    # 12 of JPEG in the sample",
        "formats: {JPEG: 12, PNG: 12}",
    ),
    Rule(
        "pixels",
        "error",
        "no pixels that the file has not counted",
        "The sample has more pixels of one value than the file's histogram has in all, or smaller or larger "
        "values than its min and max; or the images have another size than `preprocess` gave them. A part "
        "cannot have more than the whole.",
        "min: [23]    # 0 in the sample",
        "min: [0]",
    ),
    Rule(
        "sizes",
        "warning",
        "images about as large as they were",
        "The images of the sample have less than half or more than twice as many pixels as the file's on "
        "average. A few huge images that the sample missed could be the reason; `--sample all` tells.",
        "pixels: 87598    # 3,650 an image; 900 in the sample",
        "pixels: 21600    # measured again",
    ),
    Rule(
        "moved",
        "error",
        "the averages of the images' numbers",
        "The images of the sample have other means, stds or mean stds than the file's images on average, by "
        "more than chance: of 1,000 unchanged datasets, whatever is in them, at most one is told so.",
        "mean: [0.5704]    # each image with the same weight: about 0.6210 now",
        "mean: [0.6210]    # measured again",
    ),
    Rule(
        "decoders",
        "warning",
        "the libraries that decoded the images then",
        "Another library, or another version of it, decodes now. Pixels of JPEG, WebP and AVIF may differ by "
        "a level for that alone, so counts of pixels are not compared in a sample.",
        "decoders: {JPEG: 'Pillow 12.0.0, libjpeg-turbo 3.1.0'}    # 3.2.0 now",
        "decoders: {JPEG: 'Pillow 13.0.0, libjpeg-turbo 3.2.0'}",
    ),
)
