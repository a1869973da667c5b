"""Splits images into training and evaluation data: two folders, or two parts of one."""

from __future__ import annotations

import copy
import hashlib
import os
import tarfile
from typing import TYPE_CHECKING, Any, NamedTuple

from timm.data.readers import create_reader

from tftas_optuna.errors import UnavailableError, first_line
from tftas_optuna.image_folders import read_folder, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_TRAIN_NAMES = ("train", "training")
_VAL_NAMES = ("val", "valid", "validation", "test")
_SHOWN = 8
# Number of files that are read to identify a data set, and bytes of each.
_READ = 256
_BEGINNING = 1 << 16


class Split(NamedTuple):
    """Images that are trained on, or evaluated on.

    Attributes:
        name: Name of the folder.
        reader: timm's reader.
    """

    name: str
    reader: Any


class File(NamedTuple):
    """An image's file.

    Attributes:
        name: Its path, relative to the folder of its split.
        size: Its size in bytes; 0 if it is missing.
        place: Its device and inode, the same for all links to it; None in an archive.
        path: Its path; None in an archive, and if it is missing.
    """

    name: str
    size: int
    place: tuple[int, int] | None = None
    path: str | None = None


def find_splits(root: Path, train_split: str, val_split: str | None) -> tuple[Split, Split]:
    """Open the two folders of images, or archives, of a directory.

    Args:
        root: The directory.
        train_split: Folder to train on.
        val_split: Folder to evaluate on; None for the first that exists of ``val``, ``valid``,
            ``validation`` and ``test``.

    Raises:
        UnavailableError: A folder is missing or holds no images, or one lies in the other.
    """
    train = _train_name(root, train_split)
    if train is None:
        raise UnavailableError(
            f"{_no_folder(root, train_split)}; give train/CLASS/IMAGE and val/CLASS/IMAGE, or, to"
            " evaluate on a tenth of each class of a folder of classes, --val-fraction 0.1"
        )
    val = next((n for n in _VAL_NAMES if (root / n).is_dir()), None) if val_split is None else None
    if val_split is not None and (root / val_split).exists():
        val = val_split
    if val is None:
        raise UnavailableError(
            f"{_no_folder(root, val_split or ' or '.join(_VAL_NAMES))}; name one to evaluate on"
            f" with --val-split, or give --val-fraction 0.1 to evaluate on a tenth of {train}"
        )
    inner, outer = (root / train).resolve(), (root / val).resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UnavailableError(
            f"training on {root / train} and evaluation on {root / val} would use the same images;"
            f" give two folders as --train-split and --val-split; {_list_folders(root)}"
        )
    return Split(train, _read(root / train)), Split(val, _read(root / val))


def open_split(root: Path, name: str | None) -> Split:
    """Open one folder of images, or archive, of a directory.

    Args:
        root: The directory.
        name: The folder; ``"."`` for the directory itself, None for the first that exists of
            ``val``, ``valid``, ``validation`` and ``test``.

    Raises:
        UnavailableError: It is missing, or holds no images.
    """
    if not root.is_dir():
        raise UnavailableError(
            f"data directory {root} does not exist; give one with {name or 'val'}/CLASS/IMAGE"
        )
    names = _VAL_NAMES if name is None else (name,)
    chosen = next((n for n in names if (root / n).exists()), None)
    if chosen is None:
        raise UnavailableError(
            f"{_no_folder(root, ' or '.join(names))}; name one with --split (. if {root} holds the"
            " folders of classes itself)"
        )
    try:
        return Split(chosen, _read(root / chosen))
    except (OSError, tarfile.TarError) as error:
        raise UnavailableError(
            f"images in {root / chosen} cannot be opened: {first_line(error)}"
        ) from error


