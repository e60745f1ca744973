"""A folder of images, searched recursively, as torchvision's ImageFolder sees it."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, deque
from collections.abc import Iterator
from operator import attrgetter

from imgnorm.sources.files import (
    IMG_EXTENSIONS,
    InPlaceOfImages,
    read_file,
    rule_against,
    rule_against_file,
    unreadable,
    way_to_read,
)
from imgnorm.sources.names import as_text, runs_of
from imgnorm.sources.patterns import ALL, Patterns
from imgnorm.sources.source import Ignored, Source, Unit
from imgnorm.tally.skipped import Reason, Skipped, Unreadable


class FolderSource(Source):
    """Every file below `path` whose extension is one of IMG_EXTENSIONS; links are followed.

    If there is none, those of other formats that are read. `patterns` choose among all of them.

    A unit is a run of files, in the order of the walk: folder by folder, each in the order of names.
    """

    kind = "folder"

    def __init__(self, path: str, patterns: Patterns = ALL) -> None:
        self.path = path
        self._within = os.path.join(path, "")
        self._patterns = patterns
        self.options = patterns.options
        typed = path.replace(os.sep, "/")
        self.ref = typed.removeprefix("./").rstrip("/") or typed

    def units(self) -> Iterator[Unit | Skipped | Ignored]:
        walk = _Walk(self.path, self._patterns)
        for names in runs_of(walk.names()):
            yield Unit(names[0], names)
        yield from walk.skipped
        yield Ignored(walk.ignored)

    def hint_if_empty(self) -> str:
        import glob

        within = f"{glob.escape(self.path)}/*"
        if glob.glob(f"{within}.npy"):
            return (
                "it has arrays: if each holds one image or many, name them as "
                f"'{as_text(self.ref)}/*.npy'"
            )
        for suffix in (".tar", ".tar.gz", ".tgz", ".zip"):
            if glob.glob(within + suffix):
                return f"it has archives: name them as '{as_text(self.ref)}/*{suffix}'"
        for _, _, files in os.walk(self.path):
            for file in sorted(files):
                if way := way_to_read(file):
                    return f"{as_text(file)} {way}"
        return f"looked for {' '.join(IMG_EXTENSIONS)}; for other names, write them to a file and use --list"

    def class_of(self, name: str) -> str | None:
        folder, slash, _ = name.partition("/")
        return folder if slash else None

    def read(self, name: str) -> bytes:
        return read_file(self._within + _native(name))


class _Walk:
    """One walk, without recursion: any depth is fine, no directory is visited twice, no error is dropped."""

    def __init__(self, root: str, patterns: Patterns) -> None:
        self.root = root
        self._patterns = patterns
        self._instead = InPlaceOfImages()
        self.skipped: list[Skipped] = []
        self.ignored: Counter[str] = Counter()
        self.seen: dict[tuple[int, int], str] = {}
        # Real folders come before links to them, so that an image's name is its real path.
        self.folders: deque[str] = deque([""])
        self.links: deque[str] = deque()

    def names(self) -> Iterator[str]:
        """The images; afterwards, `skipped` and `ignored` have all other entries."""
        while self.folders or self.links:
            yield from self._visit(self.folders.popleft() if self.folders else self.links.popleft())
        yield from (name for name, _ in self._instead.held)

    def _visit(self, folder: str) -> list[str]:
        """The images that lie in a folder itself."""
        path = self._path(folder)
        try:
            status = os.stat(path)
            if self._visited_before(folder, (status.st_dev, status.st_ino)):
                return []
            with os.scandir(path) as entries:
                found = sorted(entries, key=attrgetter("name"))
        except OSError as error:
            self._skip(f"{folder or '.'}/", unreadable(error))
            return []
        names = []
        for entry in found:
            name = f"{folder}/{entry.name}" if folder else entry.name
            try:
                if self._is_image(entry, name):
                    names.append(name)
            except OSError as error:  # some file systems read an entry's type only now
                self._skip(name, unreadable(error))
        return names

    def _visited_before(self, folder: str, identity: tuple[int, int]) -> bool:
        if identity == (0, 0):  # a file system without inodes
            return False
        first = self.seen.setdefault(identity, folder)
        if first == folder:
            return False
        if not first or folder.startswith(first + "/"):
            self._skip(folder + "/", Unreadable(Reason.SYMLINK_LOOP, "a link to a folder above it"))
        else:
            self.ignored["folder-linked-twice"] += 1
        return True

    def _is_image(self, entry: os.DirEntry[str], name: str) -> bool:
        """Whether an entry is a file to be measured; if not, it is put where it belongs."""
        rule = rule_against(entry.name)
        against = rule_against_file(name, self._patterns)
        if rule is None and against is None and entry.is_file(follow_symlinks=False):
            if self._instead.none_yet:
                self._instead.note_image(self.ignored)
            return True
        if rule is not None:
            self.ignored[rule] += 1
        elif entry.is_symlink():
            return self._links_to_image(name, against)
        elif entry.is_dir(follow_symlinks=False):
            self.folders.append(name)
        elif against is not None:
            self._ignore(against, name)
        else:
            self._skip(name, Unreadable(Reason.NOT_A_REGULAR_FILE, "not a regular file"))
        return False

    def _links_to_image(self, name: str, against: str | None) -> bool:
        """
        Args:
            against: the rule by which a file of this name is ignored.
        """
        try:
            mode = os.stat(self._path(name)).st_mode
        except OSError as error:
            if against is not None and error.errno != errno.ELOOP:
                self.ignored[against] += 1
            elif error.errno in (errno.ENOENT, errno.ENOTDIR):
                self._skip(name, Unreadable(Reason.DANGLING_LINK, "a link to nothing"))
            else:
                self._skip(name, unreadable(error))
            return False
        if stat.S_ISDIR(mode):
            self.links.append(name)
        elif against is not None:
            self._ignore(against, name)
        elif stat.S_ISREG(mode):
            self._instead.note_image(self.ignored)
            return True
        else:
            fault = Unreadable(Reason.NOT_A_REGULAR_FILE, "a link to something that is not a file")
            self._skip(name, fault)
        return False

    def _ignore(self, rule: str, name: str) -> None:
        if not self._instead.holds(rule, name):
            self.ignored[rule] += 1

    def _skip(self, name: str, fault: Unreadable) -> None:
        self.skipped.append(fault.skipped(name))

    def _path(self, name: str) -> str:
        return os.path.join(self.root, _native(name)) if name else self.root


def _native(name: str) -> str:
    return name if os.sep == "/" else name.replace("/", os.sep)
