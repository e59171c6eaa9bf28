"""What the fleet tests share: real agents with a tiny product (tests/agent/agent_support.py), a
sampler of all journals, and the command line."""
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'agent'))

from agent_support import (MANIFEST, POLICY, PRODUCT, World, expect, run_all,  # noqa: E402
                           running, settle, wait_until, whole)
import support  # noqa: E402

__all__ = ['MANIFEST', 'POLICY', 'PRODUCT', 'World', 'expect', 'running', 'settle',
           'support', 'wait_until', 'whole', 'IN_TRIAL', 'Sampler', 'main', 'up', 'events', 'log_of',
           'blocked', 'now_ms', 'calm_manifest', 'at_least_three_probes']

# The states in which a device holds a trial; `reverting` is on its own.
IN_TRIAL = ('marked', 'active', 'soaking', 'interrupted', 'reported')


def main(tests, slow_tests=()):
    """Runs the tests, with --slow those that take long; the programs come from meson."""
    arguments = [word for word in sys.argv[1:] if word != '--slow']
    programs = dict(zip(('maeslant', 'maeslant-agent', 'maeslant-agent-test'), arguments))
    sys.exit(run_all(slow_tests if '--slow' in sys.argv else tests, programs))


def now_ms():
    return time.time() * 1000


def at_least_three_probes(interval='300ms', **members):
    return [{**MANIFEST['probes'][0], 'interval': interval, **members}]


def calm_manifest(interval='2s', **members):
    """Members of a release whose probes leave the machine to the other devices."""
    return {'probes': at_least_three_probes(interval), **members}


def up(devices, timeout=90):
    """Starts them and waits until each has adopted its content and runs it."""
    for device in devices:
        device.start()
    for device in devices:
        wait_until(f'{device.name} is up', lambda d=device: running(d) and 'adopted' in d.log(),
                   timeout=timeout, pause=0.05)
    return devices


def blocked(device, reason, timeout=20):
    wait_until(f'{device.name} is blocked: {reason}', lambda: device.blocked(PRODUCT) == reason,
               timeout=timeout)


def events(world, rollout):
    """The rollout's log: events and decisions in order."""
    return support.Admin(world.plane).events(rollout)


def log_of(world, code=None):
    entries = support.Admin(world.plane).get('log?limit=1000')['entries']
    return [entry for entry in entries if code in (None, entry['code'])]


class Sampler:
    """Reads every device's journal 20 times a second and hands what it saw to a check."""

    def __init__(self, devices, check):
        self.devices, self.check = devices, check
        self.problems, self.samples = [], 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(10)

    def _loop(self):
        while not self.stop.wait(0.05):
            seen = {device: device.journal(PRODUCT) for device in self.devices}
            self.samples += 1
            problem = self.check(seen)
            if problem and problem not in self.problems:
                self.problems.append(problem)
