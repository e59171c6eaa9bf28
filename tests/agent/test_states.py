"""Every state's recovery: the agent is killed there, and started again with or without a server."""
import os
import signal
import subprocess
import sys
import time

from agent_support import (PRODUCT, POLICY, World, expect, run_all, running, settle, wait_until,
                           whole)


def crash(world, point, release_files=None, policy=None, program='maeslant-agent-test'):
    """A device that ran the first release well is killed at `point` of the second one's trial.
    Returns (device, first, second, rollout)."""
    device = world.device()
    device.start()
    wait_until('the first use', lambda: running(device), timeout=20)
    device.stop()
    first = device.current(PRODUCT)
    second = world.release(release_files)
    rollout = world.rollout(second, **(policy or {}))
    device.start(program=str(world.bin / program), env={'MAESLANT_AGENT_CRASH_AT': point})
    status = device.process.wait(30)
    expect(status == -signal.SIGKILL, f'expected to die at {point}, got {status}')
    return device, first, second, rollout


def end_of_server(world):
    world.plane.kill()


def comes_back_alone(programs, point):
    """Killed at `point`, rebooted, no server: the old release runs, whole, and is not the new."""
    with World(programs) as world:
        device, first, second, _ = crash(world, point)
        end_of_server(world)
        device.reboot()
        settle(device, 'idle', timeout=20)
        expect(running(device) == first, point, 'runs', running(device))
        expect(whole(device) == first, point)
        expect(any((device.root / 'var/lib/maeslant/outbox').iterdir()), 'no report waits')
        rejected = (device.root / 'var/lib/maeslant/rejected').read_text()
        expect(second in rejected and 'power-cut' in rejected, rejected)


def invariant_6_after_marked_a_device_comes_back_alone(programs):
    comes_back_alone(programs, 'after-marked')


def invariant_6_after_active_a_device_comes_back_alone(programs):
    comes_back_alone(programs, 'after-active')


def invariant_6_between_the_links_a_device_comes_back_alone(programs):
    comes_back_alone(programs, 'link-previous')


def invariant_6_after_the_swap_a_device_comes_back_alone(programs):
    comes_back_alone(programs, 'link-current')


def invariant_6_after_the_adapter_a_device_comes_back_alone(programs):
    comes_back_alone(programs, 'adapter-ran')


def invariant_6_in_soak_a_device_comes_back_alone(programs):
    comes_back_alone(programs, 'after-soaking')


def invariant_6_before_the_report_is_durable_a_device_comes_back_alone(programs):
    comes_back_alone(programs, 'before-reported')


def a_cut_while_it_stages_leaves_nothing_and_it_goes_on(programs):
    for point in ('slot-unpacked', 'slot-written', 'slot-synced', 'slot-renamed', 'after-staged'):
        with World(programs) as world:
            device, first, second, _ = crash(world, point)
            expect(whole(device) == first, point)
            device.reboot()
            settle(device, 'confirmed')
            expect(running(device) == second, point)
            left = os.listdir(device.state_folder(PRODUCT) / 'slots')
            expect(sorted(left) == sorted({first, second}), left)


def a_cut_after_asking_gets_the_same_answer_in_the_same_boot(programs):
    for point in ('after-asked', 'sent-begin'):
        with World(programs) as world:
            device, _, second, rollout = crash(world, point)
            device.start()
            settle(device, 'confirmed')
            expect(running(device) == second, point)
            expect(world.plane.rollout(rollout)['permits'] == 1, 'one permit')


def a_permit_of_another_boot_is_declined_as_stale(programs):
    with World(programs) as world:
        device, first, _, rollout = crash(world, 'sent-begin', policy={'soak': '30s'})
        device.reboot()
        wait_until('the permit is declined', lambda: 'stale' in device.log(), timeout=20)
        expect(world.plane.rollout(rollout)['failed'] == 0, 'declined is not failed')
        expect(whole(device) in os.listdir(device.state_folder(PRODUCT) / 'slots'), first)


def a_failed_trial_is_reported_once_the_server_can_be_reached(programs):
    with World(programs) as world:
        device, first, _, rollout = crash(world, 'after-soaking', policy={'soak': '30s'})
        end_of_server(world)
        device.start()
        settle(device, 'idle')
        world.plane.start()
        wait_until('the failure arrives', lambda: world.plane.rollout(rollout)['failed'] == 1)
        expect(running(device) == first, 'back')


