"""What was lost of counted images: kinds by names, and sums that do not depend on the order."""

from __future__ import annotations

import itertools

from imgnorm.tally.notes import NoteCounter, Noted, kinds_of_folder
from imgnorm.tally.tally import Tally, total_of


def test_notes_add_up_in_any_order():
    parts = [
        Tally(notes={"alpha": Noted(2, ("c", "d"))}),
        Tally(notes={"alpha": Noted(3, ("a", "b", "e")), "frames": Noted(1, ("z",))}),
        Tally(notes={"frames": Noted(4, ("m", "n", "o"))}),
    ]
    counter = NoteCounter()
    for kind, name in [("alpha", n) for n in "dbcae"] + [("frames", n) for n in "zonm"]:
        counter.add(kind, name)
    counter.add("frames", "q", 1)

    sums = [total_of(order).notes for order in itertools.permutations(parts)]
    sums.append((parts[0] + (parts[1] + parts[2])).notes)

    assert [{"alpha": Noted(5, ("a", "b", "c")), "frames": Noted(5, ("m", "n", "o"))}] * 7 == sums
    assert sums[0] == counter.notes()


def test_folders_are_known_by_the_words_of_their_names():
    told = {
        "train/cats": ("split train",),
        "images/val2017": ("split val",),
        "train-000001.tar/a": ("split train",),
        "test_images": ("split test",),
        "SegmentationClass": ("mask",),
        "train_masks": ("mask",),
        "data/train/labels": ("split train", "mask"),
        "gtFine/train/x": ("mask", "split train"),
        "2021/Thumbs": ("thumbnail",),
        "trains/contest": (),
        "test tubes": (),  # a class, more likely
        "JPEGImages": (),
        "train_test": (),
        "": (),
    }

    assert told == {folder: kinds_of_folder(folder) for folder in told}