def open_pictures(folder: Path) -> Any:
    """Open all images of a folder, with or without subfolders, as timm's reader.

    Raises:
        UnavailableError: It is missing, or holds no images.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise UnavailableError(f"{folder} {what}; give a folder of images")
    return read_folder(folder, labelled=False)


def divide(root: Path, train_split: str, fraction: float, seed: int) -> tuple[Split, Split]:
    """Hold back a fraction of the images of every class to evaluate on.

    Images are drawn by their names alone, so an image stays in its part when others are added or
    the folder moves, and on every machine.

    Args:
        root: A folder of classes, or a directory with one.
        train_split: Its name in the directory.
        fraction: Fraction to hold back; at least one image of each class.
        seed: Seed of the draw.

    Raises:
        UnavailableError: There is no such folder, or a class of one image.
    """
    train = _train_name(root, train_split)
    if train is None:
        if train_split not in _TRAIN_NAMES or any((root / n).is_dir() for n in _VAL_NAMES):
            raise UnavailableError(
                f"{_no_folder(root, train_split)}; name the one to divide as --train-split"
            )
        train = "."
    reader = read_folder(root / train)
    by_class: dict[int, list[tuple[str, int]]] = {}
    for sample in reader.samples:
        by_class.setdefault(sample[1], []).append(sample)
    held_back: set[str] = set()
    for label, samples in by_class.items():
        if len(samples) < 2:
            raise UnavailableError(
                f"{root / train} has one image of class {list(reader.class_to_idx)[label]!r}, and"
                " --val-fraction needs two: one to train on, one to evaluate on"
            )
        count = min(max(1, round(fraction * len(samples))), len(samples) - 1)
        lots = {path: _lot(within(path, reader.root), seed) for path, _ in samples}
        held_back.update(sorted(lots, key=lots.__getitem__)[:count])
    parts = []
    for is_val in (False, True):
        part = copy.copy(reader)
        part.samples = [sample for sample in reader.samples if (sample[0] in held_back) == is_val]
        parts.append(Split(train, part))
    return parts[0], parts[1]


def training_folder(root: Path) -> Path:
    """Return the folder to train on: ``train``, or the directory itself if it holds the classes.

    Raises:
        UnavailableError: The directory has a folder to evaluate on, and none to train on.
    """
    train = _train_name(root, _TRAIN_NAMES[0])
    if train is None and any((root / name).is_dir() for name in _VAL_NAMES):
        raise UnavailableError(f"{_no_folder(root, _TRAIN_NAMES[0])}; give train/CLASS/IMAGE")
    return root if train is None else root / train


def list_files(data: Any, root: Path | None = None) -> list[File] | None:
    """List the files of a data set of images.

    Args:
        data: A reader of timm's, or a data set of torchvision's.
        root: Folder that names are relative to; None for the reader's own.

    Returns:
        The files, sorted by name; None if the data set does not list them.
    """
    samples = getattr(data, "samples", None)
    if samples is None:
        return None
    files = []
    for path, *_ in samples:
        # Archives list their members.
        if not isinstance(path, str):
            files.append(File(path.path, path.size))
            continue
        name = within(path, str(root or data.root))
        try:
            stat = os.stat(path)
        except OSError:
            files.append(File(name, 0))
        else:
            files.append(File(name, stat.st_size, (stat.st_dev, stat.st_ino), path))
    return sorted(files)


def check_apart(train: Sequence[File], val: Sequence[File]) -> None:
    """Check that no file is both trained on and evaluated on.

    Raises:
        UnavailableError: A file is in both, under any name, or all are copies; names one.
    """
    trained = {file.place: file.name for file in train if file.place is not None}
    for file in val:
        if file.place in trained:
            raise UnavailableError(
                f"image {file.name!r} would be evaluated on and is {trained[file.place]!r} of the"
                " images to train on, the same file; take it out of one of them"
            )
    names = {file[:2]: file for file in train}
    copies = [names[file[:2]] for file in val if file[:2] in names and file.path is not None]
    if copies and len(copies) == len(val) and contents(copies) == contents(val):
        raise UnavailableError(
            f"all {len(val)} images to evaluate on are among those to train on, such as"
            f" {val[0].name!r}; give others"
        )


def contents(files: Sequence[File]) -> list[Any]:
    """Describe files by their names and sizes, and some of them by their contents.

    Uncompressed images have equal sizes, and reading all of a large data set takes too long: the
    beginnings of a few hundred evenly spaced files are read.
    """
    samples = []
    for file in files[:: -(-len(files) // _READ) or 1]:
        if file.path is not None:
            with open(file.path, "rb") as stream:
                samples.append(hashlib.sha256(stream.read(_BEGINNING)).hexdigest())
    return [*((file.name, file.size) for file in files), *samples]


def digest(parts: Iterable[Any]) -> str:
    """Return a digest of plain values."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(repr(part).encode("utf-8", "surrogateescape") + b"\n")
    return sha.hexdigest()


def _train_name(root: Path, train_split: str) -> str | None:
    names = _TRAIN_NAMES if train_split == _TRAIN_NAMES[0] else (train_split,)
    return next((name for name in names if (root / name).exists()), None)


def _read(path: Path) -> Any:
    if path.is_file() and path.suffix == ".tar":
        return create_reader("", root=str(path))
    return read_folder(path)


def _lot(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()


def _no_folder(root: Path, name: str) -> str:
    return f"{root} has no folder {name}; {_list_folders(root)}"


def _list_folders(root: Path) -> str:
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"its folders: {', '.join(names[:_SHOWN]) or 'none'}{more}"
