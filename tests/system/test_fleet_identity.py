"""Who a device is: clones, retirement, enrolment again, tokens for several."""
import json
import shutil
import subprocess
import time

from fleet_support import (PRODUCT, World, at_least_three_probes, expect, log_of, main, running,
                           settle, up, wait_until)


def device_id(device):
    return wait_until(f'{device.name} says who it is', lambda: device.status().get('device'), 20)


def enroll(device, token, check=True):
    path = device.folder / 'token'
    path.write_text(token + '\n')
    result = subprocess.run([device.agent, 'enroll', '--root', str(device.root), '--token-file',
                             str(path)], capture_output=True, text=True, timeout=60,
                            env=device.environment())
    expect(not check or result.returncode == 0, result.stdout, result.stderr)
    return result


def copy_of(world, device):
    """The same disk in a second machine, as an image that was taken too late."""
    twin = world.device(enroll=False)
    shutil.rmtree(twin.root)
    shutil.copytree(device.root, twin.root, symlinks=True)
    config = twin.root / 'etc/maeslant/agent.yaml'
    config.write_text(config.read_text().replace(str(device.product_dir), str(twin.product_dir)))
    (twin.product_dir / 'running').write_text((device.product_dir / 'running').read_text())
    shutil.copy(device.product_dir / 'data', twin.product_dir / 'data')
    return twin


def two_machines_with_one_key_are_both_quarantined_and_a_person_is_told(programs):
    with World(programs) as world:
        device, other = up([world.device(), world.device()])
        release = world.release(probes=at_least_three_probes())
        world.rollout(release, soak='1s')
        for each in (device, other):
            settle(each, 'confirmed')
        name = device_id(device)
        device.stop()
        twin = copy_of(world, device)
        device.start()
        twin.start()
        # Each goes on with the counter that it has; both restart, as machines do.
        wait_until('they collide', lambda: log_of(world, 'device-clone') or
                   (again(device), again(twin)) and False, 40, 1)
        entry = log_of(world, 'device-clone')[0]
        expect(entry['device'] == name, entry)
        expect('quarantined' in entry['text'], entry['text'])
        view = world.plane.ask('device', 'show', name)
        expect(view['standing'] == 'quarantined', view['standing'])
        # Neither is given a permit any more; the fleet goes on without them.
        next_release = world.release(probes=at_least_three_probes())
        rollout = world.rollout(next_release, soak='1s')
        settle(other, 'confirmed')
        wait_until('the other has it', lambda: running(other) == next_release, 20)
        time.sleep(2)
        for each in (device, twin):
            expect(running(each) == release, each.name, 'got a permit')
            expect('in use twice' in each.log(), each.name, 'does not say why')
        expect(world.plane.rollout(rollout)['permits'] == 1, 'one permit')
        # A person enrols one of them again, as a machine of its own.
        twin.stop()
        device.stop()
        for part in ('device.key', 'certificate.json', 'bundle.json', 'counter'):
            (twin.root / 'var/lib/maeslant' / part).unlink(missing_ok=True)
        (twin.root / 'etc/machine-id').write_text('f' * 32 + '\n')
        enroll(twin, world.plane.token('acme', 1))
        twin.start()
        wait_until('the twin has it', lambda: running(twin) == next_release, 30)
        expect(device_id(twin) != name, 'a device of its own')


def again(device):
    device.stop()
    device.reboot()


