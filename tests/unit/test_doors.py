"""What the doors count."""

import random

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from gateways.api.doors import Answers
from schemas.units import MICRO


def lines(registry: CollectorRegistry) -> set[str]:
    """As Prometheus reads it, but for when a figure was made."""
    return {line for line in generate_latest(registry).decode().splitlines() if "_created" not in line}


def test_answers_are_counted_as_the_library_s_own_counter_and_histogram_count_them() -> None:
    own, library, rng = CollectorRegistry(), CollectorRegistry(), random.Random(1)
    answers = Answers()
    own.register(answers)
    counter = Counter("api_answers", "Requests answered", ["route", "method", "status"], registry=library)
    histogram = Histogram("api_seconds", "Time to answer", ["route", "method"], registry=library)
    for _ in range(500):
        route, method, status = rng.choice(("/a", "/b")), rng.choice(("GET", "POST")), rng.choice((200, 429))
        spent = rng.choice((0, 5, 25, 1_000, 10_000, 60_000)) * MICRO + rng.choice((-1, 0, 1)) * 500_000
        answers.add(route, method, status, max(0, spent))
        counter.labels(route, method, status).inc()
        histogram.labels(route, method).observe(max(0, spent) / 1e9)
    sums = [line for line in lines(own) if "_sum" in line]
    for line in sums:
        name, _, value = line.rpartition(" ")
        (same,) = [other for other in lines(library) if other.startswith(f"{name} ")]
        assert abs(float(same.rpartition(" ")[2]) - float(value)) < 1e-6
    assert len(sums) == 4
    assert {line for line in lines(own) if "_sum" not in line} == {
        line for line in lines(library) if "_sum" not in line
    }
