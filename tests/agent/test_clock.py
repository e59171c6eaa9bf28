"""Machines that sleep, and clocks that somebody moves: what counts is time awake and since boot."""
import os
import signal
import sys
import time

from agent_support import (PRODUCT, World, expect, run_all, running, settle, wait_until)

DAY = 24 * 3600


class Clock:
    """The clocks of one device's agent, moved by files that the preloaded library reads."""

    def __init__(self, world, device, library):
        self.device = device
        self.folder = world.folder / f'clock-{device.name}'
        self.folder.mkdir()
        device_environment = device.environment

        def environment():
            return {**device_environment(), 'LD_PRELOAD': library,
                    'SHIFT_CLOCK': str(self.folder), 'ASAN_OPTIONS': 'verify_asan_link_order=0'}
        device.environment = environment

    def move(self, name, seconds):
        part = self.folder / f'.{name}'
        part.write_text(str(seconds))
        part.rename(self.folder / name)

    def sleep(self, seconds):
        """The machine is suspended: nothing runs, and only the time since boot and the wall's go
        on."""
        self.device.process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        for name in ('boottime', 'realtime'):
            old = self.folder / name
            self.move(name, seconds + (int(old.read_text()) if old.exists() else 0))
        self.device.process.send_signal(signal.SIGCONT)


def clocked(world, programs, **options):
    device = world.device(**options)
    clock = Clock(world, device, programs['shift-clock'])
    device.start()
    wait_until('it is adopted', lambda: 'the way back' in device.log(), timeout=20)
    return device, clock


def a_suspend_in_the_soak_is_an_interruption_and_only_time_awake_counts(programs):
    with World(programs) as world:
        device, clock = clocked(world, programs)
        device.stop()
        second = world.release()
        rollout = world.rollout(second, soak='4s', deadline='20s')
        device.start(program=str(world.bin / 'maeslant-agent-test'),
                     env={'MAESLANT_AGENT_STOP_AT': 'after-interrupted'})
        settle(device, 'soaking')
        time.sleep(1.5)
        clock.sleep(600)
        os.waitid(os.P_PID, device.process.pid, os.WSTOPPED)
        journal = device.journal(PRODUCT)
        expect(journal['state'] == 'interrupted' and journal['interruptions'] == '1', journal)
        expect(0 < int(journal['soaked_ms']) < 3500, journal['soaked_ms'])
        woken = time.monotonic()
        device.process.send_signal(signal.SIGCONT)
        settle(device, 'confirmed', timeout=30)
        expect(time.monotonic() - woken > (4000 - int(journal['soaked_ms'])) / 1000 - 0.5,
               'the rest was soaked')
        view = world.plane.rollout(rollout)
        expect(view['failed'] == 0 and view['silent'] == 0 and running(device) == second, view)


def a_third_suspend_is_a_failure(programs):
    with World(programs) as world:
        device, clock = clocked(world, programs)
        first = running(device)
        world.rollout(world.release(), soak='40s')
        for count in range(1, 4):
            wait_until('soaks', lambda: device.state(PRODUCT) == 'soaking' and
                       device.log().count('trial-interrupted') == count - 1, timeout=20)
            time.sleep(0.3)
            clock.sleep(60)
            if count < 3:
                wait_until('noticed', lambda: device.log().count('trial-interrupted') == count)
        settle(device, 'idle')
        expect('interrupted-too-often' in device.log() and running(device) == first, 'back')


def a_clock_set_forward_ends_no_interruption_but_a_day_does(programs):
    with World(programs) as world:
        device, clock = clocked(world, programs)
        first = running(device)
        world.rollout(world.release(), soak='30s')
        settle(device, 'soaking')
        world.plane.kill()
        clock.sleep(60)
        settle(device, 'interrupted')
        clock.move('realtime', 30 * DAY)
        time.sleep(7)
        expect(device.state(PRODUCT) == 'interrupted', device.state(PRODUCT))
        clock.move('boottime', 60 + DAY)
        settle(device, 'idle', timeout=20)
        expect('interrupted-too-long' in device.log() and running(device) == first, 'back')


def a_moved_wall_clock_does_not_end_the_wait_for_an_answer_but_24_hours_do(programs):
    with World(programs) as world:
        device, clock = clocked(world, programs)
        first = running(device)
        world.rollout(world.release(), soak='1s')
        settle(device, 'soaking')
        world.plane.kill()
        settle(device, 'reported')
        for days in (40, -40):
            clock.move('realtime', days * DAY)
            time.sleep(2)
            expect(device.state(PRODUCT) == 'reported', days, device.state(PRODUCT))
        clock.move('realtime', 0)
        clock.move('boottime', DAY - 120)
        device.process.send_signal(signal.SIGHUP)  # it looks now
        time.sleep(2)
        expect(device.state(PRODUCT) == 'reported', 'not yet')
        clock.move('boottime', DAY + 60)
        device.process.send_signal(signal.SIGHUP)
        settle(device, 'idle', timeout=10)
        expect(running(device) == first, 'back')
        rejected = (device.root / 'var/lib/maeslant/rejected').read_text()
        expect(' unconfirmed ' in rejected, rejected)


def tries(device, release):
    return (device.product_dir / 'activations').read_text().count(release)


def a_release_that_fell_to_a_power_cut_is_asked_for_again_after_a_day_and_not_before(programs):
    # The server's word is its own: it may say that the device has failed with this release before.
    with World(programs) as world:
        device, clock = clocked(world, programs)
        second = world.release()
        world.rollout(second, soak='30s', deadline='90s')
        settle(device, 'soaking')
        device.kill()
        device.reboot()
        settle(device, 'idle')
        rejected = (device.root / 'var/lib/maeslant/rejected').read_text().split()
        expect(rejected[:2] == [second, 'power-cut'] and rejected[3] == '1', rejected)
        clock.move('realtime', DAY - 60)
        time.sleep(3)
        expect('told-no' not in device.log() and tries(device, second) == 1, 'not yet')
        clock.move('realtime', DAY + 60)
        wait_until('asked again', lambda: 'told-no' in device.log() or
                   tries(device, second) == 2, timeout=20)


def a_release_that_failed_its_probes_is_not_tried_again_however_long(programs):
    with World(programs) as world:
        device, clock = clocked(world, programs)
        second = world.release({'data': 'bad\n'})
        world.rollout(second, soak='2s')
        wait_until('rejected', lambda: 'trial-reverted' in device.log())
        settle(device, 'idle')
        clock.move('realtime', 90 * DAY)
        time.sleep(4)
        expect(tries(device, second) == 1, 'tried once')


TESTS = [test for name, test in list(globals().items())
         if callable(test) and getattr(test, '__module__', '') == __name__ and
         name not in ('Clock', 'clocked', 'tries')]

if __name__ == '__main__':
    names = ('maeslant', 'maeslant-agent', 'maeslant-agent-test', 'shift-clock')
    sys.exit(run_all(TESTS, dict(zip(names, map(os.path.abspath, sys.argv[1:])))))
