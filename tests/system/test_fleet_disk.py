"""A full disk on the device: declined before anything begins, nothing lost, one whole release."""
import os
import subprocess
import time

from fleet_support import (PRODUCT, World, at_least_three_probes, blocked, expect, main, running,
                           settle, wait_until, whole)

SIZE = 32 * 1024 * 1024


class Disk:
    """The device's own file system below var: a tmpfs of 32 MiB. Needs root, or says so."""

    def __init__(self, device):
        self.path = device.root / 'var'
        self.path.mkdir(parents=True, exist_ok=True)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={SIZE}', 'tmpfs', self.path],
                       check=True)
        self.ballast = self.path / 'ballast'

    def fill(self, leave=0):
        """Takes all but `leave` bytes."""
        self.ballast.unlink(missing_ok=True)
        file = os.open(self.ballast, os.O_WRONLY | os.O_CREAT, 0o600)
        left = os.statvfs(self.path).f_bavail * 4096 - leave
        try:
            while left >= 4096:
                left -= os.write(file, b'\0' * min(left, 1 << 20))
        except OSError:
            pass
        os.close(file)

    def free(self):
        self.ballast.unlink(missing_ok=True)

    def end(self):
        subprocess.run(['umount', '-l', self.path], check=False)


class Small:
    """A world with devices on small disks."""

    def __init__(self, programs, extra=None):
        self.world = World(programs)
        self.extra = {'min_free': '64KiB', **(extra or {})}
        self.disks = []

    def __enter__(self):
        self.world.__enter__()
        return self

    def __exit__(self, *what):
        for device in self.world.devices:
            if device.alive():
                device.kill()
        for disk in self.disks:
            disk.end()
        self.world.__exit__(*what)

    def device(self, **options):
        device = self.world.device(enroll=False, extra=self.extra, **options)
        disk = Disk(device)
        self.disks.append(disk)
        device.enroll()
        device.start()
        wait_until('adopted', lambda: running(device) and 'adopted' in device.log(), 30)
        return device, disk


def a_disk_that_is_too_small_declines_before_anything_begins(programs):
    with Small(programs) as small:
        world = small.world
        device, disk = small.device()
        first = running(device)
        disk.fill(1024 * 1024)
        release = world.release({'more': 'x' * 3_000_000}, probes=at_least_three_probes())
        rollout = world.rollout(release, soak='1s')
        blocked(device, 'disk')
        view = world.plane.rollout(rollout)
        expect(view['permits'] == 0 and view['failed'] == 0, view)
        expect(running(device) == first and whole(device) == first, 'nothing changed')
        left = [path.name for path in (device.state_folder(PRODUCT) / 'slots').iterdir()]
        expect(left == [first], 'nothing is left in the slots:', left)
        expect('min_free' in device.log(), 'the log says the way out')
        disk.free()
        settle(device, 'confirmed', timeout=40)
        expect(whole(device) == release, 'it goes on by itself')


def a_disk_that_fills_up_in_soak_loses_no_report_and_leaves_a_whole_release(programs):
    for bad in (False, True):
        with Small(programs) as small:
            world = small.world
            device, disk = small.device()
            first = running(device)
            release = world.release({'data': 'bad'} if bad else {}, probes=at_least_three_probes(
                '1s' if bad else '300ms'))
            rollout = world.rollout(release, soak='4s', deadline='60s')
            settle(device, 'soaking')
            disk.fill()
            if bad:
                # The verdict reaches the server though no byte of it could be kept.
                wait_until('told', lambda: world.plane.rollout(rollout)['failed'] == 1, 30)
                expect(device.current(PRODUCT) in (first, release), device.current(PRODUCT))
            else:
                time.sleep(6)
            whole(device)
            disk.free()
            wait_until('it ends', lambda: device.state(PRODUCT) in ('confirmed', 'idle') and
                       running(device) == device.current(PRODUCT), 40)
            view = world.plane.rollout(rollout)
            expect(view['healthy'] + view['failed'] == 1 and view['silent'] == 0, view)
            confirmed = device.state(PRODUCT) == 'confirmed'
            expect(whole(device) == (release if confirmed else first), 'one whole release')
            expect(confirmed == (view['healthy'] == 1), 'both sides say the same',
                   device.state(PRODUCT), view['healthy'])
            expect(not bad or not confirmed, 'a bad one was confirmed')
            expect(device.alive(), 'the agent lives')


