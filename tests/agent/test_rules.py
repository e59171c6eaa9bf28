"""First use from nothing, one trial a device, removal, and a user other than root."""
import json
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import time

from agent_support import (MANIFEST, POLICY, PRODUCT, World, expect, run_all, running, settle, wait_until,
                           whole)

HOLDS = {'asked', 'marked', 'active', 'soaking', 'interrupted', 'reported', 'reverting'}
OTHER = 'other'

# A product that is a process: `activate` replaces it, `deactivate` ends it.
START = '''set -e
test ! -e "$2/pid" || kill "$(cat "$2/pid")" 2>/dev/null || true
setsid sh -c 'trap "" HUP; while :; do sleep 0.1; done' </dev/null >/dev/null 2>&1 &
echo $! >"$2/pid"
cp "$1/digest" "$2/running"
cp "$1/payload/data" "$2/data"
'''
END = '''echo . >>"$1/deactivations"
test ! -e "$1/pid" || kill "$(cat "$1/pid")"
rm -f "$1/pid" "$1/running"
'''
PROCESS = {
    'permissions': ['files', 'restart'],
    'adapter': {'kind': 'command', 'mode': 'restart', 'timeout': '5s',
                'activate': ['/bin/sh', '-c', START, 'start', '${slot}', '${product_dir}'],
                'deactivate': ['/bin/sh', '-c', END, 'end', '${product_dir}']},
    'probes': [{'name': 'alive', 'kind': 'exec', 'interval': '200ms', 'timeout': '5s',
                'command': ['/bin/sh', '-c', 'kill -0 "$(cat "$1/pid")" && ! grep -q bad "$1/data"',
                            'alive', '${product_dir}']}],
}


def alive(device):
    try:
        pid = int((device.product_dir / 'pid').read_text())
        return b'while' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
    except (OSError, ValueError):
        return False


def end_process(device):
    try:
        os.kill(int((device.product_dir / 'pid').read_text()), 9)
    except (OSError, ValueError):
        pass


def ready(world, **options):
    device = world.device(**options).start()
    wait_until('it is adopted', lambda: 'the way back' in device.log(), timeout=20)
    return device


