"""From the evidence to the halt, from the halt to everybody back: how fast, and never both of a
group at once."""
import json
import threading
import time

from fleet_support import (IN_TRIAL, MANIFEST, PRODUCT, Sampler, World, calm_manifest, events,
                           expect, log_of, main, now_ms, running, up, wait_until, whole)

FLEET = 24


def soak_all(world, devices, release, **policy):
    rollout = world.rollout(release, soak='120s', deadline='240s', **policy)
    wait_until('everybody soaks', lambda: all(d.state(PRODUCT) == 'soaking' and
                                              running(d) == release for d in devices), 60)
    return rollout


class Returns:
    """When each device was back, in the link and in what runs, on the wall clock."""

    def __init__(self, devices, first):
        self.left, self.first, self.at = set(devices), first, {}
        self.thread = threading.Thread(target=self._loop, daemon=True)
        self.thread.start()

    def _loop(self):
        end = time.monotonic() + 30
        while self.left and time.monotonic() < end:
            for device in list(self.left):
                if device.current(PRODUCT) == self.first and running(device) == self.first:
                    self.at[device] = now_ms()
                    self.left.discard(device)
            time.sleep(0.01)

    def last(self):
        self.thread.join(40)
        expect(not self.left, 'not back:', ', '.join(sorted(d.name for d in self.left)))
        return max(self.at.values())


def check_back(world, devices, first, rollout, returns, since=None):
    last = returns.last()
    view = world.plane.rollout(rollout)
    expect(view['state'] == 'halted', view['state'])
    took = (last - view['halted_at']) / 1000
    expect(took < 3, f'{took:.2f} s from the halt until the last trial was back')
    for device in devices:
        expect(whole(device) == first, device.name)
    return took, view


def a_halt_by_evidence_and_by_a_person_brings_24_soaking_devices_back_within_3_seconds(programs):
    with World(programs, plain=False) as world:
        devices = [world.device(enroll=False) for _ in range(FLEET)]
        for device in devices:
            device.enroll()
        up(devices)
        first = running(devices[0])

        # By a person: from the command to the last device.
        rollout = soak_all(world, devices, world.release(**calm_manifest()))
        returns = Returns(devices, first)
        asked = now_ms()
        world.halt(rollout)
        took, view = check_back(world, devices, first, rollout, returns)
        expect(view['halted_at'] - asked < 1000, 'from the command to the halt:',
               view['halted_at'] - asked, 'ms')
        print(f'ok - a person\'s halt: all {FLEET} back {took:.2f} s after it', flush=True)
        for device in devices:
            wait_until('idle', lambda d=device: d.state(PRODUCT) == 'idle', 20)

        # By evidence: a third of them sicken.
        probes = [{**MANIFEST['probes'][0], 'interval': '500ms', 'failures': 1,
                   'command': ['/bin/sh', '-c', 'test ! -e ${product_dir}/weak']}]
        rollout = soak_all(world, devices, world.release(probes=probes))
        returns = Returns(devices, first)
        for device in devices[:8]:
            (device.product_dir / 'weak').write_text('')
        took, view = check_back(world, devices, first, rollout, returns)
        lines = events(world, rollout)
        at = next(i for i, line in enumerate(lines) if line.get('decision') == 'halt')
        deciding = next(line for line in reversed(lines[:at]) if line.get('event') == 'outcome')
        expect(lines[at]['t'] - deciding['t'] < 1, deciding, lines[at])
        report = [entry for entry in log_of(world, 'device-report')
                  if entry['rollout'] == rollout and 'failed' in entry['text']]
        halted = [entry for entry in log_of(world) if entry['rollout'] == rollout and
                  'halted' in entry['code']]
        expect(halted and report, [entry['code'] for entry in log_of(world)])
        decided = [entry['at'] for entry in report if entry['at'] <= halted[0]['at']]
        expect(decided and halted[0]['at'] - decided[-1] < 1000, decided, halted[0])
        print(f'ok - evidence: {view["failed"]} failed, halted in '
              f'{halted[0]["at"] - decided[-1]} ms, all back {took:.2f} s later', flush=True)
        expect(view['seconds_to_reverted'] is not None, view['seconds_to_reverted'])


def group_check(groups):
    """A check for the sampler: never two of a group in trial, nor two on the way back."""
    def check(seen):
        for name, members in groups.items():
            states = [seen[device].get('state', 'idle') for device in members]
            for what, those in (('in trial', IN_TRIAL), ('reverting', ('reverting',))):
                if sum(state in those for state in states) > 1:
                    return f'{name}: two were {what}: {states}'
        return None
    return check


# Its activation takes a while, so that two at once would show.
SLOW = {'adapter': {**MANIFEST['adapter'],
                    'activate': ['/bin/sh', '-c',
                                 'touch "$2/out"; sleep 0.4; /bin/sh "$2/activate" "$1" "$2"; '
                                 's=$?; rm "$2/out"; exit $s',
                                 'activate', '${slot}', '${product_dir}']}}