def a_device_that_starts_on_a_full_disk_in_the_middle_of_a_trial_goes_back(programs):
    with Small(programs) as small:
        world = small.world
        device, disk = small.device()
        first = running(device)
        release = world.release(probes=at_least_three_probes())
        rollout = world.rollout(release, soak='30s', deadline='90s')
        settle(device, 'soaking')
        device.kill()
        disk.fill()
        device.reboot()
        wait_until('told', lambda: world.plane.rollout(rollout)['failed'] == 1, 30)
        wait_until('the old one runs', lambda: running(device) == first, 30)
        disk.free()
        settle(device, 'idle', timeout=70)
        expect(whole(device) == first, 'one whole release')
        time.sleep(2)
        expect(running(device) == first, 'and it stays')


def disks_that_fill_and_empty_at_random_moments_leave_one_whole_release(programs):
    with Small(programs) as small:
        world = small.world
        device, disk = small.device()
        known = {running(device)}
        for number in range(6):
            release = world.release(probes=at_least_three_probes('200ms'))
            known.add(release)
            rollout = world.rollout(release, soak='1s', deadline='40s')
            end = time.monotonic() + 3
            while time.monotonic() < end:
                disk.fill((number * 8192) % 40000)
                time.sleep(0.15)
                disk.free()
                time.sleep(0.1)
                expect(whole(device) in known, device.current(PRODUCT))
            if number < 5:
                world.halt(rollout, '--now')
        wait_until('it comes to rest', lambda: device.state(PRODUCT) in ('confirmed', 'idle') and
                   running(device) == device.current(PRODUCT), 60)
        expect(whole(device) in known and device.alive(), 'one whole release')


def a_file_that_may_not_grow_is_a_full_disk(programs):
    # Without a file system of its own: RLIMIT_FSIZE makes every write beyond 64 KiB fail.
    with World(programs) as world:
        device = world.device()
        limited = world.folder / 'limited'
        limited.write_text(f'#!/bin/sh\nexec prlimit --fsize=65536 -- {device.agent} "$@"\n')
        limited.chmod(0o755)
        device.start(program=str(limited))
        wait_until('adopted', lambda: running(device) and 'adopted' in device.log(), 30)
        first = running(device)
        payload = ''.join(f'{number * 2654435761 % 4294967296:x}' for number in range(100000))
        rollout = world.rollout(world.release({'more': payload}, probes=at_least_three_probes()),
                                soak='1s')
        blocked(device, 'disk')
        expect(world.plane.rollout(rollout)['permits'] == 0, 'no permit')
        expect(device.alive() and whole(device) == first, 'as before')
        device.stop()
        device.start()
        settle(device, 'confirmed', timeout=40)


MAY_MOUNT = os.geteuid() == 0 and subprocess.run(
    ['unshare', '--mount', 'true'], capture_output=True, check=False).returncode == 0
TESTS = (*((a_disk_that_is_too_small_declines_before_anything_begins,
            a_disk_that_fills_up_in_soak_loses_no_report_and_leaves_a_whole_release,
            a_device_that_starts_on_a_full_disk_in_the_middle_of_a_trial_goes_back)
           if MAY_MOUNT else ()),
         a_file_that_may_not_grow_is_a_full_disk)
SLOW_TESTS = (
    (disks_that_fill_and_empty_at_random_moments_leave_one_whole_release,) if MAY_MOUNT else ())

if __name__ == '__main__':
    if not MAY_MOUNT:
        print('# without the right to mount, only RLIMIT_FSIZE stands for a full disk', flush=True)
    main(TESTS, SLOW_TESTS)
