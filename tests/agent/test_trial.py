"""What a device does with permits, halts, trouble and time, against the real control plane."""
import fcntl
import json
import os
import signal
import sys
import time

from agent_support import (MANIFEST, POLICY, PRODUCT, World, expect, run_all, running, settle,
                           wait_until, whole)


def ready(world, **options):
    device = world.device(**options).start()
    wait_until('the first use', lambda: running(device), timeout=20)
    wait_until('it is adopted', lambda: 'adopted' in device.log(), timeout=20)
    return device


def stays(device, release, seconds=2.5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        expect(running(device) == release, 'runs', running(device))
        time.sleep(0.1)


def blocked(device, reason):
    wait_until(f'blocked: {reason}', lambda: device.blocked(PRODUCT) == reason, timeout=15)


def a_device_that_sleeps_between_permit_and_activation_never_starts_a_release_that_was_halted_meanwhile(
        programs):
    # It stops with the permit in hand, before and after the trial mark; the release is halted; it
    # wakes within start_by and after it.
    for point, start_by in (('sent-begin', '60s'), ('after-marked', '60s'), ('link-current', '60s'),
                            ('sent-begin', '1s'), ('after-marked', '1s')):
        with World(programs) as world:
            device = ready(world)
            first = running(device)
            device.stop()
            second = world.release()
            rollout = world.rollout(second, start_by=start_by)
            device.start(program=str(world.bin / 'maeslant-agent-test'),
                         env={'MAESLANT_AGENT_STOP_AT': point})
            os.waitid(os.P_PID, device.process.pid, os.WSTOPPED)
            world.halt(rollout)
            time.sleep(2.5)
            device.process.send_signal(signal.SIGCONT)
            wait_until('it says so', lambda: 'declined' in device.log() or
                       'trial-reverted' in device.log(), timeout=20)
            settle(device, 'idle', 'staged')
            stays(device, first, 1)
            expect(whole(device) == first, point)
            ran = (device.product_dir / 'activations').read_text()
            expect(second not in ran, point, 'its adapter ran')


def a_sleep_past_start_by_drops_the_permit_though_no_halt_came(programs):
    with World(programs) as world:
        device = ready(world)
        device.stop()
        second = world.release()
        world.rollout(second, start_by='1s')
        device.start(program=str(world.bin / 'maeslant-agent-test'),
                     env={'MAESLANT_AGENT_STOP_AT': 'sent-begin'})
        os.waitid(os.P_PID, device.process.pid, os.WSTOPPED)
        time.sleep(1.5)
        device.process.send_signal(signal.SIGCONT)
        wait_until('declined', lambda: 'stale' in device.log())


def a_halt_reverts_a_soaking_device_within_a_second(programs):
    with World(programs) as world:
        device = ready(world)
        first = running(device)
        rollout = world.rollout(world.release(), soak='40s')
        settle(device, 'soaking')
        time.sleep(0.5)
        start = time.monotonic()
        world.halt(rollout)
        halted = time.monotonic()
        wait_until('back', lambda: running(device) == first, pause=0.01)
        expect(time.monotonic() - halted < 1, time.monotonic() - start)


def a_halt_ends_an_adapter_that_hangs(programs):
    with World(programs) as world:
        device = ready(world)
        first = running(device)
        rollout = world.rollout(world.release({'slow': ''}, adapter={
            **MANIFEST['adapter'], 'timeout': '40s'}), soak='50s')
        settle(device, 'active')
        time.sleep(0.3)
        world.halt(rollout)
        halted = time.monotonic()
        settle(device, 'idle')
        expect(time.monotonic() - halted < 1.5, time.monotonic() - halted)
        expect(running(device) == first, 'back')


def a_confirmed_device_goes_back_on_a_halt_and_never_takes_the_release_again(programs):
    with World(programs) as world:
        device = ready(world)
        first = running(device)
        second = world.release()
        rollout = world.rollout(second)
        settle(device, 'confirmed')
        world.halt(rollout, '--now')
        wait_until('back', lambda: running(device) == first)
        stays(device, first)
        expect(second in (device.root / 'var/lib/maeslant/rejected').read_text(), 'rejected')


def a_release_that_does_not_become_active_fails_though_its_adapter_says_well(programs):
    with World(programs) as world:
        device = ready(world)
        first = running(device)
        world.rollout(world.release(adapter={**MANIFEST['adapter'], 'activate': ['/bin/true']}))
        settle(device, 'reverting', 'rejected')
        settle(device, 'idle')
        expect('not-active' in device.log() and running(device) == first, 'back')


def a_product_that_dies_of_a_signal_before_it_names_the_release_is_reported_so(programs):
    dies = 'echo 4194304 >"$1/pid"; echo "signal 11" >"$1/exit"; : >"$1/running"'
    probes = [{'name': 'worker', 'kind': 'process', 'pid_file': '${product_dir}/pid',
               'exit_file': '${product_dir}/exit', 'interval': '200ms'}]
    with World(programs) as world:
        device = ready(world)
        first = running(device)
        name = world.rollout(world.release(
            probes=probes, adapter={**MANIFEST['adapter'], 'activate': [
                '/bin/sh', '-c', dies, 'sh', '${product_dir}']}))
        settle(device, 'idle', 'rejected', timeout=30)
        wait_until('the report is there', lambda: world.plane.rollout(name)['failed'] == 1)
        why = [failure['why'] for failure in world.plane.rollout(name)['failures']]
        expect(any('signal 11' in text and 'worker' in text for text in why), why)
        expect(device.current(PRODUCT) == first, 'back')


def a_failed_adapter_reverts(programs):
    with World(programs) as world:
        device = ready(world)
        first = running(device)
        rollout = world.rollout(world.release({'broken': ''}))
        wait_until('reported', lambda: world.plane.rollout(rollout)['failed'] == 1)
        settle(device, 'idle')
        expect(running(device) == first, 'back')


def a_device_that_is_sick_before_asks_for_no_permit_unless_the_release_repairs(programs):
    with World(programs) as world:
        device = ready(world)
        (device.product_dir / 'sick').write_text('')
        rollout = world.rollout(world.release())
        blocked(device, 'unhealthy-before')
        expect(world.plane.rollout(rollout)['permits'] == 0, 'no permit')
        (device.product_dir / 'sick').unlink()
        settle(device, 'confirmed')


def what_does_not_fit_asks_for_no_permit(programs):
    cases = (({'requires': {'engine': '>=2'}}, {}, 'contract'),
             ({'permissions': ['files', 'reload', 'kernel']},
              {'extra': {'refuse_permissions': ['kernel']}}, 'refused-permission'),
             ({'exclude': [{'os': 'test'}]}, {}, 'excluded'),
             ({'probes': [{'name': 'p', 'kind': 'exec', 'command': ['/bin/${nothing}']}]}, {},
              'contract'),
             ({'state': {'paths': ['/srv/state'], 'on_revert': 'snapshot'}}, {}, 'agent-too-old'),
             ({'state': {'paths': ['/srv/state'], 'on_revert': 'irreversible'}}, {},
              'irreversible'),
             ({'state': {'paths': ['/usr/lib/state']}},
              {'product': {'paths_owned_by_packages': 'refuse'}}, 'package-path'),
             ({}, {'extra': {'min_free': '900000GiB'}}, 'disk'))
    for members, options, reason in cases:
        with World(programs) as world:
            device = ready(world, **options)
            rollout = world.rollout(world.release(**members))
            blocked(device, reason)
            expect(world.plane.rollout(rollout)['permits'] == 0, 'no permit')


def conditions_of_the_moment_hold_a_trial_back_until_they_pass(programs):
    with World(programs) as world:
        device = ready(world)
        root = device.root
        (root / 'var/lib/dpkg').mkdir(parents=True)
        lock = open(root / 'var/lib/dpkg/lock-frontend', 'w')
        fcntl.lockf(lock, fcntl.LOCK_EX)
        world.rollout(world.release())
        blocked(device, 'package-transaction')
        (root / 'run/reboot-required').write_text('')
        lock.close()
        blocked(device, 'reboot-pending')
        (root / 'run/reboot-required').unlink()
        settle(device, 'confirmed')


def outside_its_windows_a_device_asks_for_nothing(programs):
    with World(programs) as world:
        now = time.localtime()
        later = f'{(now.tm_hour + 2) % 24:02d}:00-{(now.tm_hour + 3) % 24:02d}:00'
        device = ready(world, product={'windows': [f'daily {later}']})
        rollout = world.rollout(world.release())
        blocked(device, 'window')
        expect(world.plane.rollout(rollout)['permits'] == 0, 'no permit')


def a_placebo_changes_nothing_and_gets_the_release_later(programs):
    with World(programs) as world:
        one, two = ready(world), ready(world)
        second = world.release()
        world.rollout(second, placebo='pairs', soak='1s')
        settle(one, 'confirmed', timeout=40)
        settle(two, 'confirmed', timeout=40)
        expect('placebo settled' in one.log() or 'placebo settled' in two.log(), 'one placebo')
        expect(whole(one) == whole(two) == second, 'both run it')


def a_server_away_loses_no_report_and_confirms_when_it_is_back(programs):
    with World(programs) as world:
        device = ready(world)
        second = world.release()
        rollout = world.rollout(second, soak='2s')
        settle(device, 'soaking')
        world.plane.kill()
        settle(device, 'reported')
        time.sleep(2)
        expect(device.state(PRODUCT) == 'reported', 'still in trial')
        world.plane.start()
        settle(device, 'confirmed', timeout=40)
        expect(world.plane.rollout(rollout)['failed'] == 0, 'no failure')


def without_an_answer_it_reverts_after_confirm_within(programs):
    with World(programs) as world:
        device = ready(world, extra={'confirm_within': '3s'})
        first = running(device)
        world.rollout(world.release(), soak='1s')
        settle(device, 'soaking')
        world.plane.kill()
        settle(device, 'idle', timeout=20)
        expect(running(device) == first, 'back')
        expect('unconfirmed' in (device.root / 'var/lib/maeslant/rejected').read_text(), 'why')


def a_product_that_sickens_after_confirmation_is_reported_as_regressed(programs):
    with World(programs) as world:
        device = ready(world, extra={'watch_interval': '200ms'})
        first = running(device)
        world.rollout(world.release())
        settle(device, 'confirmed')
        (device.product_dir / 'sick').write_text('')
        wait_until('regressed', lambda: 'regressed: ' in device.log())
        wait_until('back', lambda: running(device) == first)


def a_manifest_with_another_signature_is_not_even_parsed(programs):
    with World(programs) as world:
        device = ready(world)
        device.stop()
        other = world.folder / 'other'
        world.plane.run('init', str(other), '--listen', '127.0.0.1:0')
        (device.root / 'etc/maeslant/release.pub').write_bytes(
            (other / 'keys/release.pub').read_bytes())
        device.start()
        rollout = world.rollout(world.release())
        blocked(device, 'signature')
        expect(world.plane.rollout(rollout)['permits'] == 0, 'no permit')


def another_machine_enrols_anew_with_a_token_and_says_so_without(programs):
    with World(programs) as world:
        device = ready(world)
        old = device.status()['device']
        device.stop()
        (device.root / 'etc/machine-id').write_text('0' * 32 + '\n')
        device.start()
        expect(device.process.wait(10) == 1, 'refused')
        expect('bound to another machine' in device.log(), device.log()[-500:])
        (device.root / 'etc/maeslant/enroll.token').write_text(world.plane.token('acme', 1))
        config = device.root / 'etc/maeslant/agent.yaml'
        config.write_text(json.dumps({**json.loads(config.read_text()),
                                      'token_file': '/etc/maeslant/enroll.token'}))
        device.start()
        wait_until('a new device', lambda: device.status().get('device', old) != old)


def one_look_ends_by_itself(programs):
    with World(programs) as world:
        device = world.device()
        second = world.release()
        world.rollout(second)
        device.start_once = None
        import subprocess
        result = subprocess.run([device.agent, 'run', '--once', '--root', str(device.root)],
                                env=device.environment(), capture_output=True, timeout=30)
        expect(result.returncode == 0, result.stderr)
        expect(running(device) == second and device.state(PRODUCT) == 'confirmed', result.stderr)


def over_tls_with_a_pinned_ca_everything_works(programs):
    with World(programs, plain=False) as world:
        device = ready(world)
        second = world.release()
        world.rollout(second)
        settle(device, 'confirmed')


TESTS = [test for name, test in list(globals().items())
         if callable(test) and getattr(test, '__module__', '') == __name__ and
         name not in ('ready', 'stays', 'blocked')]

if __name__ == '__main__':
    names = ('maeslant', 'maeslant-agent', 'maeslant-agent-test')
    sys.exit(run_all(TESTS, dict(zip(names, sys.argv[1:]))))
