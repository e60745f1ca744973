"""A folder of images, searched recursively, as torchvision's ImageFolder sees it."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, deque
from dataclasses import dataclass
from operator import attrgetter

from imgnorm.sources.files import looks_like_an_image, read_file, rule_against, unreadable
from imgnorm.sources.names import name_bytes
from imgnorm.sources.source import Listing
from imgnorm.tally.skipped import Reason, Skipped, Unreadable


@dataclass(frozen=True)
class FolderSource:
    """Every file below `path` whose suffix is one of IMG_EXTENSIONS; links are followed."""

    path: str
    kind = "folder"

    @property
    def ref(self) -> str:
        typed = self.path.replace(os.sep, "/")
        return typed.removeprefix("./").rstrip("/") or typed

    def listing(self) -> Listing:
        return _Walk(self.path).listing()

    def class_of(self, name: str) -> str | None:
        folder, slash, _ = name.partition("/")
        return folder if slash else None

    def read(self, name: str) -> bytes:
        return read_file(os.path.join(self.path, _native(name)))


class _Walk:
    """One walk, without recursion: any depth is fine, no directory is visited twice, no error is dropped."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.names: list[str] = []
        self.skipped: list[Skipped] = []
        self.ignored: Counter[str] = Counter()
        self.seen: dict[tuple[int, int], str] = {}
        # Real folders come before links to them, so that an image's name is its real path.
        self.folders: deque[str] = deque([""])
        self.links: deque[str] = deque()

    def listing(self) -> Listing:
        while self.folders or self.links:
            self._visit(self.folders.popleft() if self.folders else self.links.popleft())
        self.names.sort(key=name_bytes)
        self.skipped.sort(key=lambda s: name_bytes(s.name))
        return Listing(self.names, tuple(self.skipped), dict(sorted(self.ignored.items())))

    def _visit(self, folder: str) -> None:
        path = self._path(folder)
        try:
            status = os.stat(path)
            if self._visited_before(folder, (status.st_dev, status.st_ino)):
                return
            with os.scandir(path) as entries:
                found = sorted(entries, key=attrgetter("name"))
        except OSError as error:
            self._skip(f"{folder or '.'}/", unreadable(error))
            return
        for entry in found:
            name = f"{folder}/{entry.name}" if folder else entry.name
            try:
                self._take(entry, name)
            except OSError as error:  # some file systems read an entry's type only now
                self._skip(name, unreadable(error))

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

    def _take(self, entry: os.DirEntry[str], name: str) -> None:
        rule = rule_against(entry.name)
        image = looks_like_an_image(name)
        if rule is None and image and entry.is_file(follow_symlinks=False):  # the usual case
            self.names.append(name)
        elif rule is not None:
            self.ignored[rule] += 1
        elif entry.is_symlink():
            self._take_link(name)
        elif entry.is_dir(follow_symlinks=False):
            self.folders.append(name)
        elif not image:
            self.ignored["suffix"] += 1
        else:
            self._skip(name, Unreadable(Reason.NOT_A_REGULAR_FILE, "not a regular file"))

    def _take_link(self, name: str) -> None:
        try:
            mode = os.stat(self._path(name)).st_mode
        except OSError as error:
            if not looks_like_an_image(name) and error.errno != errno.ELOOP:
                self.ignored["suffix"] += 1
            elif error.errno in (errno.ENOENT, errno.ENOTDIR):
                self._skip(name, Unreadable(Reason.DANGLING_LINK, "a link to nothing"))
            else:
                self._skip(name, unreadable(error))
            return
        if stat.S_ISDIR(mode):
            self.links.append(name)
        elif not looks_like_an_image(name):
            self.ignored["suffix"] += 1
        elif stat.S_ISREG(mode):
            self.names.append(name)
        else:
            fault = Unreadable(Reason.NOT_A_REGULAR_FILE, "a link to something that is not a file")
            self._skip(name, fault)

    def _skip(self, name: str, fault: Unreadable) -> None:
        self.skipped.append(fault.skipped(name))

    def _path(self, name: str) -> str:
        return os.path.join(self.root, _native(name)) if name else self.root


def _native(name: str) -> str:
    return name if os.sep == "/" else name.replace("/", os.sep)
