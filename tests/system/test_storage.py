"""A control plane whose storage is full, locked or damaged: it says so with the way out, takes
nothing that it can't keep, and loses nothing that it has acknowledged."""
import os
import pathlib
import random
import resource
import sqlite3
import subprocess
import tempfile
import time

from support import (World, check_fold, decisions, device_client, events, expect, main, measured,
                     ok, problem)

dump = device_client.dump
MIN_FREE = 8 << 20


def set_min_free(world, size):
    config = world.plane.folder / 'server.yaml'
    lines = [line for line in config.read_text().splitlines() if not line.startswith('min_free')]
    config.write_text('\n'.join(lines + [f'min_free: {size}']) + '\n')


def refused_and_then_taken(world, client, call, body, mend, *in_detail):
    """A body is refused for the storage's sake; after mend() the same one is taken."""
    body = dump(body)
    refused = client.post_bytes(call, body)
    problem(refused, 503, 'storage', *in_detail)
    expect(int(refused.headers['retry-after']) >= 1, refused.headers)
    mend()
    end = time.monotonic() + 10
    while (answer := client.post_bytes(call, body)).status == 503:
        expect(time.monotonic() < end, 'the storage is well and nothing is taken:', answer)
        time.sleep(0.1)
    expect(answer.status == 200, answer)
    return answer


def free_bytes(folder):
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def fill(folder, leave):
    """Writes a file that leaves so many bytes free."""
    path = pathlib.Path(folder) / 'filler'
    with open(path, 'ab') as file:
        while (free := free_bytes(folder)) > leave:
            try:
                file.write(bytes(max(1, min(1 << 20, free - leave))))
                file.flush()
            except OSError:
                break
    return path


