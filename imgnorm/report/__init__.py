"""The report: stats -> one HTML file that needs no network.

    page.py         stats -> what each section shows, bounded, and the page of it
    thumbnails.py   what stands out, as small pictures, made in a process of their own
    page.html       the page: a Jinja2 template, with autoescape
    page.css        light, dark and printed
    page.js         zoom and logarithmic axis of the histograms, search in tables, copies

The charts are those of `Stats.plot` (stats/plot.py): SVG, which page.js draws again when one zooms. Names of
datasets are a stranger's text. Jinja2 escapes them, and the page's Content-Security-Policy names the digests
of its own script and style: nothing else runs or loads, whatever a name contains.

The same stats give the same bytes, but for thumbnails, which are of images that are there. A section takes a
bounded number of rows, says how many are not shown, and leaves the rest to the stats file: a million images
make no larger page than a thousand.

May import the packages before it; jinja2, which the extra `report` installs; in thumbnails.py, Pillow. A new
section: what it shows in page.py, and its place in page.html.
"""
