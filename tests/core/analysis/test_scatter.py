"""Points of other metrics against the norm: the nearest witness of each sample, thinned, norms left out."""

from __future__ import annotations

import math

from charpy.analysis.document import ScatterPart
from charpy.analysis.scatter import POINTS, scatter_parts
from charpy.records import MeasuredWitness
from charpy.reports.scatter import SHAPES, mark_of, scatter_view

UNITS = [{"norm": "linf", "step": 0, "attack": "a"}, {"norm": "linf", "step": 1, "attack": "b"}]


def witness(sample, distance, value, step=0, norm="linf", th=10, **more):
    return MeasuredWitness(norm, step, th, sample, distance, {"ssim": value, "l2": 1.0, **more})


def test_of_each_sample_the_nearest_witness_of_the_attack_counts():
    measured = [witness(3, 8.0, 0.5), witness(3, 4.0, 0.7, th=5), witness(1, 9.0, 0.2), witness(3, 2.0, 0.9, step=1)]
    first, second = scatter_parts(UNITS, measured)
    assert (first.metric, first.norm, first.attack, first.points) == ("ssim", "linf", "a", ((9.0, 0.2), (4.0, 0.7)))
    assert (second.attack, second.points) == ("b", ((2.0, 0.9),))


def test_norms_values_that_are_not_finite_and_threats_without_a_ball_are_left_out():
    units = [*UNITS, {"norm": "unrestricted", "step": 0, "attack": "c"}]
    measured = [witness(0, 1.0, math.inf), witness(1, 1.0, math.nan), witness(2, 1.0, 0.4, norm="unrestricted")]
    assert scatter_parts(units, measured) == ()
    assert scatter_parts(UNITS, []) == ()


def test_many_points_are_thinned_evenly_and_keep_their_ends():
    (part,) = scatter_parts(UNITS, [witness(sample, 1.0 + sample, 0.5) for sample in range(1000)])
    assert len(part.points) == POINTS
    assert (part.points[0][0], part.points[-1][0]) == (1.0, 1000.0)
    gaps = {round(after[0] - before[0]) for before, after in zip(part.points, part.points[1:], strict=False)}
    assert gaps == {4, 5}


def test_a_chart_a_metric_and_norm_with_a_mark_an_attack():
    parts = [
        ScatterPart(metric="ssim", norm=norm, step=step, attack=name, points=((1.0, 0.5), (2.0, 0.25)))
        for norm in ("linf", "l2")
        for step, name in enumerate(("<b>", "b"))
    ]
    charts = scatter_view(parts, "m1")
    assert [chart.title for chart in charts] == ["ssim against Linf (1/255 steps)", "ssim against L2 (1/255 steps)"]
    for chart in charts:
        assert [mark.name for mark in chart.marks] == ["<b>", "b"]
        assert chart.chart.startswith("<svg")
        assert "<b>" not in chart.chart
    assert scatter_view([parts[0].model_copy(update={"points": ()})], "m1")[0].chart == ""


def test_marks_repeat_only_after_64_groups():
    marks = [mark_of(group) for group in range(64)]
    assert len(set(marks)) == 64
    assert {shape for _, shape in marks} == set(SHAPES)