def remove(device, *options, wait=True):
    process = subprocess.Popen([device.agent, 'remove', *options, '--root', str(device.root)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=device.environment())
    return (process, *process.communicate(timeout=60)) if wait else process


def from_nothing_a_device_takes_its_first_release_and_goes_back_to_nothing_on_a_halt(programs):
    with World(programs) as world:
        device = world.device(adopt=False).start()
        release = world.release(**PROCESS)
        rollout = world.rollout(release)
        try:
            settle(device, 'confirmed')
            expect(alive(device) and device.current(PRODUCT) == release, 'it runs')
            world.halt(rollout, '--now')
            wait_until('it is gone', lambda: not alive(device) and not device.current(PRODUCT))
            settle(device, 'idle')
        finally:
            end_process(device)


def from_nothing_a_release_that_fails_leaves_nothing_running(programs):
    with World(programs) as world:
        device = world.device(adopt=False).start()
        release = world.release({'data': 'bad\n'}, **PROCESS)
        rollout = world.rollout(release)
        try:
            wait_until('it failed', lambda: world.plane.rollout(rollout)['failed'] == 1)
            settle(device, 'idle')
            expect((device.product_dir / 'deactivations').read_text() == '.\n', 'deactivated once')
            expect(not alive(device) and device.current(PRODUCT) is None, 'nothing runs')
            expect(release in (device.root / 'var/lib/maeslant/rejected').read_text(), 'rejected')
            # What repairs it is taken, again from nothing.
            second = world.release(**PROCESS)
            world.rollout(second)
            settle(device, 'confirmed')
            expect(alive(device) and device.current(PRODUCT) == second, 'it runs')
        finally:
            end_process(device)


def from_nothing_a_cut_in_the_first_trial_leaves_nothing_running(programs):
    with World(programs) as world:
        device = world.device(adopt=False).start()
        world.rollout(world.release(**PROCESS), soak='30s')
        try:
            settle(device, 'soaking')
            device.kill()
            world.plane.kill()
            device.reboot()
            settle(device, 'idle')
            expect(not alive(device) and device.current(PRODUCT) is None, 'nothing runs')
        finally:
            end_process(device)


def a_release_without_deactivate_is_no_first_release(programs):
    with World(programs) as world:
        device = world.device(adopt=False).start()
        rollout = world.rollout(world.release())
        wait_until('blocked', lambda: device.blocked(PRODUCT) == 'no-way-back')
        expect(world.plane.rollout(rollout)['permits'] == 0, 'no permit')


def add_product(world, device):
    """A second product on the device, like the first one."""
    folder = device.folder / 'other'
    shutil.copytree(device.product_dir, folder)
    (device.root / 'srv' / OTHER).mkdir(parents=True)
    (device.root / 'srv' / OTHER / 'data').write_text('initial\n')
    manifest = {**MANIFEST, 'product': OTHER, 'version': '0', 'sequence': 1}
    (device.root / f'srv/{OTHER}.yaml').write_text(
        ''.join(f'{key}: {json.dumps(value)}\n' for key, value in manifest.items()))
    path = device.root / 'etc/maeslant/agent.yaml'
    config = json.loads(path.read_text())
    config['products'][OTHER] = {
        **config['products'][PRODUCT], 'vars': {'product_dir': str(folder)},
        'adopt': {'content': f'/srv/{OTHER}', 'manifest': f'/srv/{OTHER}.yaml'}}
    path.write_text(json.dumps(config))


def two_products_of_one_device_never_hold_two_trials(programs):
    with World(programs) as world:
        device = world.device()
        add_product(world, device)
        device.start()
        wait_until('both are adopted', lambda: device.log().count('the way back') == 2)
        releases = {}
        for number in range(2):
            releases = {PRODUCT: world.release(), OTHER: world.release(product=OTHER)}
            for release in releases.values():
                world.rollout(release, soak='1s')
            samples, held = 0, set()
            end = time.monotonic() + 40
            while time.monotonic() < end:
                states = {name: device.state(name) for name in releases}
                holding = {name for name, state in states.items() if state in HOLDS}
                expect(len(holding) <= 1, 'two trials at once:', states)
                held |= holding
                samples += 1
                if all(device.current(name) == release and states[name] == 'confirmed'
                       for name, release in releases.items()):
                    break
                time.sleep(0.02)
            expect(held == {PRODUCT, OTHER} and samples > 50, held, samples)
            expect(all(device.current(name) == release for name, release in releases.items()),
                   'both arrived')


def a_newer_release_that_comes_during_a_trial_waits_for_it(programs):
    with World(programs) as world:
        device = ready(world)
        first = world.release()
        world.rollout(first, soak='4s')
        settle(device, 'soaking')
        second = world.release()
        policy = world.folder / 'newer.yaml'
        policy.write_text(json.dumps({**POLICY, 'soak': '1s'}))
        world.plane.run('rollout', 'start', second, '--policy', str(policy), '--supersede')
        order = []
        wait_until('the newer one is there', lambda: (
            order.append((device.journal(PRODUCT).get('release'), device.state(PRODUCT))),
            running(device) == second and device.state(PRODUCT) == 'confirmed')[1], pause=0.02,
            timeout=40)
        states = [state for release, state in order if release == first]
        expect('confirmed' in states and 'reverting' not in states, set(states))
        expect((first, 'soaking') in order and (second, 'soaking') in order, 'one after the other')


def deactivating(**more):
    return {'manifest': {'adapter': {**MANIFEST['adapter'], 'deactivate': [
        '/bin/sh', '-c', 'echo gone >"$1/running"', 'end', '${product_dir}']}}, **more}


def a_removal_waits_for_the_trial(programs):
    with World(programs) as world:
        device = ready(world, **deactivating())
        release = world.release(adapter=deactivating()['manifest']['adapter'])
        world.rollout(release, soak='3s')
        settle(device, 'soaking')
        process, out, text = remove(device, PRODUCT)
        expect(process.returncode == 0, out, text)
        expect('trial-confirmed' in device.log(), 'waited')
        expect('waits for the trial' in text and running(device) == 'gone', text)
        expect(not device.state_folder(PRODUCT).exists(), 'no state')
        wait_until('says so', lambda: device.blocked(PRODUCT) == 'removed')
        expect(device.alive() and device.stop() == 0, 'the agent goes on, and ends in order')
        expect(not device.state_folder(PRODUCT).exists(), 'still no state')


def a_removal_now_reverts_the_trial_first_and_holds_nothing_against_the_release(programs):
    with World(programs) as world:
        device = ready(world, **deactivating())
        first = running(device)
        release = world.release(adapter=deactivating()['manifest']['adapter'])
        rollout = world.rollout(release, soak='40s')
        settle(device, 'soaking')
        start = time.monotonic()
        process, out, text = remove(device, PRODUCT, '--now')
        expect(process.returncode == 0 and time.monotonic() - start < 5, out, text)
        ran = (device.product_dir / 'activations').read_text().split()
        expect(ran[-1].endswith(first), 'went back first', ran)
        expect(running(device) == 'gone' and not device.state_folder(PRODUCT).exists(), 'gone')
        rejected = device.root / 'var/lib/maeslant/rejected'
        expect(not rejected.exists() or release not in rejected.read_text(), 'not rejected')
        wait_until('the server knows', lambda: world.plane.rollout(rollout)['in_flight'] == 0)
        expect(not (device.root / 'var/lib/maeslant/trial').exists(), 'no trial is held')


def a_removal_that_would_leave_a_product_without_its_content_is_refused(programs):
    with World(programs) as world:
        device = ready(world)
        process, _, text = remove(device, PRODUCT)
        expect(process.returncode == 1 and 'deactivate' in text and '--force' in text, text)
        expect(whole(device) == running(device), 'untouched')
        process, _, text = remove(device, 'nobody')
        expect(process.returncode == 1 and 'nobody' in text, text)
        world.rollout(world.release())
        settle(device, 'confirmed')
        process, _, text = remove(device, PRODUCT, '--force')
        expect(process.returncode == 0 and not device.state_folder(PRODUCT).exists(), text)


def without_an_agent_a_removal_leaves_a_trial_alone_unless_it_is_to_be_now(programs):
    with World(programs) as world:
        device = ready(world, **deactivating())
        first = running(device)
        world.rollout(world.release(adapter=deactivating()['manifest']['adapter']), soak='40s')
        settle(device, 'soaking')
        device.stop()
        process, _, text = remove(device, PRODUCT)
        expect(process.returncode == 1 and 'interrupted' in text and '--now' in text, text)
        process, _, text = remove(device, PRODUCT, '--now')
        expect(process.returncode == 0, text)
        ran = (device.product_dir / 'activations').read_text().split()
        expect(ran[-1].endswith(first) and running(device) == 'gone', ran)
        expect(not device.state_folder(PRODUCT).exists(), 'gone')


def owners(folder):
    return {path: path.lstat().st_uid for path in [folder, *folder.rglob('*')]}


def an_agent_with_another_user_leaves_nothing_of_roots_and_runs_its_commands_as_this_user(programs):
    if os.geteuid() != 0:
        return
    user = pwd.getpwnam('daemon')
    with World(programs) as world:
        world.folder.chmod(0o755)
        agent = world.folder / 'agent-of-anybody'
        shutil.copy(programs['maeslant-agent'], agent)
        agent.chmod(0o755)
        who = ['/bin/sh', '-c', 'id -u >>"$1/ids"; id -G >>"$1/ids"; exec sh "$1/activate" "$2" "$1"',
               'who', '${product_dir}', '${slot}']
        manifest = {'adapter': {**MANIFEST['adapter'], 'activate': who}}
        device = world.device(manifest=manifest)  # enrolled by root
        for path in [device.product_dir, *device.product_dir.rglob('*')]:
            os.chown(path, user.pw_uid, user.pw_gid)
        state = device.root / 'var/lib/maeslant'
        expect(0 in owners(state).values(), 'root enrolled it')
        log = open(device.log_path, 'ab')
        device.process = subprocess.Popen(
            [str(agent), 'run', '--root', str(device.root), '--user', 'daemon'],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=device.environment())
        log.close()
        release = world.release(**manifest)
        world.rollout(release)
        settle(device, 'confirmed')
        status = pathlib.Path(f'/proc/{device.process.pid}/status').read_text()
        ids = [line.split()[1:] for line in status.splitlines() if line.startswith(('Uid:', 'Gid:'))]
        expect(ids == [[str(user.pw_uid)] * 4, [str(user.pw_gid)] * 4], ids)
        ran = (device.product_dir / 'ids').read_text().split()
        expect(set(ran) == {str(user.pw_uid)} | {str(g) for g in os.getgrouplist(
            'daemon', user.pw_gid)}, ran)
        for folder in (state, device.root / 'run/maeslant'):
            mine = owners(folder)
            expect(set(mine.values()) == {user.pw_uid}, {str(p): u for p, u in mine.items()
                                                        if u != user.pw_uid})
        # A file that somebody of that user gave a second name is not his by our doing.
        device.stop()
        secret = world.folder / 'secret'
        secret.write_text('root only')
        os.link(secret, state / 'mine')
        device.process = subprocess.Popen(
            [str(agent), 'run', '--once', '--root', str(device.root), '--user', 'daemon'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=device.environment())
        device.process.wait(30)
        expect(secret.stat().st_uid == 0, 'still of root')


TESTS = [test for name, test in list(globals().items())
         if callable(test) and getattr(test, '__module__', '') == __name__ and
         name not in ('alive', 'end_process', 'ready', 'remove', 'add_product', 'deactivating',
                      'owners')]

if __name__ == '__main__':
    names = ('maeslant', 'maeslant-agent', 'maeslant-agent-test')
    sys.exit(run_all(TESTS, dict(zip(names, sys.argv[1:]))))