def a_device_that_enrols_again_keeps_its_history_until_it_is_retired(programs):
    with World(programs) as world:
        device = up([world.device()])[0]
        release = world.release(probes=at_least_three_probes())
        rollout = world.rollout(release, soak='1s')
        settle(device, 'confirmed')
        name = device_id(device)
        seq = world.plane.ask('device', 'show', name)['seq']
        device.stop()
        # With the same key, the same machine and a new token it is the same device.
        enroll(device, world.plane.token('acme', 1))
        device.start()
        second = world.release(probes=at_least_three_probes())
        rollout_two = world.rollout(second, soak='1s')
        wait_until('it runs the second', lambda: running(device) == second and
                   device.state(PRODUCT) == 'confirmed', 40)
        view = world.plane.ask('device', 'show', name)
        expect(view['standing'] == 'good' and view['seq'] > seq, view)
        known = json.dumps(view['rollouts'])
        expect(rollout in known and rollout_two in known, 'its history:', known)
        expect(len(world.plane.ask('device', 'list')['devices']) == 1, 'one device')

        world.plane.run('device', 'retire', name, '--reason', 'sold')
        view = world.plane.ask('device', 'show', name)
        expect(view['standing'] == 'retired', view['standing'])
        expect(any(entry['device'] == name and 'sold' in entry['text']
                   for entry in log_of(world)), 'the log says why')
        third = world.release(probes=at_least_three_probes())
        rollout = world.rollout(third, soak='1s')
        wait_until('refused', lambda: 'retired' in device.log(), 20)
        time.sleep(2)
        expect(running(device) == second and world.plane.rollout(rollout)['permits'] == 0,
               'no permit')
        device.stop()
        refused = enroll(device, world.plane.token('acme', 1), check=False)
        expect(refused.returncode == 1 and 'Remove device.key' in refused.stderr, refused.stderr)
        # The machine goes on as a new device.
        (device.root / 'var/lib/maeslant/device.key').unlink()
        enroll(device, world.plane.token('acme', 1))
        device.start()
        wait_until('it runs the third', lambda: running(device) == third, 40)
        devices = world.plane.ask('device', 'list')['devices']
        standings = sorted(each['standing'] for each in devices)
        expect(standings == ['good', 'retired'], standings)


def a_device_that_comes_when_the_rollout_is_done_gets_the_release_too(programs):
    with World(programs) as world:
        early = up([world.device() for _ in range(2)])
        release = world.release(probes=at_least_three_probes())
        rollout = world.rollout(release, soak='1s', placebo='pairs')
        for device in early:
            settle(device, 'confirmed', timeout=40)
        wait_until('done', lambda: world.plane.rollout(rollout)['state'] == 'done', 20)
        # One alone: it may be a placebo without a partner first.
        late = up([world.device()])[0]
        wait_until('it has it', lambda: running(late) == release and
                   late.state(PRODUCT) == 'confirmed', 40)


def a_token_is_good_for_as_many_devices_as_it_says(programs):
    with World(programs) as world:
        token = world.plane.token('acme', 3)
        devices = [world.device(enroll=False) for _ in range(4)]
        for device in devices[:3]:
            enroll(device, token)
        refused = enroll(devices[3], token, check=False)
        expect(refused.returncode == 1 and 'token-used-up' in refused.stderr + refused.stdout or
               'used up' in refused.stderr, refused.stderr)
        expect(not (devices[3].root / 'var/lib/maeslant/certificate.json').exists(), 'nothing kept')
        # One that is in may enrol again with it? No: a use is a use. With a new one it may.
        enroll(devices[3], world.plane.token('acme', 1))
        expect(len(world.plane.ask('device', 'list')['devices']) == 4, 'four devices')
        wrong = enroll(devices[0], 'not-a-token', check=False)
        expect(wrong.returncode == 1, wrong.stdout)
        expired = world.plane.ask('device', 'enroll', '--organisation', 'acme', '--expires', '1s')
        time.sleep(1.2)
        late = enroll(devices[0], expired['token'], check=False)
        expect(late.returncode == 1 and 'expired' in late.stderr, late.stderr)


TESTS = (a_device_that_comes_when_the_rollout_is_done_gets_the_release_too,
         two_machines_with_one_key_are_both_quarantined_and_a_person_is_told,
         a_device_that_enrols_again_keeps_its_history_until_it_is_retired,
         a_token_is_good_for_as_many_devices_as_it_says)

if __name__ == '__main__':
    main(TESTS)
