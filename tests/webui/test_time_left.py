"""How long a job still takes, by a clock of the test."""

from tests.webui.pack import load

core, jobs = load("unlearn_core"), load("extension.jobs")


def test_the_time_left_of_a_job_falls_to_its_very_end(monkeypatch):
    """Two concepts, each with pictures after it: there was "19 min" at 100 % once, and a minute more at each pulse."""
    now = [0.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now[0])
    job, seen = jobs.Job("forget", "x"), []
    job.interrupted = lambda _: seen.append(job.view()) or False
    job.begin()
    for number in range(2):
        job.part(number, 2, "a concept", until=0.5)
        begun = now[0]
        for done in range(1, 11):
            for pulse in range(5):
                now[0] += 0.2
                # the core's own estimate is of its own work alone
                job.hear(core.StepReport("training", done - 1, 10, (done - 1 + pulse / 5) / 10, now[0] - begun, 1140.0))
            job.hear(core.StepReport("training", done, 10, done / 10, now[0] - begun, 1140.0))
        job.stage(1.0)
        tick = job.counter(10)
        for _ in range(10):
            now[0] += 1.0
            tick()
    fractions = [view.fraction for view in seen]
    left = [view.seconds_left for view in seen if view.seconds_left is not None]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert [f for f, v in zip(fractions, seen, strict=True) if v.phase == "generating"][9::10] == [0.5, 1.0]
    assert left == sorted(left, reverse=True) and left[0] > 30 and left[-1] == 0.0
    job.run(lambda job: "done")
    assert job.view().seconds_left is None and job.view().fraction == 1.0


def test_the_bar_of_a_stopped_job_shows_where_it_was_stopped():
    def work(job):
        job.begin()
        job.hear(core.StepReport("training", 6, 10, 0.6, 1.0, 1.0))
        job.stop()
        # the work says that there is no more to do
        assert job.hear(core.StepReport("training", 6, 10, 1.0, 1.0, 0.0))
        return "kept"

    job = jobs.Job("forget", "x")
    job.run(work)
    assert (job.view().state, job.view().fraction, job.view().result) == ("stopped", 0.6, "kept")


def test_a_counter_that_stands_adds_no_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now[0])
    job = jobs.Job("forget", "x")
    job.begin()
    now[0] = 10.0
    job.hear(core.StepReport("before", 5, 10, 0.5, 10.0, None))
    first = job.view().seconds_left
    for _ in range(60):
        now[0] += 1.0
        job.hear(core.StepReport("before", 5, 10, 0.5, 10.0, 60.0))
    assert first == job.view().seconds_left == 10.0


def test_a_run_that_goes_on_counts_what_was_done_before(monkeypatch):
    """Nine tenths were done in 90 s by an earlier run: what is left takes ten, and not a moment."""
    now = [0.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now[0])
    job = jobs.Job("forget", "x")
    job.begin()
    job.part(0, 1, "a concept")
    now[0] = 0.1
    job.hear(core.StepReport("training", 9, 10, 0.9, 90.1, 10.0))
    assert 9 < job.view().seconds_left < 11 and job.view().seconds == 0.1
