"""The rules of the autoscaler, and what it does to a fleet."""

import pytest

from benchmarks.scaling.law import Law, fit
from benchmarks.scaling.loads import spike, steady
from benchmarks.scaling.policies import AnswerTime, Autoscaler, Cpu, Fixed, Forecast, Seen
from benchmarks.scaling.runs import offered


def seen(at=0.0, *, ready=10, starting=0, cpu=0.6, answer=0.045, rate=100.0) -> Seen:
    return Seen(at, ready, starting, cpu, answer, rate)


class Wish:
    def __init__(self) -> None:
        self.replicas = 0

    def wants(self, _: Seen) -> int:
        return self.replicas


@pytest.mark.parametrize(
    ("cpu", "starting", "wanted"),
    [
        (0.65, 0, 10),  # within a tenth of the target
        (0.9, 0, 15),
        (0.9, 5, 15),  # those that start will do
        (1.0, 2, 17),
        (0.3, 0, 5),
    ],
)
def test_processor_time_as_kubernetes_counts_it(cpu, starting, wanted):
    assert Cpu().wants(seen(cpu=cpu, starting=starting)) == wanted


@pytest.mark.parametrize(("answer", "wanted"), [(0.048, 10), (0.09, 20), (0.03, 7), (2.5, 40)])
def test_time_of_an_answer(answer, wanted):
    assert AnswerTime().wants(seen(answer=answer)) == wanted


@pytest.mark.parametrize(("ready", "most"), [(2, 6), (10, 20), (80, 100)])
def test_more_replicas_come_in_bounded_steps(ready, most):
    wish = Wish()
    wish.replicas = 500
    assert Autoscaler(wish).replicas(seen(ready=ready)) == most


def test_fewer_replicas_only_after_five_minutes():
    wish = Wish()
    scaler = Autoscaler(wish)
    wish.replicas = 10
    scaler.replicas(seen(0))
    wish.replicas = 3
    assert [scaler.replicas(seen(at)) for at in (15.0, 300.0, 315.0)] == [10, 10, 3]


def test_a_forecast_continues_the_line():
    forecast = Forecast(capacity=10.0, ahead_seconds=60.0)
    for step in range(5):
        wanted = forecast.wants(seen(15.0 * step, ready=1, rate=10.0 + 1.5 * step))
    # 16 a second now, 0.1 more each second: 22 in a minute, of which a replica takes 6
    assert forecast.expected_rate(120.0) == pytest.approx(22.0)
    assert wanted == 4


def test_a_fleet_grows_under_a_spike_and_shrinks_after_it():
    load = spike(20.0, 60.0)
    outcome = offered(load, (0.1,), replicas=4, scaler=Autoscaler(Cpu()), start_seconds=30.0)
    ready = {at: count for at, _, count, _ in outcome.rows}
    assert ready[585.0] < ready[885.0]
    assert ready[1785.0] < ready[885.0]
    assert outcome.answers.refused_share < 0.2
    paid = sum(r + s for _, _, r, s in outcome.rows) * 15.0
    assert paid <= outcome.replica_seconds <= paid * 1.05


def test_a_run_repeats_itself():
    runs = [offered(steady(50.0, 30.0), (0.02, 0.05), scaler=Autoscaler(Fixed())) for _ in "ab"]
    assert runs[0].answers.seconds == runs[1].answers.seconds
    assert len(runs[0].answers.seconds) > 1000


def test_the_law_is_found_again():
    law = Law(one=70.0, contention=0.01, crosstalk=0.0002)
    counts = [1, 2, 4, 8, 16, 32, 64, 100]
    found = fit(counts, [law.at(each) for each in counts])
    assert found.one == pytest.approx(70.0)
    assert found.contention == pytest.approx(0.01)
    assert found.crosstalk == pytest.approx(0.0002)
    assert found.worst < 1e-6
