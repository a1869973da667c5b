"""Benchmarks that need nobody's data still run; what they measure is not looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import Begin

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("search_quality.py", ["--samplers", "screened-nsgaii", "--n-trials", "50"], "nsgaii"),
        ("search_quality.py", ["--table"], "autoformer-base, sampler seed 0"),
        ("search_overhead.py", ["--n-trials", "20"], "journal"),
        ("sampler_functions.py", ["--seeds", "1", "--problems", "mixed, 16"], "mixed"),
        (
            "operators.py",
            ["--spaces", "autoformer-tiny", "--batches", "1", "--candidates", "2"],
            "padding",
        ),
        (
            "paper_search.py",
            [
                *("--cases", "tiny, 5 to 7 M", "--supernets", "0", "--seeds", "0"),
                *("--random", "10", "--n-trials", "20"),
            ],
            "tf-tas-tiny: 6.20 m",
        ),
        ("cuda", ["--device", "cpu", "--quick", "--only", "speed"], "recorded / of own shapes"),
    ],
    ids=["search", "table", "overhead", "functions", "operators", "paper", "cuda"],
)
def test_it_runs(begin: Begin, tmp_path: Path, name: str, arguments: list[str], said: str) -> None:
    # Results of the real ones are not added to.
    out = ["--out", "out.json"] if "--table" not in arguments else []
    done = begin(BENCHMARKS / name, tmp_path, *arguments, *out).end()
    assert done.returncode == 0, done.stderr
    assert said in done.stdout.lower()
