"""Content that a package brought: `link` takes it in, diverts the package's files, gives them back.

A real dpkg below the device's root, with tiny packages made here; skipped where the tests are not
root or there is no dpkg.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

from agent_support import (MANIFEST, PRODUCT, World, expect, run_all, running, settle, wait_until,
                           whole)

LINK = '/usr/share/tiny/content'
NOT_HERE = 77


def build_package(folder, version, files):
    """A package `tiny-content` with these files below LINK, and one outside of it."""
    tree = folder / f'package-{version}'
    (tree / 'DEBIAN').mkdir(parents=True)
    (tree / 'DEBIAN/control').write_text(
        f'Package: tiny-content\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@e.x>\n'
        'Description: content of a tiny product\n')
    for name, text in {**{f'{LINK}/{name}': text for name, text in files.items()},
                       '/usr/share/doc/tiny/readme': version}.items():
        place = tree / name.lstrip('/')
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    deb = folder / f'tiny-{version}.deb'
    subprocess.run(['dpkg-deb', '--build', '--root-owner-group', tree, deb], check=True,
                   capture_output=True)
    return deb


def dpkg(device, *arguments):
    result = subprocess.run(['dpkg', f'--root={device.root}', '--log=/dev/null', *arguments],
                            capture_output=True, text=True,
                            env={**os.environ, 'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'})
    expect(result.returncode == 0, arguments, result.stdout, result.stderr)
    return result.stdout


def make_dpkg(device):
    for name in ('info', 'updates', 'parts', 'triggers', 'alternatives'):
        (device.root / 'var/lib/dpkg' / name).mkdir(parents=True)
    (device.root / 'var/lib/dpkg/status').write_text('')


def configure(device, **members):
    path = device.root / 'etc/maeslant/agent.yaml'
    config = json.loads(path.read_text())
    config['products'][PRODUCT].update(members)
    path.write_text(json.dumps(config))


def packaged(world, files=None, **members):
    """A device with version 1 installed, and `link` at its content; not started yet."""
    device = world.device(adopt=False)
    make_dpkg(device)
    dpkg(device, '-i', str(build_package(world.folder, '1', files or
                                         {'data': 'package 1\n', 'deep/more': 'one\n'})))
    (device.root / 'srv').mkdir(exist_ok=True)
    first = {**MANIFEST, 'version': '0', 'sequence': 1}
    (device.root / 'srv/tiny.yaml').write_text(
        ''.join(f'{key}: {json.dumps(value)}\n' for key, value in first.items()))
    configure(device, link=LINK, adopt={'manifest': '/srv/tiny.yaml'}, **members)
    return device


def place(device, name=''):
    return device.root / LINK.lstrip('/') / name


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text()
            for path in sorted(pathlib.Path(folder).rglob('*')) if path.is_file()}


def adopted(device):
    wait_until('it is adopted', lambda: 'runs' in device.log() and 'the way back' in device.log(),
               timeout=30)


def ask(device, *arguments):
    return subprocess.run([device.agent, *arguments, '--root', str(device.root)], text=True,
                          capture_output=True, timeout=60, env=device.environment())


def diversions(device):
    path = device.root / 'var/lib/dpkg/diversions'
    return path.read_text().splitlines()[::3] if path.exists() else []


def an_upgrade_of_a_package_never_writes_into_a_slot_and_removal_gives_it_its_files(programs):
    with World(programs) as world:
        device = packaged(world)
        (place(device) / 'local').write_text('of the administrator\n')
        device.start()
        adopted(device)
        expect(place(device).is_symlink() and (place(device, 'data').read_text() == 'package 1\n'),
               'a link into the slot')
        expect(sorted(diversions(device)) == [f'{LINK}/data', f'{LINK}/deep/more'],
               diversions(device))
        expect(dpkg(device, '--verify') == '', 'dpkg finds its files')
        second = world.release({'data': 'release\n'})
        world.rollout(second)
        settle(device, 'confirmed')
        payload = device.state_folder(PRODUCT) / 'slots' / second / 'payload'
        before = tree(payload)
        expect(place(device, 'data').read_text() == 'release\n', 'read through the link')

        dpkg(device, '-i', str(build_package(world.folder, '2', {
            'data': 'package 2\n', 'deep/more': 'two\n'})))
        expect(tree(payload) == before, tree(payload))
        wait_until('no folder of it stays in the slot', lambda: not (payload / 'deep').exists())
        expect(place(device).is_symlink() and whole(device) == second, 'still ours')
        verified = dpkg(device, '--verify')
        expect('data' not in verified and 'more' not in verified, verified)
        doctor = ask(device, 'doctor', '--offline')
        expect(doctor.returncode == 0, doctor.stdout)

        done = ask(device, 'remove', PRODUCT, '--force')
        expect(done.returncode == 0, done.stdout, done.stderr)
        expect(not place(device).is_symlink() and tree(place(device)) == {
            'data': 'package 2\n', 'deep/more': 'two\n', 'local': 'of the administrator\n'},
            tree(place(device)))
        expect(diversions(device) == [] and dpkg(device, '--verify') == '', 'all given back')
        expect(not device.state_folder(PRODUCT).exists(), 'no state is left')


def what_a_later_package_adds_below_the_link_is_found_by_doctor_who_names_the_way_out(programs):
    with World(programs) as world:
        device = packaged(world).start()
        adopted(device)
        dpkg(device, '-i', str(build_package(world.folder, '2', {
            'data': 'package 2\n', 'deep/more': 'two\n', 'added': 'new\n'})))
        doctor = json.loads(ask(device, 'doctor', '--offline', '--json').stdout)
        lines = [line for line in doctor['checks'] if 'added' in line['text']]
        expect(len(lines) == 1 and lines[0]['result'] == 'fail' and
               'tiny-content' in lines[0]['text'], doctor)
        # Its way out, as typed.
        command = lines[0]['way_out'].split(': ', 1)[1].split()
        expect(command[0] == 'dpkg-divert', command)
        subprocess.run([command[0], f'--root={device.root}', *command[1:]], check=True,
                       capture_output=True)
        doctor = ask(device, 'doctor', '--offline')
        expect(doctor.returncode == 0, doctor.stdout)
        expect(not place(device, 'added').exists() and dpkg(device, '--verify') == '', 'moved out')


def a_device_that_refuses_packaged_paths_adopts_nothing_and_names_the_package(programs):
    with World(programs) as world:
        device = packaged(world, paths_owned_by_packages='refuse').start()
        wait_until('blocked', lambda: device.blocked(PRODUCT) == 'package-owned')
        expect('tiny-content' in device.log(), device.log())
        expect(not place(device).is_symlink() and diversions(device) == [], 'untouched')
        doctor = ask(device, 'doctor', '--offline')
        expect('tiny-content' in doctor.stdout, doctor.stdout)
        rollout = world.rollout(world.release())
        import time
        time.sleep(3)
        expect(world.plane.rollout(rollout)['permits'] == 0, 'no permit')
        dpkg(device, '--remove', 'tiny-content')
        expect(not place(device).exists(), 'the package went')


def an_adoption_that_is_cut_anywhere_completes_at_the_next_start(programs):
    for point in ('link-diverted', 'link-beside', 'link-exchanged', 'link-moved', 'link-given',
                  'link-made', 'slot-renamed', 'link-current'):
        with World(programs) as world:
            device = packaged(world)
            device.start(program=str(world.bin / 'maeslant-agent-test'),
                         env={'MAESLANT_AGENT_CRASH_AT': point})
            expect(device.process.wait(30) == -signal.SIGKILL, 'expected to die at', point)
            expect(place(device, 'data').read_text() == 'package 1\n', point, 'readable throughout')
            device.reboot()
            adopted(device)
            expect(place(device).is_symlink(), point)
            expect(dpkg(device, '--verify') == '', point)
            expect(tree(device.state_folder(PRODUCT) / 'diverted/package') ==
                   {'data': 'package 1\n', 'deep/more': 'one\n'}, point)
            left = os.listdir(place(device).parent)
            expect(left == ['content'], point, left)


def a_removal_that_is_cut_anywhere_completes_at_the_next_start(programs):
    for point in ('restore-taken', 'link-moved', 'link-exchanged', 'restore-undiverted',
                  'remove-renamed'):
        with World(programs) as world:
            device = packaged(world).start()
            adopted(device)
            device.stop()
            killed = subprocess.run(
                [str(world.bin / 'maeslant-agent-test'), 'remove', PRODUCT, '--force', '--root',
                 str(device.root)], capture_output=True, text=True,
                env={**device.environment(), 'MAESLANT_AGENT_CRASH_AT': point})
            expect(killed.returncode == -signal.SIGKILL, point, killed)
            done = ask(device, 'remove', PRODUCT, '--force')
            expect(done.returncode == 0, point, done.stderr)
            expect(tree(place(device)) == {'data': 'package 1\n', 'deep/more': 'one\n'}, point)
            expect(not place(device).is_symlink() and diversions(device) == [], point)
            expect(not device.state_folder(PRODUCT).exists(), point)
            expect(os.listdir(place(device).parent) == ['content'], point)


def content_on_another_file_system_is_taken_in_and_given_back_with_owner_and_mode(programs):
    with World(programs) as world:
        share = world.folder / 'device-1/root/usr/share'
        share.mkdir(parents=True)
        mounted = subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', str(share)], capture_output=True)
        if mounted.returncode != 0:
            print('no tmpfs may be mounted here: left out')
            return
        try:
            device = packaged(world)
            os.chown(place(device, 'data'), 1, 1)
            place(device, 'data').chmod(0o640)
            (place(device) / 'local').write_text('x')
            (place(device) / 'local').chmod(0o600)
            device.start(program=str(world.bin / 'maeslant-agent-test'),
                         env={'MAESLANT_AGENT_CRASH_AT': 'link-moved'})
            expect(device.process.wait(30) == -signal.SIGKILL, 'died')
            device.start()
            adopted(device)
            expect(place(device).is_symlink() and dpkg(device, '--verify') == '', 'taken in')
            done = ask(device, 'remove', PRODUCT)
            expect(done.returncode == 0, done.stderr)
            status = place(device, 'data').stat()
            expect((status.st_uid, status.st_gid, status.st_mode & 0o777) == (1, 1, 0o640), status)
            expect(place(device, 'local').stat().st_mode & 0o777 == 0o600, 'its mode')
            expect(sorted(os.listdir(place(device).parent)) == ['content'], 'nothing beside it')
        finally:
            subprocess.run(['umount', '-l', str(share)], check=False)


def a_link_that_a_package_took_away_is_there_again_after_the_next_start(programs):
    with World(programs) as world:
        device = packaged(world).start()
        adopted(device)
        dpkg(device, '--remove', 'tiny-content')
        place(device).unlink(missing_ok=True)
        device.stop()
        device.start()
        wait_until('it is there', lambda: place(device, 'data').exists())
        expect(place(device, 'data').read_text() == 'package 1\n', 'the slot is whole')


TESTS = [test for name, test in list(globals().items())
         if callable(test) and getattr(test, '__module__', '') == __name__ and
         name not in ('build_package', 'dpkg', 'make_dpkg', 'configure', 'packaged', 'place', 'tree',
                      'adopted', 'ask', 'diversions')]

if __name__ == '__main__':
    if os.geteuid() != 0 or not shutil.which('dpkg-divert') or not shutil.which('dpkg-deb'):
        print('skipped: needs root and dpkg')
        sys.exit(NOT_HERE)
    names = ('maeslant', 'maeslant-agent', 'maeslant-agent-test')
    sys.exit(run_all(TESTS, dict(zip(names, sys.argv[1:]))))
