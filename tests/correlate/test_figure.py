"""What a figure shows is prepared without drawing; what is drawn holds it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tables import draw

from tftas_optuna import AutoFormerSpace, TftasError, UnavailableError
from tftas_optuna.correlate import Correlations
from tftas_optuna.correlate.comparing import Ranked, compare_all
from tftas_optuna.correlate.figure import (
    check_plot,
    plot_correlations,
    points_of,
    taus_of,
    write_plot,
)
from tftas_optuna.correlate.table import TrainedTable


@pytest.fixture(scope="module")
def found(small_space: AutoFormerSpace) -> Correlations:
    archs = draw(small_space, 12)
    n_params = [float(small_space.costs(arch).n_params) for arch in archs]
    table = TrainedTable(
        "t.csv",
        small_space,
        tuple(archs),
        {
            "a_acc": tuple(float(i * 7 % 12) for i in range(12)),
            "b_acc": (None, *(float(i) for i in range(11))),
        },
    )
    metrics = [Ranked("n_params", n_params), Ranked("depth", [a.depth for a in archs])]
    return compare_all(table, metrics, 2, lambda *_: None)


def test_taus_from_the_first_metric_at_the_top(found: Correlations) -> None:
    taus = taus_of(found, "a_acc")
    rows = found.of("a_acc")
    assert taus.metrics == ["depth", "n_params"]
    assert taus.bands[0] == "all" and len(taus.bands) == 3
    assert taus.cells == [[row.tau.value, *row.taus] for row in (rows[1], rows[0])]


def test_points_of_all_that_were_trained(found: Correlations) -> None:
    first, _ = points_of(found, "b_acc")
    assert first.metric == "n_params" and len(first.x) == len(first.y) == 11
    assert first.bands == [1] * 6 + [2] * 5 and first.x == sorted(first.x)
    of = dict(zip(found.values["n_params"], found.accuracies["b_acc"], strict=True))
    assert [of[x] for x in first.x] == first.y
    assert first.labels[0] in [arch.summary() for arch in found.architectures]


def test_the_figure_shows_the_first_accuracy_and_offers_the_others(found: Correlations) -> None:
    figure = plot_correlations(found)
    assert [trace.visible for trace in figure.data] == [True] * 3 + [False] * 3
    heat, params, depth = figure.data[:3]
    assert [list(row) for row in heat.z] == taus_of(found, "a_acc").cells
    assert list(params.y) == points_of(found, "a_acc")[0].y
    assert params.xaxis != depth.xaxis != heat.xaxis
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["a_acc", "b_acc"]
    assert buttons[1].args[0]["visible"] == [False] * 3 + [True] * 3
    assert "a_acc of 12 architectures in small" in figure.layout.title.text
    assert "b_acc of 11" in buttons[1].args[1]["title.text"]


def test_names_of_files_and_columns_are_no_markup(small_space: AutoFormerSpace) -> None:
    archs = draw(small_space, 12)
    accuracies = {name: tuple(map(float, range(12))) for name in ("<b>x</b> acc", "b_acc")}
    table = TrainedTable("<i>t</i>.csv", small_space, tuple(archs), accuracies)
    metrics = [
        Ranked("n_params", [float(small_space.costs(arch).n_params) for arch in archs]),
        Ranked("<a href='x'>%{y}", [float(arch.depth) for arch in archs]),
    ]
    figure = plot_correlations(compare_all(table, metrics, 2, lambda *_: None))
    assert "&lt;i&gt;t" in figure.layout.title.text and "<i>" not in figure.layout.title.text
    names = [figure.data[0].y[0], figure.layout.annotations[-1].text, figure.data[2].hovertemplate]
    assert all("&lt;a href" in name and "<a" not in name for name in names)
    assert "%{y}" not in figure.data[2].hovertemplate.replace("%{y:.2f}", "")
    labels = [button.label for button in figure.layout.updatemenus[0].buttons]
    assert labels == ["&lt;b&gt;x&lt;/b&gt; acc", "b_acc"]


def test_html_needs_no_network(found: Correlations, tmp_path: Path) -> None:
    path = tmp_path / "worth.html"
    write_plot(found, path)
    write_plot(found, path)
    text = path.read_text()
    assert "Plotly.newPlot" in text and "a_acc" in text and len(text) > 1_000_000
    assert '<script src="http' not in text and "script charset" not in text
    assert [entry.name for entry in tmp_path.iterdir()] == ["worth.html"]


def test_a_foreign_file_is_not_drawn_over(found: Correlations, tmp_path: Path) -> None:
    path = tmp_path / "worth.html"
    path.write_text("<html>somebody's</html>")
    with pytest.raises(UnavailableError, match=r"worth.html is in the way: tftas-optuna has not"):
        write_plot(found, path)
    assert path.read_text() == "<html>somebody's</html>"


def test_what_cannot_be_drawn_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(TftasError, match="allowed are names that end in .html, .png, .svg, .pdf"):
        check_plot(tmp_path / "worth.txt")
    with pytest.raises(UnavailableError, match="no file in a directory that exists"):
        check_plot(tmp_path / "none" / "worth.html")


def test_an_image_without_kaleido_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    line = r"pip install 'tftas-optuna\[png\]', or draw .html"
    with pytest.raises(UnavailableError, match=line):
        check_plot(tmp_path / "worth.png")
    check_plot(tmp_path / "worth.html")