def a_full_disk_takes_nothing_and_loses_nothing(programs):
    mount = tempfile.mkdtemp(prefix='maeslant-system-full-')
    mounted = os.geteuid() == 0 and subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', mount],
        capture_output=True).returncode == 0
    if not mounted:
        os.rmdir(mount)
        print('# skipped: a small file system can only be mounted by root', flush=True)
        return
    try:
        with World(programs, plain=True, folder=mount) as world:
            world.plane.stop()
            set_min_free(world, '8MiB')
            world.plane.start()
            release = world.release()
            rollout = world.start(release, placebo='none')
            first, second = world.devices(2)
            permit = first.begin(release)

            filler = fill(mount, MIN_FREE // 2)
            expect(first.get('/v1/plans/tiny/stable').status == 200)
            problem(world.admin.ask('PUT', '/v1/admin/artifacts/' + '1' * 64 + '?offset=0&size=9',
                                    body=b'123456789'), 503, 'storage')
            paused = world.admin.post(f'rollouts/{rollout}/pause', reason='the disk is full')
            expect(paused['state'] == 'paused')
            refused_and_then_taken(world, first, 'report',
                                   first.report_body(permit['permit'], release, 'healthy'),
                                   filler.unlink, str(MIN_FREE))
            ok('a disk that is nearly full: 503 storage with the bytes; plans, pauses and halts go '
               'on; the same body is taken once there is room')
            world.admin.post(f'rollouts/{rollout}/resume', reason='room again')

            # Full to the last byte, without the server's own look at the disk.
            world.plane.stop()
            set_min_free(world, '0')
            world.plane.start()
            filler = fill(mount, 0)
            stuffed = None
            for _ in range(3000):
                stuffed = second.post('status', second.status_body(
                    attributes={f'a{i}': 'v' * 128 for i in range(64)}))
                if stuffed.status != 200:
                    break
            problem(stuffed, 503, 'storage', 'full')
            refused_and_then_taken(world, second, 'status', second.status_body(), filler.unlink,
                                   'full')
            ok('a disk that is full to the last byte: 503 storage says so, and the same body is '
               'taken once there is room')

            world.plane.kill()
            filler = fill(mount, 0)
            result = serve(programs, world)
            expect(result.returncode == 1 and ('full' in result.stderr or
                   'No space left' in result.stderr), result)
            ok('a start on a full disk ends with the reason')
            filler.unlink()
            world.plane.start()
            lines = check_fold(world, rollout)
            expect({line['device'] for line in decisions(lines, 'permit')} >= {first.id})
            expect(world.admin.rollout(rollout)['healthy'] == 1)
            expect(first.status()['answer'] == 'ok')
            ok('killed on a full disk and started with room again: nothing acknowledged is lost')
    finally:
        subprocess.run(['umount', '-l', mount], check=True)
        os.rmdir(mount)


def a_file_that_may_not_grow_is_a_full_disk(programs):
    """A limit on file sizes fails the store's writes in the middle of a transaction."""
    with World(programs, plain=True) as world:
        release = world.release()
        rollout = world.start(release, placebo='none')
        client = world.device()
        permit = client.begin(release)
        limits = resource.prlimit(world.plane.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(world.plane.process.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
        refused_and_then_taken(
            world, client, 'report', client.report_body(permit['permit'], release, 'healthy'),
            lambda: resource.prlimit(world.plane.process.pid, resource.RLIMIT_FSIZE, limits),
            'store.db', 'limits')
        expect(world.admin.rollout(rollout)['healthy'] == 1)
        world.restart()
        check_fold(world, rollout)
        ok('a write that fails half-way: 503 storage, undone, and the same body is taken later')


def hold(world, alone=False):
    """Another process's lock, until it is closed: on writing, or on everything."""
    lock = sqlite3.connect(world.plane.folder / 'store.db', isolation_level=None)
    if alone:
        lock.execute('PRAGMA locking_mode=EXCLUSIVE')
    lock.execute('BEGIN EXCLUSIVE')
    return lock


def a_locked_database_makes_everybody_wait_and_nobody_fail(programs):
    with World(programs, plain=True) as world:
        release = world.release()
        rollout = world.start(release, placebo='none', soak='100ms', deadline='1s')
        client, other = world.devices(2)
        permit = client.begin(release)
        lock = hold(world)
        locked = time.monotonic()
        expect(other.get('/v1/halts').status == 200)
        halting = world.admin.ask('POST', f'/v1/admin/rollouts/{rollout}/pause', {'reason': 'x'})
        problem(halting, 503, 'storage', 'store.db', 'fuser')
        body = client.report_body(permit['permit'], release, 'healthy')
        with measured() as span:
            problem(client.post('report', body), 503, 'storage', 'store.db', 'fuser')
        expect(span[0] < 3, span)

        def unlock():
            time.sleep(max(0, locked + 3 - time.monotonic()))
            lock.close()

        refused_and_then_taken(world, client, 'report', body, unlock, 'fuser')
        view = world.admin.rollout(rollout)
        expect(view['state'] == 'running' and view['healthy'] == 1 and view['silent'] == 0 and
               view['failed'] == 0, view)
        check_fold(world, rollout)
        ok('a database that another process holds: 503 storage says how to find it; the same body '
           'is taken later')
        ok('three seconds of a locked database with a deadline of one: nobody failed by it')

        world.plane.stop()
        lock = hold(world)
        world.plane.start()
        refused_and_then_taken(world, client, 'status', client.status_body(), lock.close, 'fuser')
        ok('a start while another process writes: it comes up, and goes on once it can write')
        world.plane.stop()
        lock = hold(world, alone=True)
        result = serve(programs, world)
        expect(result.returncode != 0 and 'store.db' in result.stderr and
               'another process' in result.stderr and 'fuser' in result.stderr, result)
        lock.close()
        world.plane.start()
        check_fold(world, rollout)
        ok('a start on a database that another process has for itself ends with the reason')
        result = serve(programs, world)
        expect(result.returncode != 0 and 'another server' in result.stderr, result)
        expect(client.status()['answer'] == 'ok')
        ok('a second server on the same folder ends with the reason; the first goes on')


def storage_that_comes_and_goes_under_load_loses_nothing(programs):
    with World(programs, plain=True) as world:
        release = world.release()
        clients = world.devices(36)
        rollout = world.start(release, harm_budget=8, soak='100ms', deadline='2s')
        fleet = device_client.SimulatedFleet(clients, lambda *_: ('healthy', None)).start()
        process = world.plane.process.pid
        limits = resource.prlimit(process, resource.RLIMIT_FSIZE)
        for step in range(6):
            time.sleep(0.35)
            if step % 2:
                resource.prlimit(process, resource.RLIMIT_FSIZE, (8192, limits[1]))
                time.sleep(0.5)
                resource.prlimit(process, resource.RLIMIT_FSIZE, limits)
            else:
                lock = hold(world)
                time.sleep(1.1)
                lock.close()
        end = time.monotonic() + 40
        path = f'/v1/admin/rollouts/{rollout}'
        while (answer := world.admin.ask('GET', path)).status == 503 or \
                answer.json['state'] != 'done':
            expect(time.monotonic() < end, 'the rollout does not end:', answer)
            time.sleep(0.1)
        fleet.stop()
        lines = check_fold(world, rollout)
        world.restart()
        expect(check_fold(world, rollout)[:len(lines)] == lines, 'the log changed')
        known = {(line['device'], line['arm'], line['outcome']) for line in events(lines, 'outcome')}
        reports = [(device, permit['arm'], outcome)
                   for device, permit, outcome in fleet.acknowledged]
        expect(set(reports) <= known and len(reports) >= 54, len(reports), len(known))
        expect(not decisions(lines, 'silent'), decisions(lines, 'silent'))
        expect(fleet.resent > 0, 'nothing was refused meanwhile: the test shows little')
        ok(f'six times without storage in the middle of a rollout, {fleet.resent} bodies sent again: all '
           f'of {len(reports)} acknowledged reports are there, and nobody failed by it')


def serve(programs, world):
    return subprocess.run([programs.maeslant, 'serve', str(world.plane.folder), '--plain',
                           '--listen', '127.0.0.1:0', '--allow-root'], capture_output=True,
                          text=True, timeout=20)


def a_damaged_database_is_not_served_and_not_touched(programs):
    with World(programs, plain=True) as world:
        release = world.release()
        rollout = world.start(release, placebo='none')
        clients = world.devices(40)
        for client in clients:
            permit = client.begin(release)
            client.report(permit, 'healthy')
        before = check_fold(world, rollout)
        world.plane.stop()
        store = world.plane.folder / 'store.db'
        good = store.read_bytes()
        expect(not (world.plane.folder / 'store.db-wal').exists() or
               not (world.plane.folder / 'store.db-wal').stat().st_size)
        chance = random.Random(5)

        def flipped(data):
            for page in range(1, len(data) // 4096, 3):
                for _ in range(40):
                    data[page * 4096 + chance.randrange(4096)] ^= 0xff

        damages = {
            'flipped bytes in its pages': flipped,
            'a header that is another file\'s': lambda data: data.__setitem__(
                slice(0, 16), b'PK\x03\x04' + bytes(12)),
            'a last half that is gone': lambda data: data.__delitem__(
                slice(len(data) // 2 // 4096 * 4096, None)),
            'zeroes for a page': lambda data: data.__setitem__(
                slice(8192, 12288), bytes(4096)),
        }
        for name, damage in damages.items():
            data = bytearray(good)
            damage(data)
            store.write_bytes(data)
            result = serve(programs, world)
            expect(result.returncode != 0, f'{name}: served')
            expect('store.db' in result.stderr and 'damaged' in result.stderr and
                   'backup' in result.stderr and '.recover' in result.stderr, name, result.stderr)
            expect(store.read_bytes() == bytes(data), f'{name}: the file was changed')
            ok(f'a database with {name}: refused with the way out, and left as it is')
        for name, damage in (('empty', lambda: store.write_bytes(b'')), ('gone', store.unlink)):
            damage()
            result = serve(programs, world)
            expect(result.returncode != 0 and f'store.db is {name}' in result.stderr and
                   'backup' in result.stderr, result.stderr)
            ok(f'a database that is {name}: no start without memory; the way out is said')
        store.write_bytes(good)
        world.plane.start()
        expect(check_fold(world, rollout)[:len(before)] == before)
        expect(world.admin.rollout(rollout)['healthy'] == 40)
        ok('the backup put back: everything is there')


if __name__ == '__main__':
    main([a_full_disk_takes_nothing_and_loses_nothing,
          a_file_that_may_not_grow_is_a_full_disk,
          a_locked_database_makes_everybody_wait_and_nobody_fail,
          storage_that_comes_and_goes_under_load_loses_nothing,
          a_damaged_database_is_not_served_and_not_touched])
