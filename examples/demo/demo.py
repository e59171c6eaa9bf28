#!/usr/bin/env python3
"""The main job on real input: demo.py BIN EXAMPLES FOLDER

A control plane, 24 web application firewalls and 24 sensors, each device with an agent process of
its own. Exits 0 only if every line of the final table is as it must be.
"""
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import threading
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'lib'))

import parts  # noqa: E402
from fleet import Failed, Plane, Relay, stop_all, wait_until  # noqa: E402
from fleets import ORGANISATIONS, Sensor, Waf, bring_up, organisation, write_policy  # noqa: E402

FLEET = 24


class World:
    """Everything that runs, and how the parts get at it."""

    def __init__(self, bin_folder, examples, folder):
        self.bin, self.kinds, self.folder = bin_folder, examples, folder
        self.wafs, self.sensors, self.open_sensors = [], [], []
        self.names = {}
        self.live = {}
        self.lock = threading.Lock()
        (folder / 'releases').mkdir()
        self.waf_content = folder / 'waf-content'
        self.sensor_content = folder / 'sensor-content'
        subprocess.run([examples / 'waf/build-content', self.waf_content], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run([examples / 'sensor/build-content', self.sensor_content,
                        bin_folder / 'maeslant-sensor'], check=True, stdout=subprocess.DEVNULL)
        self.policy = write_policy(folder / 'policy.yaml')
        self.relay = Relay()
        self.plane = Plane(folder / 'plane', bin_folder).start()
        self.open_plane = Plane(folder / 'open-plane', bin_folder, gate=False).start()

    def bring_up(self):
        tokens = {organisation(n): self.plane.token(organisation(n), 2 * FLEET)
                  for n in range(ORGANISATIONS)}
        open_token = self.open_plane.token('o1', FLEET)
        devices = self.folder / 'devices'
        for number in range(FLEET):
            token = tokens[organisation(number)]
            self.wafs.append(Waf(self.plane, devices / f'waf-{number:02}', number,
                                 self.waf_content, token, self.kinds))
            self.sensors.append(Sensor(self.plane, devices / f'sensor-{number:02}', number,
                                       self.sensor_content, token, self.relay))
            self.open_sensors.append(Sensor(self.open_plane, devices / f'open-{number:02}', number,
                                            self.sensor_content, open_token))
        bring_up(self.sensors + self.open_sensors, lambda s: s.running() == s.current(s.product) and
                 s.state(s.product) == 'idle')
        bring_up(self.wafs, lambda w: w.version() == 'u1' and w.state(w.product) == 'idle')

    def release(self, kind, content, manifest=None, plane=None, directory=None):
        """Builds and signs a release of a content; returns its name."""
        base = self.waf_content if kind == 'waf' else self.sensor_content
        manifests = self.kinds / 'waf' if kind == 'waf' else self.sensor_content
        payload = base / content if kind == 'waf' else base / content / 'payload'
        directory = directory or self.folder / f'releases/{kind}-{content}'
        name = (plane or self.plane).build(manifests / f'manifest-{manifest or content}.yaml',
                                           payload, directory)
        self.names[directory] = name
        return name

    def name_of(self, directory):
        return self.names[directory]

    def begin(self, line, plane, release):
        name = plane.start_rollout(release, self.policy)
        with self.lock:
            self.live[line.part] = (plane, name)
        return name

    def reverted(self, plane, name, view):
        """The view once its last trial's revert is known."""
        if view['state'] != 'halted':
            return view
        try:
            return wait_until('the last trial is reverted', lambda: (
                lambda v: v if v['in_flight'] == 0 and v.get('last_reverted_at') else None)(
                    plane.rollout(name)), 20, 0.2)
        except Failed:
            return plane.rollout(name)

    def stop(self):
        everyone = self.wafs + self.sensors + self.open_sensors
        stop_all(everyone)
        for device in everyone:
            device.stop_product()
        for plane in (self.plane, self.open_plane):
            plane.stop()
        self.relay.stop()


class Screen:
    """The live view: a few lines that are drawn again, or a line now and then without a terminal."""

    def __init__(self, world):
        self.world, self.done = world, threading.Event()
        self.terminal = sys.stdout.isatty() and os.environ.get('TERM', 'dumb') != 'dumb'
        self.drawn = 0
        self.said = {}
        self.thread = threading.Thread(target=self._loop, daemon=True)
        self.thread.start()

    def stop(self):
        self.done.set()
        self.thread.join(10)

    def _loop(self):
        while not self.done.wait(0.7):
            with self.world.lock:
                live = dict(self.world.live)
            rows = []
            for part, (plane, name) in sorted(live.items()):
                try:
                    rows.append((part, self._row(part, plane.rollout(name))))
                except (Failed, subprocess.TimeoutExpired, ValueError):
                    continue
            self._draw(rows)

    @staticmethod
    def _row(part, view):
        return (f'{part:2} {view["state"]:8} stage {view["stage"] or "-":7}'
                f' exposed {view["permits"]:2}  placebo {view["placebos"]:2}'
                f'  in flight {view["in_flight"]:2}  settled {view["settled"]:2}'
                f'  failed {view["failed"]:2}  coin {view["k_release"]}:{view["k_placebo"]}'
                f'  proven harm {view["proven_harm"]}'
                f'  window {view["window_used"]:4.2f}/{view["window"]:g}')

    def _draw(self, rows):
        if self.terminal:
            if self.drawn:
                sys.stdout.write(f'\x1b[{self.drawn}A')
            for _, row in rows:
                sys.stdout.write(f'\x1b[2K{row}\n')
            self.drawn = len(rows)
        else:
            for part, row in rows:
                if self.said.get(part) != row:
                    self.said[part] = row
                    print(f'  {row}')
        sys.stdout.flush()


def run_lane(world, lane):
    """Parts that share a fleet, one after the other."""
    lines = []
    for part in lane:
        start = time.monotonic()
        try:
            line = part(world)
        except (Failed, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
            line = parts.Line(part.__name__.removeprefix('part_'), part.__doc__ or part.__name__)
            line.problems.append(''.join(traceback.format_exception_only(error)).strip())
        line.seconds = time.monotonic() - start
        lines.append(line)
    return lines


def figure(value, unit=''):
    return '\u2013' if value is None else f'{value:.1f}{unit}' if isinstance(value, float) else str(value)


def recompute(world):
    """Every decision of every rollout must follow from its events alone."""
    logs = world.folder / 'logs'
    logs.mkdir()
    problems, count = [], 0
    for part, (plane, name) in sorted(world.live.items()):
        try:
            count += plane.recompute(name, logs / f'{part}-{name}.jsonl')
        except Failed as failed:
            problems.append(f'{part}: a decision of {name} does not follow from its events\n{failed}')
    print(f'\nDecisions made again from the events of {len(world.live)} rollouts: '
          f'{"all " if not problems else ""}{count} are the same.')
    for problem in problems:
        print(f'\n{problem}')
    return not problems


def print_table(lines):
    head = ('', 'what', 'exposed', 'harmed', 'first failure\u2192halt', 'halt\u2192all reverted',
            'took', 'result')
    rows = [head] + [(line.part, line.title, figure(line.exposed), figure(line.harmed),
                      figure(line.to_halt, ' s'), figure(line.to_reverted, ' s'),
                      f'{line.seconds:.0f} s',
                      line.result if not line.problems else 'NOT AS IT MUST BE') for line in lines]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    print()
    for row in rows:
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for line in lines:
        for problem in line.problems:
            print(f'\n{line.part}: {problem}')


def main():
    bin_folder, examples, folder = (pathlib.Path(argument) for argument in sys.argv[1:4])
    wanted = os.environ.get('MAESLANT_DEMO_PARTS')
    start = time.monotonic()
    world = World(bin_folder, examples, folder)
    try:
        print(f'Bringing up {FLEET} firewalls and {FLEET} sensors (and {FLEET} more sensors for a '
              f'fleet without a gate)…', flush=True)
        world.bring_up()
        print(f'All of them run their first content after {time.monotonic() - start:.0f} s. '
              f'The page: {world.plane.url}/ (token: {world.plane.folder}/viewer.token)\n', flush=True)
        lanes = [[parts.part_a, parts.part_c],
                 [parts.part_b, parts.part_d, parts.part_e, parts.part_f],
                 [parts.part_b_ungated]]
        if wanted:
            lanes = [[part for part in lane if part.__name__.removeprefix('part_') in wanted.split(',')]
                     for lane in lanes]
        screen = Screen(world)
        with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
            lines = [line for done in pool.map(lambda lane: run_lane(world, lane), lanes)
                     for line in done]
        screen.stop()
        lines.sort(key=lambda line: line.part)
        print_table(lines)
        recomputed = recompute(world)
        print(f'\nTook {time.monotonic() - start:.0f} s.')
        if not recomputed or any(line.problems for line in lines):
            print('\nThe demo failed: a line or a decision is not as it must be.')
            return 1
        print('\nEvery line is as it must be.')
        return 0
    finally:
        world.stop()


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except Failed as failed:
        print(f'\nThe demo failed: {failed}', file=sys.stderr)
        sys.exit(1)
