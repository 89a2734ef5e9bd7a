"""Settings of all tests: no property is a matter of time, on however busy a machine; two workers share the files.

A file's tests stay with one worker, for they share machines; those with a real model stay together, for two of them at
once take each other's processor. Each worker has its part of the cores: the threads of a model wait for the slowest of
them at every layer, which would be one whose core somebody else's test has.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", None)
    if worker is None or not hasattr(os, "sched_setaffinity"):
        return
    cores, workers = sorted(os.sched_getaffinity(0)), worker["workercount"]
    if len(cores) >= workers:
        os.sched_setaffinity(0, cores[int(worker["workerid"].removeprefix("gw")) :: workers])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group("gguf" if item.get_closest_marker("gguf") else item.path.name))