def a_reported_trial_is_reported_again_after_a_crash(programs):
    for point in ('after-reported', 'outbox-put', 'outbox-drop'):
        with World(programs) as world:
            device, _, second, _ = crash(world, point)
            device.start()
            settle(device, 'confirmed')
            expect(running(device) == second, point)


def an_unanswered_report_reverts_with_a_reboot(programs):
    with World(programs) as world:
        device, first, _, _ = crash(world, 'after-reported')
        end_of_server(world)
        device.reboot()
        settle(device, 'idle')
        expect(running(device) == first and whole(device) == first, 'back')


def a_confirmed_release_stays_after_a_cut(programs):
    for point in ('mark-written', 'after-confirmed'):
        with World(programs) as world:
            device, _, second, _ = crash(world, point)
            device.start()
            settle(device, 'confirmed')
            expect(running(device) == second and whole(device) == second, point)


def a_revert_that_is_cut_goes_on_reverting(programs):
    for point in ('after-reverting', 'revert-linked', 'revert-activated', 'rejected-file',
                  'after-rejected'):
        with World(programs) as world:
            device, first, second, _ = crash(world, point, {'data': 'bad\n'}, {'soak': '20s'})
            end_of_server(world)
            device.reboot()
            settle(device, 'idle')
            expect(running(device) == first and whole(device) == first, point)
            expect(second in (device.root / 'var/lib/maeslant/rejected').read_text(), point)


def an_orderly_end_in_soak_is_announced_and_goes_on(programs):
    with World(programs) as world:
        device = world.device().start()
        wait_until('the first use', lambda: running(device))
        second = world.release()
        rollout = world.rollout(second, soak='4s')
        settle(device, 'soaking')
        time.sleep(1)
        expect(device.stop() == 0, 'exit status')
        expect(device.state(PRODUCT) == 'interrupted', device.state(PRODUCT))
        soaked = int(device.journal(PRODUCT)['soaked_ms'])
        expect(500 < soaked < 4000, soaked)
        device.reboot()
        settle(device, 'confirmed')
        expect(running(device) == second, 'stays')
        expect(world.plane.rollout(rollout)['failed'] == 0, 'no failure')


def a_third_interruption_is_a_failure(programs):
    with World(programs) as world:
        device = world.device().start()
        wait_until('the first use', lambda: running(device))
        first = running(device)
        second = world.release()
        world.rollout(second, soak='30s')
        for _ in range(3):
            settle(device, 'soaking')
            device.stop()
            device.reboot()
        settle(device, 'idle')
        expect(running(device) == first, 'back')
        expect('interrupted-too-often' in device.log(), 'cause')


def a_crash_after_going_on_from_an_interruption_reverts(programs):
    with World(programs) as world:
        device = world.device().start()
        wait_until('the first use', lambda: running(device))
        first = running(device)
        world.rollout(world.release(), soak='30s')
        settle(device, 'soaking')
        device.stop()
        end_of_server(world)
        device.reboot()
        wait_until('it has gone on', lambda: device.journal(PRODUCT).get('reason') == 'resuming')
        device.kill()
        device.reboot()
        settle(device, 'idle')
        expect(running(device) == first, 'back')


def a_damaged_journal_is_kept_and_the_links_decide(programs):
    for damage in ('torn', 'gone'):
        with World(programs) as world:
            device, first, _, _ = crash(world, 'after-soaking', policy={'soak': '30s'})
            end_of_server(world)
            journal = device.state_folder(PRODUCT) / 'journal'
            if damage == 'torn':
                journal.write_bytes(journal.read_bytes()[:-10])
            else:
                journal.unlink()
            device.reboot()
            wait_until('the confirmed one runs', lambda: running(device) == first)
            settle(device, 'idle')
            expect(whole(device) == first, 'and is current')
            if damage == 'torn':
                expect((device.state_folder(PRODUCT) / 'journal.damaged').exists(), 'kept')
                expect(device.blocked(PRODUCT) == 'journal-damaged', device.blocked(PRODUCT))


TESTS = [test for name, test in list(globals().items())
         if callable(test) and getattr(test, '__module__', '') == __name__ and
         name not in ('crash', 'end_of_server', 'comes_back_alone')]

if __name__ == '__main__':
    names = ('maeslant', 'maeslant-agent', 'maeslant-agent-test')
    sys.exit(run_all(TESTS, dict(zip(names, sys.argv[1:]))))
