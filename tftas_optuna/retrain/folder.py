"""The directory of one training: its recipe, metrics, checkpoints and result."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tftas_optuna._writing import json_text, replacing
from tftas_optuna.architecture import read_yaml
from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tftas_optuna.retrain.recipe import Recipe

RECIPE, ABOUT, RESULT = "recipe.yaml", "run.yaml", "result.json"
METRICS, STEPS, LEARNING_RATES = "metrics.csv", "steps.csv", "lr.csv"
LAST, BEST = "last.pth.tar", "model_best.pth.tar"

_COMPARED = ("network", "weights", "num_classes", "data")


class RunFolder:
    """The files of one training; everything is written to a temporary name and renamed.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def begun(self) -> bool:
        """Whether it holds a training already."""
        return (self.path / ABOUT).is_file()

    def prepare(self, recipe: Recipe, about: dict[str, Any], *, needed_bytes: int) -> None:
        """Create the directory, or check that it holds this same training.

        Args:
            recipe: How the network is trained.
            about: The network, the data and the versions of packages.
            needed_bytes: Size of the checkpoints.

        Raises:
            UnavailableError: Something else is in the way, or the disk is too full.
        """
        with writing(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise UnavailableError(f"{self.path} is in the way: not a directory; give --out")
            if self.begun:
                self._check_same(recipe, about)
            elif self.path.is_dir() and any(self.path.iterdir()):
                raise UnavailableError(
                    f"{self.path} is in the way: it holds other files; give another --out"
                )
            self._check_disk(needed_bytes)
            if not self.begun:
                self.path.mkdir(parents=True, exist_ok=True)
                header = "# The resolved recipe of this training; `--recipe` takes it.\n"
                self._write(RECIPE, header + _yaml(recipe.to_dict()))
                self._write(ABOUT, "# What was trained, on what.\n" + _yaml(about))

    def about(self) -> dict[str, Any]:
        """Return what was trained, on what; empty before it begins."""
        about = read_yaml(self.path / ABOUT) if self.begun else {}
        return about if isinstance(about, dict) else {}

    def result(self) -> dict[str, Any] | None:
        """Return the result of a finished training, None before its end."""
        if not (self.path / RESULT).is_file():
            return None
        result = read_yaml(self.path / RESULT)
        if not isinstance(result, dict):
            raise UnavailableError(f"{self.path / RESULT} is damaged; delete it to finish again")
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Write the result of a finished training."""
        self._write(RESULT, json_text(result, indent=2) + "\n")

    def rows(self, *, before_epoch: int) -> list[dict[str, Any]]:
        """Return the metrics of the epochs before the given one."""
        return [row for row in self._read_csv(METRICS) if row["epoch"] < before_epoch]

    def write_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write the metrics of all epochs so far."""
        self._write(METRICS, csv_text(rows))

    def learning_rates(self) -> list[dict[str, Any]]:
        """Return the steps of the range test; empty before it."""
        return self._read_csv(LEARNING_RATES)

    def write_learning_rates(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write the steps of the range test."""
        self._write(LEARNING_RATES, csv_text(rows))

    def cut_steps(self, *, before_step: int) -> None:
        """Delete the losses of steps that will be repeated."""
        kept = [row for row in self._read_csv(STEPS) if row["step"] < before_step]
        self._write(STEPS, csv_text(kept) if kept else "")

    def add_step(self, row: dict[str, Any]) -> None:
        """Add the loss of a step."""
        with writing(self.path), (self.path / STEPS).open("a", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)

    def _read_csv(self, name: str) -> list[dict[str, Any]]:
        path = self.path / name
        if not path.is_file():
            return []
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return [
                    {key: _parsed(value) for key, value in row.items()}
                    for row in csv.DictReader(file)
                ]
        except (ValueError, TypeError, AttributeError, csv.Error, OSError) as error:
            raise UnavailableError(f"{path} is damaged ({error}); give another --out") from error

    def _write(self, name: str, text: str) -> None:
        with writing(self.path), replacing(self.path / name) as scratch:
            scratch.write_text(text, encoding="utf-8")

    def _check_same(self, recipe: Recipe, about: dict[str, Any]) -> None:
        old_recipe, old_about = read_yaml(self.path / RECIPE), read_yaml(self.path / ABOUT)
        if not isinstance(old_recipe, dict) or not isinstance(old_about, dict):
            raise UnavailableError(f"{self.path} is damaged; give another --out")
        old = {**_flat(old_recipe), **_comparable(old_about, about)}
        new = {**_flat(recipe.to_dict()), **_comparable(about, about)}
        del old["name"], new["name"]
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                raise UnavailableError(
                    f"{self.path} holds a training with {key} {_brief(old.get(key))}, not"
                    f" {_brief(new.get(key))}; use the same to continue it, or give another --out"
                )
        if not _same_images(old_about, about):
            raise UnavailableError(
                f"{self.path} holds a training on other images, those of"
                f" {old_about.get('data_dir')}; give them to continue it, or another --out"
            )

    def _check_disk(self, needed_bytes: int) -> None:
        parent = self.path
        while not parent.exists():
            parent = parent.parent
        held = sum(file.stat().st_size for file in self.path.glob("*.pth.tar"))
        free = shutil.disk_usage(parent).free
        if free + held < needed_bytes:
            raise UnavailableError(
                f"{self.path}: the checkpoints take {needed_bytes / 1e6:,.0f} MB and"
                f" {free / 1e6:,.0f} MB are free; make room or give another --out"
            )


def _comparable(about: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the settings by which two trainings are compared."""
    compared = _flat({key: about.get(key) for key in _COMPARED})
    if compared.pop("data.digest", None) is None and not compared.get("data.dataset"):
        # Release 0.2.0 recorded the requested split, not the folder that it used.
        compared["data.val_split"] = other["data"]["val_split"]
    return compared


def _same_images(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return whether two trainings see the same files; for release 0.2.0, the same directory."""
    digest = (old.get("data") or {}).get("digest")
    if digest is None:
        return bool(old.get("data_dir") == new["data_dir"])
    return bool(digest == new["data"]["digest"])


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of writing files into one line.

    Raises:
        UnavailableError: The disk is full, or the directory cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"{error.filename or path}: cannot be written ({error.strerror or error})"
        ) from error


def _yaml(data: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=99)
    return text


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV; the first one names the columns."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _parsed(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
