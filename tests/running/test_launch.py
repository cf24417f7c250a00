"""Every scenario's plain command starts on a small machine, and what was chosen for it stays."""

import pytest

from qmix_jax.envs.smax.scenarios import SCENARIOS
from qmix_jax.running import launch
from qmix_jax.running.hosts import Hosts
from qmix_jax.running.memory import free
from qmix_jax.settings.cells import lanes
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container

LAPTOP = 12 * 2**30
"""What is free on a laptop with 16 GiB beside a desktop and a browser."""


def prepared(*arguments: str) -> launch.Prepared:
    config = parse(to_container(compose_config(arguments)))
    seeds = list(range(config.num_seeds))
    return launch.prepare(config, [], lanes(0, seeds), Hosts(len(seeds)))


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_the_plain_command_fits_on_a_laptop(monkeypatch, scenario):
    monkeypatch.setattr(free, "_free_in_machine", lambda: LAPTOP)
    ready = prepared("env=smax", f"env.scenario={scenario}")
    assert ready.plan.total <= LAPTOP
    assert ready.plan.capacity == ready.waves.algorithm.sizes.capacity
    assert ready.plan.capacity == 1000 or scenario == "bane_vs_bane"
    assert ready.plan.capacity >= 300
