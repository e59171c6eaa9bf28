"""The server gets SIGKILL at random moments while a fleet lives on its rollouts, good and bad: nothing
that it acknowledged is lost, nothing that it promised is broken."""
import random
import threading
import time

from support import (World, check_fold, decisions, device_client, events, expect, main, ok)

DEVICES = 32
HARM_BUDGET = 4


class Driver(threading.Thread):
    """Starts one rollout after the other, for as long as releases and kills last."""

    def __init__(self, world, releases):
        super().__init__(daemon=True)
        self.world, self.releases = world, list(releases)
        self.started, self.stop, self.error = [], threading.Event(), None

    def insist(self, method, path, value=None):
        """An answer, however often the server dies; None when told to stop."""
        while not self.stop.is_set():
            try:
                answer = self.world.admin.ask(method, f'/v1/admin/{path}', value)
                if answer.status < 500:
                    return answer
            except OSError:
                pass
            time.sleep(0.05)
        return None

    def run(self):
        try:
            while self.releases and not self.stop.is_set():
                release = self.releases.pop(0)
                name = f'wave-{len(self.started)}'
                policy = {'class': 'routine', 'harm_budget': HARM_BUDGET, 'soak': '50ms',
                          'deadline': '2s', 'start_by': '60s', 'organisation_share': 1}
                answer = self.insist('POST', 'rollouts',
                                     {'release': release, 'policy': policy, 'name': name})
                if answer is None:
                    return
                # A retry whose first try was taken finds the rollout there.
                expect(answer.status == 200 or answer.code in ('rollout-exists', 'name-taken'),
                       answer)
                self.started.append((name, release))
                while True:
                    answer = self.insist('GET', f'rollouts/{name}')
                    if answer is None:
                        return
                    if answer.json['state'] in ('done', 'halted'):
                        break
                    time.sleep(0.05)
        except Exception as error:  # a thread's exception would be lost
            self.error = error


def check_budget(name, lines, bad):
    """From the events alone: with nothing settled at most H are exposed, and a bad release has
    harmed at most H when it is halted."""
    settled = next((i for i, line in enumerate(lines) if line.get('event') == 'outcome'),
                   len(lines))
    exposed = len(decisions(lines[:settled], 'permit'))
    expect(exposed <= HARM_BUDGET, f'{name}: {exposed} exposed before any evidence')
    halted = next((i for i, line in enumerate(lines) if line.get('decision') == 'halt'), None)
    if halted is not None:
        expect(not decisions(lines[halted:], 'permit', 'placebo'), f'{name}: a permit after a halt')
        harmed = [line for line in events(lines[:halted], 'outcome')
                  if line['outcome'] == 'failed' and line['arm'] == 'release']
        expect(bad and 1 <= len(harmed) <= HARM_BUDGET,
               f'{name}: bad is {bad}, {len(harmed)} harmed when it was halted')


def check_reports(fleet, logs):
    """Every report that was acknowledged, and every permit that was heard of, is in the log."""
    outcomes, granted = set(), set()
    for release, lines in logs.items():
        outcomes |= {(release, line['device'], line['arm'], line['outcome'])
                     for line in events(lines, 'outcome')}
        granted |= {(release, line['device'], 'release') for line in decisions(lines, 'permit')}
        granted |= {(release, line['device'], 'placebo') for line in decisions(lines, 'placebo')}
    reports = permits = 0
    for device in fleet.devices:
        for permit in device.permits:
            permits += 1
            expect((permit['release'], device.client.id, permit['arm']) in granted,
                   'a permit that the log does not know:', permit)
        for permit, outcome, answer in device.acknowledged:
            reports += 1
            expect((permit['release'], device.client.id, permit['arm'], outcome) in outcomes,
                   f'an acknowledged report is lost: {outcome}', permit, answer)
    return permits, reports


def check_last_answers(fleet):
    """The last body that was answered, sent again, gets the same answer."""
    asked = 0
    for device in fleet.devices:
        if not device.acknowledged or device.client.last[0] != 'report':
            continue
        permit, _, before = device.acknowledged[-1]
        answer = device.client.again()
        if answer.status == 409 and answer.code == 'seq-replayed':
            continue  # the last body was never answered: another was taken before
        value = device.client.opened('answer', answer)
        if value['permit'] == permit['permit']:
            asked += 1
            expect(value == before or value['answer'] == 'revert', before, value)
    return asked


def run(programs, kills, releases, seed):
    chance = random.Random(seed)
    with World(programs) as world:
        names = [world.release() for _ in range(releases)]
        bad = {name for number, name in enumerate(names) if number % 2}
        fleet = device_client.SimulatedFleet(
            world.devices(DEVICES), lambda _, permit: ('failed', 'probe')
            if permit['arm'] == 'release' and permit['release'] in bad else ('healthy', None))
        fleet.start()
        driver = Driver(world, names)
        driver.start()
        down = 0.0
        for number in range(kills):
            time.sleep(chance.uniform(0.05, 0.9))
            # Now and then for longer than a deadline.
            pause = 2.6 if number % 8 == 5 else chance.choice((0, 0.05, 0.3))
            world.restart(down=pause)
            down += pause
        # The last wave ends in peace.
        driver.releases.clear()
        driver.join(60)
        expect(driver.error is None, driver.error)
        expect(not driver.is_alive(), 'the last rollout does not end:',
               world.admin.get('rollouts')['rollouts'][0])
        fleet.stop()
        asked = check_last_answers(fleet)
        world.restart()
        logs, halts = {}, 0
        for name, release in driver.started:
            lines = check_fold(world, name)
            logs[release] = lines
            check_budget(name, lines, release in bad)
            expect(not decisions(lines, 'silent'), f'{name}: a device was taken for silent',
                   decisions(lines, 'silent'))
            view = world.admin.rollout(name)
            expect(view['state'] == ('halted' if release in bad else 'done'), name, view['state'])
            halts += view['state'] == 'halted'
            shown = world.plane.rollout(name)
            for member in ('state', 'permits', 'healthy', 'failed', 'settled'):
                expect(shown[member] == view[member], name, member, shown[member], view[member])
        permits, reports = check_reports(fleet, logs)
        number = fleet.devices[0].client.halts()['number']
        expect(number == halts, f'{number} halts listed, {halts} rollouts halted')
        outages = sum(len(events(lines, 'outage')) for lines in logs.values())
        expect(reports > 5 * kills and outages > 0, f'{reports} reports, {outages} outages: the '
               'test shows little')
    print(f'# {kills} kills, {down:.1f} s without a server, {len(logs)} rollouts, {halts} halted, '
          f'{fleet.resent} requests sent again, {outages} outages', flush=True)
    ok(f'all of {reports} acknowledged reports and {permits} permits are in the log')
    ok(f'{asked} reports sent again got the answer that they had')
    ok('no permit after a committed halt; never more harm in flight than the budget')
    ok('the server\'s downtime was nobody\'s failure')
    ok('every rollout equals the fold of its events, in the log, the view and the command line')


def a_server_killed_8_times_keeps_its_word(programs):
    run(programs, kills=8, releases=16, seed=8)


def a_server_killed_50_times_keeps_its_word(programs):
    run(programs, kills=50, releases=100, seed=50)


if __name__ == '__main__':
    main([a_server_killed_8_times_keeps_its_word], [a_server_killed_50_times_keeps_its_word])
