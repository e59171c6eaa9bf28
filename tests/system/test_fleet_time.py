"""A server that is away for long and returns in another day; devices whose clocks are a year off."""
import json
import subprocess
import time

from fleet_support import (PRODUCT, World, at_least_three_probes, events, expect, main, running,
                           settle, up, wait_until, whole)


def faked(offset):
    """The environment of a process whose wall clock is off and whose other clocks are not."""
    shown = subprocess.run(['faketime', '-m', '-f', offset, 'printenv', 'LD_PRELOAD'], check=True,
                           capture_output=True, text=True).stdout.strip()
    return {'LD_PRELOAD': shown, 'FAKETIME': offset, 'DONT_FAKE_MONOTONIC': '1',
            'FAKETIME_DONT_FAKE_MONOTONIC': '1', 'FAKETIME_NO_CACHE': '1'}


def wrapper(offset):
    return ['env', *(f'{name}={value}' for name, value in faked(offset).items())]


def a_server_away_past_all_deadlines_that_returns_in_another_day_fails_nobody(programs):
    for jump in ('+1d', '-1d'):
        with World(programs, plain=False) as world:
            devices = up([world.device() for _ in range(4)])
            release = world.release(probes=at_least_three_probes())
            rollout = world.rollout(release, soak='3s', deadline='15s')
            for device in devices:
                settle(device, 'soaking')
            time.sleep(0.5)
            world.plane.kill()
            for device in devices:
                settle(device, 'reported')
            time.sleep(15)  # longer than the deadline
            for device in devices:
                expect(device.state(PRODUCT) == 'reported', 'still in trial', device.name)
                waiting = list((device.root / 'var/lib/maeslant/outbox').glob('*-healthy'))
                expect(len(waiting) == 1, 'the report waits on the disk:', waiting)
            world.plane.wrapper = wrapper(jump)
            world.plane.start()
            for device in devices:
                settle(device, 'confirmed', timeout=40)
            view = world.plane.rollout(rollout)
            expect(view['failed'] == 0 and view['silent'] == 0 and view['healthy'] == 4,
                   jump, view['failed'], view['silent'], view['healthy'], view['late'])
            lines = events(world, rollout)
            expect(all(a['t'] <= b['t'] for a, b in zip(lines, lines[1:])), 'time never goes back')
            # And it goes on: the next release is taken in the new day.
            world.rollout(world.release(probes=at_least_three_probes()), soak='1s', deadline='20s')
            for device in devices:
                wait_until('the next release', lambda d=device: running(d) != release and
                           d.state(PRODUCT) == 'confirmed', 40)


def a_device_whose_clock_is_a_year_off_updates_and_reports_over_tls(programs):
    for offset in ('-1y', '+1y'):
        with World(programs, plain=False) as world:
            device = world.device(enroll=False)
            environment = {**device.environment(), **faked(offset)}
            result = subprocess.run([device.agent, 'enroll', '--root', str(device.root),
                                     '--token-file', str(device.folder / 'token')],
                                    capture_output=True, text=True, timeout=60, env=environment)
            expect(result.returncode == 0, offset, result.stderr)
            device.start(env=faked(offset))
            wait_until('adopted', lambda: running(device) and 'adopted' in device.log(), 30)
            release = world.release(probes=at_least_three_probes())
            rollout = world.rollout(release, soak='2s', deadline='30s')
            settle(device, 'confirmed', timeout=40)
            expect(running(device) == release and whole(device) == release, offset)
            year = time.gmtime().tm_year + (1 if offset == '+1y' else -1)
            expect(device.log().startswith(str(year)), 'its clock is off:', device.log()[:40])
            view = world.plane.rollout(rollout)
            expect(view['healthy'] == 1 and view['failed'] == 0, offset, view)
            # A halt finds it too, and the clock decides nothing about it.
            second = world.release(probes=at_least_three_probes())
            rollout = world.rollout(second, soak='60s', deadline='120s')
            settle(device, 'soaking')
            world.halt(rollout)
            wait_until('back', lambda: running(device) == release, 3)


def a_clock_that_jumps_during_the_soak_changes_nothing(programs):
    with World(programs) as world:
        device = world.device()
        clock = world.folder / 'clock'
        clock.write_text('+0\n')
        environment = {**faked('+0'), 'FAKETIME_TIMESTAMP_FILE': str(clock)}
        environment.pop('FAKETIME')
        device.start(env=environment)
        wait_until('adopted', lambda: running(device) and 'adopted' in device.log(), 30)
        release = world.release(probes=at_least_three_probes())
        rollout = world.rollout(release, soak='5s', deadline='30s')
        settle(device, 'soaking')
        start = time.monotonic()
        clock.write_text('+400d\n')
        time.sleep(1)
        expect(device.state(PRODUCT) == 'soaking', device.state(PRODUCT))
        clock.write_text('-400d\n')
        settle(device, 'confirmed', timeout=20)
        expect(time.monotonic() - start > 4, 'it soaked', time.monotonic() - start)
        expect(world.plane.rollout(rollout)['healthy'] == 1, 'healthy')
        text = json.dumps(world.plane.rollout(rollout)['failures'])
        expect(text == '[]', text)


TESTS = (a_device_whose_clock_is_a_year_off_updates_and_reports_over_tls,
         a_clock_that_jumps_during_the_soak_changes_nothing)
SLOW_TESTS = (a_server_away_past_all_deadlines_that_returns_in_another_day_fails_nobody,)

if __name__ == '__main__':
    main(TESTS, SLOW_TESTS)
