"""The pages of what verify finds: ways in which a stats file no longer describes its data."""

from __future__ import annotations

from imgnorm.errors import Rule

RULES = (
    Rule(
        "names",
        "the names that were measured",
        "The digest of the names that the source lists now is not the one in the file: images were added, "
        "removed or renamed. The message lists them if the file keeps its names (`--keep-names`), and the "
        "classes whose number of images changed.",
        "listing_sha256: 5b41...    # of 24 names; the folder has 25 now",
        "listing_sha256: 90fe...    # of the 25 names, measured again",
    ),
    Rule(
        "skipped",
        "the same images skipped as then",
        "Images that were counted cannot be read now, or images that were skipped can be. Fix the files, "
        "or measure again.",
        "skipped: []    # and circle/png.png is truncated now",
        "skipped: [{name: circle/png.png, reason: truncated}]",
    ),
    Rule(
        "differs",
        "the same integers when all images are measured again",
        "With `--sample all`, or where the sample would be all images, everything is measured again and "
        "compared, integer by integer. This one is different now.",
        "pixels: 87598    # 87,000 now",
        "pixels: 87000",
    ),
    Rule(
        "mode",
        "images of the mode that all of them had",
        "The file was measured with `--mode auto`, which found one mode that all images share. Images of "
        "the sample have another one now: color images among gray ones, for example.",
        "image: {mode: L, auto: true}    # and cat/7.png is RGB now",
        "image: {mode: RGB, auto: true}",
    ),
    Rule(
        "modes",
        "no more images of a mode than were counted",
        "The sample alone has more images of one of Pillow's modes (before conversion) than the file "
        "counted in all images. So files were replaced or converted.",
        "modes: {RGB: 18, L: 3}    # 5 of L in the sample",
        "modes: {RGB: 16, L: 5}",
    ),
    Rule(
        "formats",
        "no more images of a format than were counted",
        "The sample alone has more images of one format than the file counted in all images. So files were "
        "encoded again, and a lossy format changes pixels.",
        "formats: {PNG: 24}    # 12 of JPEG in the sample",
        "formats: {JPEG: 12, PNG: 12}",
    ),
    Rule(
        "pixels",
        "no pixels that the file has not counted",
        "The sample alone has more pixels of one value than the file's histogram, or smaller or larger "
        "values than the file's min and max; or its images have another size than `preprocess` gives. A "
        "part cannot have more than the whole.",
        "min: [23]    # 0 in the sample",
        "min: [0]",
    ),
    Rule(
        "sizes",
        "images about as large as they were",
        "On average, the images of the sample have less than half or more than twice as many pixels as "
        "those of the file. A few huge images that the sample missed could be the reason; `--sample all` "
        "shows whether they are.",
        "pixels: 87598    # 3,650 an image; 900 in the sample",
        "pixels: 21600    # measured again",
        severity="warning",
    ),
    Rule(
        "moved",
        "the averages of the images' numbers",
        "On average, the images of the sample have other means, variances or stds than those of the file, "
        "by more than chance explains: at most 1 in 1,000 unchanged datasets is reported, whatever is in it.",
        "mean: [0.5704]    # each image with the same weight: about 0.6210 now",
        "mean: [0.6210]    # measured again",
    ),
    Rule(
        "decoders",
        "the libraries that decoded the images then",
        "Another library, or another version of it, decodes now. This alone may change pixels of JPEG, WebP "
        "and AVIF by one level, so a sample's counts of pixels are not compared.",
        "decoders: {JPEG: 'Pillow 12.0.0, libjpeg-turbo 3.1.0'}    # 3.2.0 now",
        "decoders: {JPEG: 'Pillow 13.0.0, libjpeg-turbo 3.2.0'}",
        severity="warning",
    ),
)
