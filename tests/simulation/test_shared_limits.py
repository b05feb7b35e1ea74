"""Thousands of made-up runs: what is promised holds in each of them."""

from __future__ import annotations

import os

import pytest

from tests.simulation.scenarios import play

SEEDS = 2000
OTHER_MODES = 200
AT_A_TIME = 100


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, AT_A_TIME))
def test_the_promises_hold(first):
    for seed in range(first, first + AT_A_TIME):
        play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "open"])
def test_nodes_converge_in_every_failure_mode(mode):
    for seed in range(OTHER_MODES):
        play(seed, mode)


@pytest.mark.skipif("HEADGATE_SEED" not in os.environ, reason="replays one seed: HEADGATE_SEED=...")
def test_replay():
    play(int(os.environ["HEADGATE_SEED"]), os.environ.get("HEADGATE_FAILURE_MODE", "closed"))
