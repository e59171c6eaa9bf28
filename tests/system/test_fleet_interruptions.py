"""An orderly shutdown is nobody's failure; a product that makes machines shut down is caught."""
import threading
import time

from fleet_support import (MANIFEST, PRODUCT, World, at_least_three_probes, events, expect, main,
                           running, settle, up, wait_until, whole)


def shut_down(device):
    """SIGTERM as at a shutdown; the product dies with its machine."""
    status = device.stop()
    (device.product_dir / 'running').unlink(missing_ok=True)
    expect(status == 0, f'{device.name} ended with {status}')


def an_orderly_shutdown_in_soak_is_no_failure_and_ends_healthy_after_the_restart(programs):
    with World(programs) as world:
        devices = [world.device() for _ in range(3)]
        up(devices)
        release = world.release(probes=at_least_three_probes())
        # The machine is away for longer than the deadline: what was announced is not silence.
        rollout = world.rollout(release, soak='4s', deadline='6s')
        for device in devices:
            settle(device, 'soaking')
        time.sleep(1)
        for device in devices:
            shut_down(device)
            expect(device.state(PRODUCT) == 'interrupted', device.state(PRODUCT))
            expect(device.journal(PRODUCT)['interruptions'] == '1', device.journal(PRODUCT))
        time.sleep(8)
        view = world.plane.rollout(rollout)
        expect(view['failed'] == 0 and view['silent'] == 0 and view['interrupted'] >= 3, view)
        for device in devices:
            device.reboot()
        for device in devices:
            settle(device, 'confirmed')
            expect(running(device) == release and whole(device) == release, device.name)
        view = world.plane.rollout(rollout)
        expect(view['healthy'] == 3 and view['failed'] == 0, view)


def two_interruptions_are_forgiven(programs):
    with World(programs) as world:
        device = up([world.device()])[0]
        release = world.release(probes=at_least_three_probes())
        rollout = world.rollout(release, soak='3s', deadline='20s')
        for number in (1, 2):
            settle(device, 'soaking')
            time.sleep(0.5)
            shut_down(device)
            expect(device.journal(PRODUCT)['interruptions'] == str(number), number)
            device.reboot()
        settle(device, 'confirmed')
        view = world.plane.rollout(rollout)
        expect(view['healthy'] == 1 and view['failed'] == 0, view)


class Machine:
    """What the release does to its machine: whenever it soaks, the machine shuts down in order and
    comes up again."""

    def __init__(self, device):
        self.device, self.shutdowns = device, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._loop, daemon=True)
        self.thread.start()

    def end(self):
        self.stop.set()
        self.thread.join(30)

    def _loop(self):
        wish = self.device.product_dir / 'shutdown'
        while not self.stop.wait(0.05):
            if wish.exists() and self.device.state(PRODUCT) == 'soaking':
                wish.unlink()
                shut_down(self.device)
                self.shutdowns += 1
                self.device.reboot()


# The product of the release asks for a shutdown whenever it was activated; the old one does not.
SHUTS_DOWN = {
    'adapter': {**MANIFEST['adapter'],
                'activate': ['/bin/sh', '-c',
                             '/bin/sh "$2/activate" "$1" "$2"; s=$?; '
                             'rm -f "$2/shutdown"; test ! -e "$1/payload/shuts-down" || '
                             'touch "$2/shutdown"; exit $s',
                             'activate', '${slot}', '${product_dir}']},
    'probes': at_least_three_probes(),
}


def a_product_that_makes_machines_shut_down_is_caught_at_the_third_interruption(programs):
    with World(programs) as world:
        devices = [world.device(manifest=SHUTS_DOWN) for _ in range(4)]
        up(devices)
        first = running(devices[0])
        release = world.release({'shuts-down': ''}, **SHUTS_DOWN)
        machines = [Machine(device) for device in devices]
        try:
            rollout = world.rollout(release, soak='5s', deadline='30s')
            wait_until('halted', lambda: world.plane.rollout(rollout)['state'] == 'halted', 60, 0.2)
            for device in devices:
                wait_until(f'{device.name} is back', lambda d=device: running(d) == first and
                           d.state(PRODUCT) == 'idle', 30)
        finally:
            for machine in machines:
                machine.end()
        lines = events(world, rollout)
        silent = [line for line in lines if line.get('decision') == 'silent']
        expect(silent, 'nobody counted as silent:', lines[-12:])
        halt = next(line for line in lines if line.get('decision') == 'halt')
        for device in {line['device'] for line in silent}:
            told = [line for line in lines if line.get('event') == 'outcome' and
                    line['device'] == device and line['outcome'] == 'interrupted']
            expect(len(told) == 3, f'{len(told)} interruptions of {device[:12]}', told)
        expect(min(line['t'] for line in silent) <= halt['t'], silent, halt)
        view = world.plane.rollout(rollout)
        expect(view['healthy'] == 0 and view['silent'] >= 2, view)
        for device in devices:
            expect(whole(device) == first, device.name)
        # And it is not tried again.
        time.sleep(3)
        for device in devices:
            expect(running(device) == first and device.alive(), device.name)


def a_machine_that_never_comes_back_counts_as_silent_in_the_end(programs):
    with World(programs) as world:
        device = up([world.device()])[0]
        rollout = world.rollout(world.release(probes=at_least_three_probes()), soak='4s',
                                deadline='6s', interrupted_for='8s')
        settle(device, 'soaking')
        time.sleep(0.5)
        shut_down(device)
        time.sleep(4)
        expect(world.plane.rollout(rollout)['failed'] == 0, 'too early')
        wait_until('silent', lambda: world.plane.rollout(rollout)['silent'] == 1, 15)
        device.reboot()
        settle(device, 'confirmed', 'idle')
        view = world.plane.rollout(rollout)
        expect(view['silent'] == 1 and view['healthy'] == 0, 'the evidence stays as it was', view)


TESTS = (an_orderly_shutdown_in_soak_is_no_failure_and_ends_healthy_after_the_restart,
         two_interruptions_are_forgiven,
         a_product_that_makes_machines_shut_down_is_caught_at_the_third_interruption)
SLOW_TESTS = (a_machine_that_never_comes_back_counts_as_silent_in_the_end,)

if __name__ == '__main__':
    main(TESTS, SLOW_TESTS)