class Outages:
    """Both members of a group in the middle of an activation at once: an outage of the group."""

    def __init__(self, groups):
        self.groups, self.problems = groups, []
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
            for name, members in self.groups.items():
                if all((device.product_dir / 'out').exists() for device in members):
                    self.problems.append(f'{name}: both were out of service')


def two_of_an_availability_group_are_never_both_in_trial_nor_both_on_the_way_back(programs):
    with World(programs) as world:
        groups = {f'pair-{n}': [world.device(group=f'pair-{n}', manifest=SLOW)
                                for _ in range(2)] for n in range(4)}
        devices = [device for members in groups.values() for device in members]
        up(devices)
        first = running(devices[0])
        with Sampler(devices, group_check(groups)) as sampler, Outages(groups) as outages:
            # All confirmed; then a halt at once.
            second = world.release(**SLOW, **calm_manifest('500ms'))
            rollout = world.rollout(second, soak='2s')
            wait_until('all confirmed', lambda: all(d.state(PRODUCT) == 'confirmed'
                                                    for d in devices), 60)
            world.halt(rollout, '--now')
            halted = time.monotonic()
            wait_until('all back', lambda: all(running(d) == first and d.state(PRODUCT) == 'idle'
                                               for d in devices), 60)
            took = time.monotonic() - halted
            expect(took < 30, f'it took {took:.1f} s without a spread')

            # One of each pair confirmed, the other in its trial; then a halt at once.
            third = world.release(**SLOW, **calm_manifest('500ms'))
            rollout = world.rollout(third, soak='4s')
            wait_until('some confirmed and some in trial', lambda: any(
                d.state(PRODUCT) == 'confirmed' for d in devices) and any(
                    d.state(PRODUCT) == 'soaking' for d in devices), 60, 0.02)
            world.halt(rollout, '--now')
            wait_until('all back', lambda: all(running(d) == first and d.state(PRODUCT) == 'idle'
                                               for d in devices), 60)

            # With placebos, and failures of the trial itself.
            sick = world.release({'data': 'bad'}, **SLOW, **calm_manifest('200ms'))
            rollout = world.rollout(sick, soak='3s', placebo='pairs', harm_budget=3)
            # Four pairs are too few for the coins alone: the alarm's control check decides.
            wait_until('halted', lambda: world.plane.rollout(rollout)['state'] == 'halted', 60)
            wait_until('all back', lambda: all(running(d) == first and d.state(PRODUCT) == 'idle'
                                               for d in devices), 60)
        expect(sampler.samples > 100, sampler.samples)
        expect(not sampler.problems, sampler.problems)
        expect(not outages.problems, outages.problems[:3])
        for device in devices:
            expect(whole(device) == first, device.name)


def confirmed_devices_go_back_spread_in_time_unless_told_to_at_once(programs):
    with World(programs) as world:
        devices = [world.device() for _ in range(8)]
        up(devices)
        first = running(devices[0])
        second = world.release(**calm_manifest('500ms'))
        rollout = world.rollout(second, soak='1s')
        wait_until('all confirmed', lambda: all(d.state(PRODUCT) == 'confirmed' for d in devices),
                   60)
        world.halt(rollout)
        wait_until('they know', lambda: all((d.root / 'var/lib/maeslant/halts.json').exists() and
                                            rollout in (d.root / 'var/lib/maeslant/halts.json')
                                            .read_text() for d in devices), 20)
        time.sleep(4)
        # The spread is five minutes: hardly anybody has its turn in the first seconds.
        back = [device for device in devices if running(device) == first]
        expect(len(back) <= 3, f'{len(back)} of 8 were back at once')
        halts = json.loads((devices[0].root / 'var/lib/maeslant/halts.json').read_text())
        spread = json.loads(halts['signed'])['halts'][0]['revert_spread_ms']
        expect(spread == 300000, spread)
        # A person who sees that it is worse than that says so, and nobody waits any longer.
        world.halt(rollout, '--now')
        wait_until('all back', lambda: all(running(d) == first for d in devices), 15)
        view = world.plane.rollout(rollout)
        expect(view['reverts_open'] == 0 or view['state'] == 'halted', view)
        wait_until('the server knows', lambda: world.plane.rollout(rollout)['devices'].get(
            'reverted') == 8, 15)


TESTS = (a_halt_by_evidence_and_by_a_person_brings_24_soaking_devices_back_within_3_seconds,
         confirmed_devices_go_back_spread_in_time_unless_told_to_at_once)
SLOW_TESTS = (two_of_an_availability_group_are_never_both_in_trial_nor_both_on_the_way_back,)

if __name__ == '__main__':
    main(TESTS, SLOW_TESTS)
