"""Patterns of signs over the images of several batches, and intervals of layers."""

from __future__ import annotations

import pytest
import textbook_menu
import torch
from menu_cases import SIZES, SPACES, textbook

from tftas_optuna import Scorer, TftasError

SPACE = SPACES["shared"]


@pytest.mark.parametrize("n_images", [2, 9, 24])
def test_patterns_are_counted_exactly_for_any_number_of_images(n_images: int) -> None:
    """Also for more than fit into one integer."""
    scorer = Scorer(SPACE, indicator="swap", n_images=n_images, dtype=torch.float64, device="cpu")
    arch = SPACE.largest()
    assert len(scorer.images) == 4 * n_images
    assert scorer(arch) == textbook(scorer, arch)


def test_few_images_show_all_patterns_in_any_network() -> None:
    space = SPACES["relative"]
    scorer = Scorer(space, indicator="swap", n_images=2, device="cpu")
    assert scorer(space.smallest()) == scorer(space.largest()) == 2**8


@pytest.mark.parametrize(("begin", "end"), [(0.0, 0.5), (0.3, 0.6), (0.9, 1.0)])
@pytest.mark.parametrize("space", SPACES)
def test_an_interval_is_that_of_the_textbook(space: str, begin: float, end: float) -> None:
    scorer = Scorer(
        SPACES[space], indicator="l_swag", begin=begin, end=end, dtype=torch.float64, **SIZES
    )
    arch = SPACES[space].largest()
    network, images, labels = scorer.subnet(arch), scorer.images, scorer.labels
    expected = textbook_menu.l_swag(network, images, labels, begin, end)
    assert scorer(arch) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("begin", "end"), [(-0.1, 1.0), (0.5, 0.5), (0.0, 1.5)])
def test_an_interval_lies_within_the_network(begin: float, end: float) -> None:
    with pytest.raises(TftasError, match="give shares with 0 <= begin < end <= 1"):
        Scorer(SPACE, indicator="l_swag", begin=begin, end=end)
