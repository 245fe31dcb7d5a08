"""Costs in clouds: sizes from capacity, parts add up, the page is the command's."""

import json
import re

import pytest

from benchmarks.cloud_costs import (
    DOCUMENT,
    PRICES,
    SIZES,
    Size,
    measured_capacity,
    monthly,
    page,
)

CLOUD = {
    "cluster": {"per_hour": 1.0},
    "nodes": {"per_hour": 2.0},
    "PostgreSQL": {"per_hour": 3.0},
    "Redis": {"per_hour": 4.0},
    "vectors": {"per_hour": 5.0},
    "disk": {"per_gb": 0.1},
    "objects": {"per_gb": 0.01},
    "balancer": {"per_hour": 6.0},
    "traffic": {"per_gb": 0.5, "free_gb": 100},
}


@pytest.mark.parametrize(
    ("per_minute", "replicas"), [(60, 2), (3_600, 2), (3_601, 3), (36_000, 20)]
)
def test_replicas_are_used_to_sixty_per_cent(per_minute, replicas):
    assert Size("any", per_minute, 0, 1).replicas(50.0) == replicas


def test_each_part_is_counted():
    size = Size("any", per_minute=7_200, faces=1_000_000, vectors=2)
    parts = monthly(CLOUD, size, 100.0, 10.0)
    assert parts == pytest.approx(
        {
            "cluster": 10.0,
            # two replicas and a node for the rest
            "nodes": 60.0,
            "PostgreSQL": 35.0,
            "Redis": 40.0,
            "vectors": 2 * (50.0 + 0.1 * 7.0),
            "objects": 0.135,
            "balancer": 60.0,
            # 60 a second on average, 4 kB each
            "traffic": (60 * 730 * 3600 * 4e-6 - 100) * 0.5,
        }
    )


def test_traffic_within_what_is_free_costs_nothing():
    assert monthly(CLOUD, Size("any", 60, 0, 1), 50.0, 1.0)["traffic"] == 0


def test_the_page_is_what_the_command_writes():
    prices = json.loads(PRICES.read_text())
    text = DOCUMENT.read_text()
    assert text == page(prices, measured_capacity()), "run python -m benchmarks.cloud_costs"
    assert prices["stated_on"] in text
    assert "check them before use" in text
    for size in SIZES:
        assert len(re.findall(rf"^\| {size.name} \| [A-Z]", text, re.MULTILINE)) == 4
