"""Progress bars of calls from Python, by tqdm: drawn in notebooks, printed in terminals.

The command line has its own, with rich.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class Bars:
    """Shows how far a call is, by one bar after the other; use it as a context manager.

    Args:
        shown: Whether to show anything.
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._title = ""
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, title: str, done: int, total: int, unit: str, **facts: str) -> None:
        """Show the state of a step; another title begins another bar.

        Args:
            title: Name of the step.
            done: How much is done.
            total: How much there is to do.
            unit: What is counted, in the singular.
            **facts: What to show behind the bar.
        """
        if not self._shown:
            return
        if self._bar is None or title != self._title:
            self.__exit__()
            from tqdm.auto import tqdm

            self._title = title
            self._bar = tqdm(desc=title, initial=done, total=total, unit=f" {unit}")
        self._bar.set_postfix(facts, refresh=False)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.refresh()
