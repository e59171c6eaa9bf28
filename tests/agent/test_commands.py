"""The commands of the person at the machine, on a real device with and without its agent."""
import json
import os
import subprocess
import sys
import time

from agent_support import PRODUCT, World, expect, run_all, running, settle, wait_until

SECRET = 'hunter2-and-more'


def ask(device, *words, status=0):
    """Output of a command; fails when its exit status is another one."""
    done = subprocess.run([device.agent, *words, '--root', str(device.root)], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60, env=device.environment())
    expect(done.returncode == status, words, 'gave', done.returncode, done.stdout)
    return done.stdout


def running_device(world, **options):
    device = world.device(**options).start()
    wait_until('the first use', lambda: running(device), timeout=20)
    wait_until('it shows what runs', lambda: device.status().get('products', [{}])[0].get(
        'current') == device.current(PRODUCT) and device.status().get('enrolled'), timeout=20)
    return device


def lines_of(device, result, status, *words):
    report = json.loads(ask(device, 'doctor', '--json', *words, status=status))
    return [line['what'] + ': ' + line['text'] for line in report['checks']
            if line['result'] == result]


def status_shows_a_running_agent_and_a_trial(programs):
    with World(programs) as world:
        device = running_device(world)
        status = json.loads(ask(device, 'status', '--json'))
        expect(status['running'] and status['enrolled'], status)
        expect(status['products'][0]['current'] == device.current(PRODUCT), status)
        expect(status['products'][0]['version'] == '0', status)
        wait_until('a poll', lambda: 'next_poll' in device.status()['products'][0], timeout=20)
        text = ask(device, 'status')
        for part in ('runs, process', 'of acme', PRODUCT, 'next poll'):
            expect(part in text, part, 'in', text)
        world.rollout(world.release(), soak='20s')
        settle(device, 'soaking')
        text = ask(device, 'status')
        for part in ('a trial is on', 'soak ', ' of 20s', 'arm release'):
            expect(part in text, part, 'in', text)


def status_works_without_an_agent(programs):
    with World(programs) as world:
        device = running_device(world)
        device.kill()
        status = json.loads(ask(device, 'status', '--json'))
        expect(status['running'] is False, status)
        expect(status['products'][0]['current'] == device.current(PRODUCT), status)
        expect('does not run' in ask(device, 'status'), 'says so')
        (device.state_folder(PRODUCT) / 'journal').write_text('nonsense\n')
        status = json.loads(ask(device, 'status', '--json'))
        expect('journal' in status['products'][0]['trouble'], status)


def status_without_a_configuration_says_so(programs):
    with World(programs, start=False) as world:
        empty = world.folder / 'empty'
        empty.mkdir()
        done = subprocess.run([str(world.bin / 'maeslant-agent'), 'status', '--root', str(empty)],
                              text=True, capture_output=True)
        expect(done.returncode == 1 and 'agent.yaml' in done.stderr, done)
        expect(not list(empty.iterdir()), 'made nothing')


def doctor_finds_nothing_on_a_sound_device(programs):
    with World(programs, plain=False) as world:
        device = running_device(world)
        expect(lines_of(device, 'fail', 0) == [], 'no fail')
        fine = lines_of(device, 'ok', 0)
        for part in ('pinned CA', 'within', 'whole slot', 'probe good passes',
                     'the product runs', 'signed by the server', 'MiB free'):
            expect(any(part in line for line in fine), part, 'in', fine)


def doctor_names_each_trouble_with_a_way_out(programs):
    with World(programs) as world:
        device = running_device(world)
        slot = device.state_folder(PRODUCT) / 'slots' / device.current(PRODUCT)
        key = device.root / 'var/lib/maeslant/device.key'
        device.kill()
        os.chmod(key, 0o644)
        (slot / 'payload/data').write_text('touched\n')
        (device.product_dir / 'sick').write_text('')
        (device.product_dir / 'running').write_text('f' * 64 + '\n')
        (device.state_folder(PRODUCT) / 'journal').write_text('maeslant-journal 1\n')
        world.plane.kill()
        failed = lines_of(device, 'fail', 1)
        for part in ('device.key has mode 0644', 'not as it was staged', 'probe good',
                     'the product runs ffffffffffff', 'journal', 'server: '):
            expect(any(part in line for line in failed), part, 'in', failed)
        text = ask(device, 'doctor', status=1)
        expect('chmod go-rwx' in text and '-> ' in text, text)


def doctor_sees_another_servers_certificate(programs):
    with World(programs, plain=False) as world, World(programs, plain=False) as other:
        device = running_device(world)
        (device.root / 'etc/maeslant/ca.pem').write_bytes(
            open(other.plane.ca, 'rb').read())
        report = json.loads(ask(device, 'doctor', '--json', status=1))
        server = [line for line in report['checks'] if line['what'] == 'server']
        expect(server[0]['result'] == 'fail' and 'CA' in server[0]['way_out'], server)


def doctor_reads_the_line_of_a_broken_configuration(programs):
    with World(programs, start=False) as world:
        root = world.folder / 'root'
        (root / 'etc/maeslant').mkdir(parents=True)
        (root / 'etc/maeslant/agent.yaml').write_text('server: https://x\nca: /x\npoll: fast\n')
        done = subprocess.run([str(world.bin / 'maeslant-agent'), 'doctor', '--root', str(root)],
                              text=True, capture_output=True)
        expect(done.returncode == 1 and 'agent.yaml:3' in done.stdout, done)


