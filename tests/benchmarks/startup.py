"""Where the fixed seconds of a one-machine run go: `python -m tests.benchmarks.startup`.

Run it with the environment that it is about: what `make score` installs has plain Ray, what `make test`
installs has the dashboard's packages too, and Ray starts more slowly where it finds them.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

_STEPS = ("import crackmodel", "import ray", "start Ray", "first task", "end Ray")


def main() -> None:
    """Measure in a new process each time and print the medians."""
    if sys.argv[1:] == ["--once"]:
        print(*_once())
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    command = [sys.executable, "-m", "tests.benchmarks.startup", "--once"]
    taken = [
        [float(part) for part in subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()]
        for _ in range(rounds)
    ]
    kind = "with the dashboard's packages" if importlib.util.find_spec("aiohttp_cors") else "plain"
    print(f"Ray {kind}, load {os.getloadavg()[0]:.1f}, median of {rounds}\n")
    print("| step | seconds |\n|---|---:|")
    for step, seconds in zip(_STEPS, zip(*taken, strict=True), strict=True):
        print(f"| {step} | {median(seconds):.1f} |")
    print(f"| all | {median(map(sum, taken)):.1f} |")


def _once() -> list[str]:
    moments = [time.perf_counter()]

    def passed() -> None:
        moments.append(time.perf_counter())

    _import_as_the_command_line_does()
    passed()
    import ray

    passed()
    from crackmodel.cluster.session import ray_session

    with ray_session():
        passed()
        ray.get(ray.remote(num_cpus=1)(_first_task()).remote())
        passed()
    passed()
    return [f"{after - before:.3f}" for before, after in pairwise(moments)]


def _import_as_the_command_line_does() -> None:
    from crackmodel.arrow_memory import keep_arrow_small

    keep_arrow_small()
    import crackmodel.scoring.run  # noqa: F401 - what is measured


def _first_task() -> Callable[[], None]:
    def load() -> None:
        from crackmodel.arrow_memory import keep_arrow_small

        keep_arrow_small()
        import crackmodel.scoring.worker.shard  # noqa: F401 - what is measured

    return load


if __name__ == "__main__":
    main()
