"""Agents killed at random moments: every device ends on exactly one whole release."""
import random
import sys
import time

from agent_support import PRODUCT, World, expect, run_all, running, settle, wait_until, whole

DEVICES = 4


def churn(world, devices, kills, seed, known):
    """Good and bad releases come one after the other while agents die."""
    rng = random.Random(seed)
    rollout = None
    for number in range(kills):
        if number % 12 == 0:
            bad = number % 24 == 12
            release = world.release({'data': f'bad {number}\n'} if bad else None)
            known.add(release)
            if rollout:
                world.plane.run('rollout', 'halt', rollout, '--reason', 'the next one', check=False)
            rollout = world.rollout(release, soak='1s', deadline='30s')
        device = rng.choice(devices)
        time.sleep(rng.uniform(0.0, 0.25))
        device.kill()
        expect(whole(device) in known, device.name)
        device.boot_id = device.boot_id if rng.random() < 0.5 else f'boot-{number}'
        device.start()
    world.plane.run('rollout', 'halt', rollout, '--reason', 'the last one', check=False)


def ends_whole(programs, kills, seed=1):
    with World(programs) as world:
        devices = [world.device().start() for _ in range(DEVICES)]
        for device in devices:
            wait_until('the first use', lambda d=device: d.status() and running(d), timeout=30)
            settle(device, 'idle', 'staged', 'confirmed') if device.state(PRODUCT) else None
        known = {device.current(PRODUCT) for device in devices}
        churn(world, devices, kills, seed, known)
        last = world.release()
        world.rollout(last)
        known.add(last)
        for device in devices:
            settle(device, 'confirmed', timeout=90)
            wait_until('it runs the last release', lambda d=device: running(d) == last, timeout=60)
            expect(whole(device) == last, device.name)
            slots = {entry.name for entry in (device.state_folder(PRODUCT) / 'slots').iterdir()
                     if not entry.name.startswith('.')}
            expect(len(slots) <= 3, slots)
        print(f'{kills} kills over {DEVICES} devices', flush=True)


def agents_killed_40_times_end_on_exactly_one_whole_release(programs):
    ends_whole(programs, 40)


def agents_killed_500_times_end_on_exactly_one_whole_release(programs):
    ends_whole(programs, 500, seed=2)


if __name__ == '__main__':
    names = ('maeslant', 'maeslant-agent', 'maeslant-agent-test')
    arguments = [argument for argument in sys.argv[1:] if argument != '--slow']
    sys.exit(run_all([agents_killed_500_times_end_on_exactly_one_whole_release]
                     if '--slow' in sys.argv else
                     [agents_killed_40_times_end_on_exactly_one_whole_release],
                     dict(zip(names, arguments))))
