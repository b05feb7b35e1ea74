"""Experiment 8, shortened."""

from __future__ import annotations

from random import Random

import pytest

from headgate.lab.experiments import exp08_half_open
from headgate.lab.live import breakers
from headgate.lab.recovery import GUARDS, HERD, OURS, Recovery, Scene, run_scene
from headgate.lab.report import ignore_progress


@pytest.mark.slow
def test_a_short_run_has_its_table_its_lines_and_its_claims():
    report = exp08_half_open.virtual(1, ignore_progress, seconds=60.0, callers=80)
    assert (report.number, report.mode) == (8, "virtual")
    assert all(len(row) == len(report.columns) for row in report.rows)
    assert all(len(one.x) == len(one.y) > 0 for one in report.series)
    assert report.met


@pytest.mark.slow
@pytest.mark.parametrize("guard", GUARDS)
def test_the_same_seed_gives_the_same_run(guard):
    scene = Scene(processes=2, callers=20, seconds=30.0)
    one, two, other = (run_scene(scene, guard, Random(seed)) for seed in (1, 1, 2))
    assert (one.good, one.waves, one.failed) == (two.good, two.waves, two.failed)
    assert (one.good, one.waves) != (other.good, other.waves) or not one.good


@pytest.mark.slow
def test_the_herd_is_let_in_whole_and_ours_is_not():
    scene = Scene(seconds=30.0)
    assert run_scene(scene, HERD, Random(1)).widest >= scene.callers // 2
    assert run_scene(scene, OURS, Random(1)).widest <= 3


def test_never_recovered_is_said_so():
    assert Recovery().recovered_s(Scene()) == float("inf")
    assert Recovery().widest == 0


@pytest.mark.slow
@pytest.mark.needs_redis
def test_live_three_get_in_of_two_processes():
    with (
        breakers.store_server() as url,
        breakers.workers(["threads", "tasks"], url, 20) as crew,
    ):
        assert 1 <= breakers.burst(crew) <= 3