def a_snooze_keeps_trials_away_until_it_ends(programs):
    with World(programs) as world:
        device = running_device(world)
        before = device.current(PRODUCT)
        expect('snoozed for 1h' in ask(device, 'snooze', '1h', '--reason', 'an exam'), 'begun')
        expect('an exam' in ask(device, 'snooze'), 'shown')
        release = world.release()
        world.rollout(release)
        wait_until('blocked', lambda: device.blocked(PRODUCT) == 'snoozed', timeout=20)
        expect('a person asked for quiet' in ask(device, 'status'), 'in plain English')
        time.sleep(2)
        expect(device.current(PRODUCT) == before, 'nothing began')
        ask(device, 'snooze', '--end')
        wait_until('the update', lambda: device.current(PRODUCT) == release, timeout=30)


def a_snooze_is_bounded_and_needs_a_reason(programs):
    with World(programs) as world:
        device = world.device(extra={'snooze_max': '2h'})
        expect('allows 2h' in ask(device, 'snooze', '3h', '--reason', 'x', status=1), 'bounded')
        ask(device, 'snooze', '1h', status=2)
        ask(device, 'snooze', '--end', '--reason', 'x', status=2)
        ask(device, 'snooze', 'soon', '--reason', 'x', status=1)
        expect('not snoozed' in ask(device, 'snooze'), 'none in force')


def a_support_bundle_holds_no_secret(programs):
    with World(programs) as world:
        device = running_device(world)
        release = world.release()
        world.rollout(release)
        wait_until('the update', lambda: device.current(PRODUCT) == release, timeout=30)
        device.kill()
        etc = device.root / 'etc/maeslant'
        config = json.loads((etc / 'agent.yaml').read_text())
        config['proxy'] = f'http://bob:{SECRET}@127.0.0.1:1'
        config['proxy_auth_file'] = '/etc/maeslant/proxy-auth'
        config['token_file'] = '/etc/maeslant/token'
        config['attributes_exec'] = ['/bin/true', '--password', SECRET]
        config['products'][PRODUCT]['vars'] |= {'api_token': SECRET, 'port': '8081'}
        (etc / 'agent.yaml').write_text(json.dumps(config))
        (etc / 'proxy-auth').write_text('bob:proxy-word-77\n')
        (etc / 'token').write_text('enrolment-token-88\n')
        for name in ('proxy-auth', 'token'):
            os.chmod(etc / name, 0o600)
        with open(device.log_path, 'a') as log:
            log.write(f'odd: proxy-word-77 enrolment-token-88 Authorization: Basic {SECRET}\n')
        key = (device.root / 'var/lib/maeslant/device.key').read_text().split()[-1]
        with open(device.log_path, 'a') as log:
            log.write(f'odd: {key}\n')
        bundle = world.folder / 'bundle.tar.zst'
        ask(device, 'support-bundle', '-o', str(bundle), '--log', str(device.log_path), '--offline')
        expect(bundle.stat().st_mode & 0o777 == 0o600, 'for nobody else')
        out = world.folder / 'out'
        out.mkdir()
        subprocess.run(['tar', '--zstd', '-xf', str(bundle), '-C', str(out)], check=True)
        files = {str(path.relative_to(out / 'maeslant-support')): path.read_text()
                 for path in out.rglob('*') if path.is_file()}
        for name, text in files.items():
            for word in (SECRET, 'proxy-word-77', 'enrolment-token-88', key):
                expect(word not in text, word, 'is in', name)
            expect('key' not in os.path.basename(name) and 'certificate' not in name, name)
        for name in ('agent.yaml', 'status.json', 'versions.txt', 'doctor.txt', 'log.txt',
                     f'{PRODUCT}/journal', f'{PRODUCT}/layout.txt'):
            expect(name in files, name, 'in', sorted(files))
        expect('8081' in files['agent.yaml'] and 'poll' in files['agent.yaml'], 'useful still')
        expect('odd: ' in files['log.txt'], 'with the log')


def a_support_bundle_is_made_even_of_a_broken_device(programs):
    with World(programs, start=False) as world:
        root = world.folder / 'root'
        (root / 'etc/maeslant').mkdir(parents=True)
        (root / 'etc/maeslant/agent.yaml').write_text(
            f'server: [\nproxy_password: |\n  {SECRET}\nvars: {{token: "{SECRET}"}}\n')
        bundle = world.folder / 'bundle.tar.zst'
        done = subprocess.run([str(world.bin / 'maeslant-agent'), 'support-bundle', '-o',
                               str(bundle), '--root', str(root)], text=True, capture_output=True)
        expect(done.returncode == 0, done)
        text = subprocess.run(['tar', '--zstd', '-xOf', str(bundle)], check=True, text=True,
                              capture_output=True).stdout
        expect(SECRET not in text and 'agent.yaml' in text, text)


TESTS = [status_shows_a_running_agent_and_a_trial, status_works_without_an_agent,
         status_without_a_configuration_says_so, doctor_finds_nothing_on_a_sound_device,
         doctor_names_each_trouble_with_a_way_out, doctor_sees_another_servers_certificate,
         doctor_reads_the_line_of_a_broken_configuration,
         a_snooze_keeps_trials_away_until_it_ends, a_snooze_is_bounded_and_needs_a_reason,
         a_support_bundle_holds_no_secret, a_support_bundle_is_made_even_of_a_broken_device]

if __name__ == '__main__':
    names = ('maeslant', 'maeslant-agent', 'maeslant-agent-test')
    sys.exit(run_all(TESTS, dict(zip(names, sys.argv[1:]))))
