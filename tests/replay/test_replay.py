"""`maeslant replay` against a second engine (model.py), and what it says to input that can't be.

argv: maeslant, the folder of the gate's reference values.
"""
import json
import math
import pathlib
import random
import subprocess
import sys
import unittest

import model

MAESLANT, VECTORS = sys.argv[1], pathlib.Path(sys.argv[2])
DATA = pathlib.Path(__file__).resolve().parent / 'data'
SEED = '5f' * 32
LISTED = ('permit', 'placebo', 'wait', 'no', 'open', 'pause', 'halt')


def run(*options, text):
    return subprocess.run([MAESLANT, 'replay', *options, '-'], input=text, capture_output=True,
                          text=True, timeout=120)


def dump(lines):
    return ''.join(json.dumps(line) + '\n' for line in lines)


def replay(events, *options):
    """(decisions, summary)"""
    done = run(*options, text=dump(events))
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[:-1], lines[-1]['summary']


def start(t=0, seed=SEED, harm_budget=25, **more):
    policy = {'class': 'routine', 'harm_budget': harm_budget, **more.pop('policy', {})}
    return {'t': t, 'event': 'start', 'rollout': 'r-1', 'release': 'v1', 'seed': seed,
            'policy': policy, **more}


def begin(t, device, org='acme', attributes=None):
    return {'t': t, 'event': 'begin', 'device': device, 'org': org,
            'attributes': attributes or {'os': 'linux'}}


def outcome(t, device, what, **more):
    return {'t': t, 'event': 'outcome', 'device': device, 'outcome': what, **more}


def alike(one, other):
    """Equal, numbers within 1e-9 (relative above 1)."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, float) or isinstance(other, float):
        return isinstance(one, (int, float)) and isinstance(other, (int, float)) and \
            math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


class History:
    """Events of a fleet that nobody steers: `fates` are shares of failed, silent, declined and
    interrupted exposures, release and placebo."""

    def __init__(self, seed, policy, fates, devices, persons=0.0):
        self.chance = random.Random(seed)
        self.events = [start(seed=self.chance.randbytes(32).hex(), **policy)]
        self.model = model.Model(self.events[0])
        self.fates, self.devices, self.persons = fates, devices, persons
        self.decisions, self.t, self.in_flight = [], 0, []

    def put(self, event):
        self.events.append(event)
        decided = self.model.event(event)
        self.decisions += decided
        for decision in decided:
            if decision['decision'] in ('permit', 'placebo'):
                self.plan(decision)

    def plan(self, decision):
        self.model.devices[decision['device']].told = False
        draw = self.chance.random()
        for fate, share in self.fates[decision['decision']].items():
            draw -= share
            if draw < 0:
                break
        else:
            fate = 'healthy'
        after = {'failed': (1, 20), 'declined': (0, 5), 'interrupted': (5, 300),
                 'healthy': (600, 600)}.get(fate)
        if after is not None:  # else: silence
            self.in_flight.append((self.t + self.chance.randint(*after), decision['device'], fate))

    def person(self):
        kind = self.chance.choice(('pause', 'resume', 'resume', 'tick', 'outage', 'halt', 'late'))
        if kind == 'late':
            silent = [d for d in self.model.devices.values() if d.silent and
                      not getattr(d, 'told', False)]
            if silent:
                device = self.chance.choice(silent)
                device.told = True
                self.put(outcome(self.t, device.name, 'healthy'))
        elif kind == 'tick':
            self.put({'t': self.t, 'event': 'tick'})
        elif kind == 'outage':
            self.put({'t': self.t, 'event': 'outage', 'from': max(0, self.t - 100), 'to': self.t})
        elif kind != 'halt' or self.chance.random() < 0.1:
            self.put({'t': self.t, 'event': kind, 'by': 'ann', 'reason': 'because'})

    def run(self, count):
        while len(self.events) < count:
            self.t += self.chance.choice((0, 0, 1, 5, 30, 150))
            due = sorted(self.in_flight)
            if self.chance.random() < self.persons:
                self.person()
            elif due and due[0][0] <= self.t:
                self.in_flight.remove(due[0])
                _, name, fate = due[0]
                device = self.model.devices[name]
                if device.open is None:
                    continue  # its deadline has passed
                self.put(outcome(self.t, name, fate, arm=device.open.arm))
                device.told = device.silent  # its deadline passed meanwhile: this came too late
                if fate == 'interrupted' and device.open:
                    self.in_flight.append((self.t + 700, name, 'healthy'))
            else:
                self.put(begin(self.t, f'd{self.chance.randrange(self.devices)}'))
        return self


HARMLESS = {'permit': {'failed': 0.002, 'silent': 0.002}, 'placebo': {'failed': 0.002,
                                                                      'silent': 0.002}}
MIXED = {'permit': {'failed': 0.1, 'silent': 0.05, 'declined': 0.1, 'interrupted': 0.1},
         'placebo': {'failed': 0.03, 'silent': 0.03, 'declined': 0.1, 'interrupted': 0.1}}
CRASH = {'permit': {'failed': 0.9}, 'placebo': {'failed': 0.01}}
SICK = {'permit': {'failed': 0.3}, 'placebo': {'failed': 0.3}}
NOISY = {'permit': {'failed': 0.7, 'silent': 0.1}, 'placebo': {'failed': 0.05, 'silent': 0.05}}
OPEN = {'permit': {'failed': 0.3}, 'placebo': {}}


class AgainstTheModel(unittest.TestCase):
    def compare(self, history):
        decisions, summary = replay(history.events)
        for number, (mine, theirs) in enumerate(zip(decisions, history.decisions)):
            self.assertTrue(alike(mine, theirs), f'decision {number}:\n{mine}\n{theirs}')
        self.assertEqual(len(decisions), len(history.decisions))
        expected = history.model.summary()
        self.assertTrue(alike(summary, expected), f'\n{summary}\n{expected}')
        self.assertEqual(set(summary), set(expected))
        return {decision['decision'] for decision in decisions}, summary

    def test_histories_of_every_kind_give_what_the_second_engine_gives(self):
        worlds = [('harmless', HARMLESS, {'harm_budget': 4}),
                  ('mixed', MIXED, {'harm_budget': 10, 'policy': {'alpha': 0.01}}),
                  ('crash', CRASH, {'harm_budget': 25}),
                  ('crash', CRASH, {'harm_budget': 3}),
                  ('sick', SICK, {'harm_budget': 25, 'policy': {'alpha': 0.05}}),
                  ('sick', SICK, {'harm_budget': 8, 'policy': {
                      'alpha': 0.2, 'tolerance': {'cap': 0.05, 'ratio': 2, 'floor': 0.001}}}),
                  ('noisy', NOISY, {'harm_budget': 3, 'policy': {
                      'alpha': 0.05, 'tolerance': {'cap': 0.59}}}),
                  ('open', OPEN, {'harm_budget': 6, 'policy': {'placebo': 'none'}})]
        seen, states, halts = set(), set(), set()
        for number in range(160):
            name, fates, policy = worlds[number % len(worlds)]
            with self.subTest(world=name, number=number):
                history = History(number, json.loads(json.dumps(policy)), fates,
                                  devices=random.Random(number).choice((12, 60, 400)),
                                  persons=0.03 if number % 3 == 0 else 0.0).run(260)
                kinds, summary = self.compare(history)
                seen |= kinds
                states.add(summary['state'])
                halts |= {d['because']['alarm'] for d in history.decisions
                          if d['decision'] in ('halt', 'pause')}
        self.assertEqual(seen, set(LISTED))
        self.assertEqual(states, {'running', 'paused', 'halted'})
        self.assertEqual(halts, {'proven-harm', 'absolute', 'environment', 'person'})

    def test_the_second_engine_has_the_reference_values(self):
        gate = json.loads((VECTORS / 'vectors.json').read_text())
        split = json.loads((VECTORS / 'split.json').read_text())
        for row in gate['evidence']:
            mine = model.log_default(row['n'], row['k'], row['tolerated'], row['floor'])
            self.assertTrue(alike(mine, row['log_e']), (row, mine))
        for row in split['evidence']:
            mine = model.log_split(row['k_release'], row['k_placebo'], row['discount'])
            self.assertTrue(alike(mine, row['log_e']), (row, mine))
        for row in gate['bounds']:
            if row['n'] <= 10000:  # lgamma has no more digits for this
                mine = (model.lower(row['n'], row['k'], row['alpha']),
                        model.upper(row['n'], row['k'], row['alpha']))
                self.assertTrue(alike(mine[0], row['lower']) and alike(mine[1], row['upper']),
                                (row, mine))

    def test_histories_worked_out_by_hand_are_as_they_were_worked_out(self):
        files = sorted(path for path in DATA.glob('*.jsonl') if '.decisions' not in path.name)
        self.assertGreaterEqual(len(files), 7)
        for path in files:
            with self.subTest(file=path.name):
                lines = [json.loads(line) for line in
                         path.with_suffix('.decisions.jsonl').read_text().splitlines()]
                events = [json.loads(line) for line in path.read_text().splitlines()]
                done = subprocess.run([MAESLANT, 'replay', path], capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                mine = [json.loads(line) for line in done.stdout.splitlines()]
                self.assertTrue(alike(mine[-1], lines[-1]), f'\n{mine[-1]}\n{lines[-1]}')
                self.assertEqual(len(mine), len(lines))
                for one, other in zip(mine, lines):
                    self.assertTrue(alike(one, other), f'\n{one}\n{other}')
                decisions, summary = model.replay(events)
                self.assertTrue(alike(summary, lines[-1]['summary']), summary)

    def test_counting_what_an_open_pairs_coin_would_tell_differs_only_while_a_pair_is_open(self):
        events, differed = [start()], 0
        for pair in range(12):
            first, second = f'd{2 * pair}', f'd{2 * pair + 1}'
            for event in (begin(pair * 1000, first), begin(pair * 1000 + 1, second),
                          outcome(pair * 1000 + 600, second, 'healthy'),
                          outcome(pair * 1000 + 601, first, 'healthy')):
                events.append(event)
                mine = replay(events)[1]
                straight = model.replay(events, straight=True)[1]
                if event is events[-1] and event['t'] % 1000 == 601:
                    self.assertTrue(alike(mine, straight), f'\n{mine}\n{straight}')
                else:
                    differed += not alike(mine, straight)
        self.assertGreater(differed, 0)


class Pairs(unittest.TestCase):
    def test_devices_that_ask_one_after_the_other_form_pairs(self):
        count = 400
        events = [start(harm_budget=count)] + [begin(i, f'd{i}') for i in range(count)]
        decisions = [d for d in replay(events)[0] if d['decision'] in ('permit', 'placebo')]
        self.assertEqual([d['device'] for d in decisions], [f'd{i}' for i in range(count)])
        self.assertEqual([d['pair'] for d in decisions], [1 + i // 2 for i in range(count)])
        for first, second in zip(decisions[::2], decisions[1::2]):
            release = model.coin(SEED, first['pair'])
            self.assertEqual((first['decision'], second['decision']),
                             ('permit', 'placebo') if release else ('placebo', 'permit'))

    def test_strata_pair_by_themselves(self):
        events = [start(), begin(1, 'a'), begin(2, 'b', attributes={'os': 'windows'}),
                  begin(3, 'c'), begin(4, 'd', attributes={'os': 'windows'})]
        decisions = [d for d in replay(events)[0] if d['decision'] != 'open']
        self.assertEqual([d['pair'] for d in decisions], [1, 2, 1, 2])

    def test_slices_left_out_are_told_so(self):
        events = [start(excluded=[{'os': 'windows', 'kernel': '5.4'}, {'organisation': 'acme'}]),
                  begin(1, 'a', org='beta'), begin(2, 'b', org='acme'),
                  begin(3, 'c', org='beta', attributes={'os': 'windows', 'kernel': '5.4', 'x': ''}),
                  begin(4, 'd', org='beta', attributes={'os': 'windows', 'kernel': '6'})]
        decisions = [d for d in replay(events)[0] if d['decision'] != 'open']
        self.assertEqual([d.get('reason') for d in decisions], [None, 'excluded', 'excluded', None])
        self.assertEqual({d['decision'] for d in decisions[1:3]}, {'no'})

    def test_organisations_with_devices_have_budgets_of_their_own(self):
        fleet = {'small': 40, 'large': 100000}
        asks = [begin(i, f's{i}', org='small') for i in range(8)] + \
            [begin(20 + i, f'l{i}', org='large') for i in range(8)]
        bound, free = (replay([start(**more)] + asks)[0] for more in ({'organisations': fleet}, {}))
        self.assertEqual([d['reason'] for d in bound if 'reason' in d], ['organisation-budget'] * 6)
        self.assertFalse([d for d in free if 'reason' in d])


GOOD = [start(), begin(1, 'd1'), begin(2, 'd2'), outcome(3, 'd1', 'healthy'),
        outcome(4, 'd2', 'failed')]


class BadInput(unittest.TestCase):
    def refused(self, line, at, *words, before=GOOD):
        """The error points to `at` (a column, or the text that stands there) and has the words."""
        text = line if isinstance(line, str) else json.dumps(line)
        column = at if isinstance(at, int) else text.index(at) + 1
        good = run(text=dump(before)) if before else None
        done = run(text=dump(before) + text + '\n' + dump(GOOD[1:2]))
        self.assertEqual(done.returncode, 1, text)
        self.assertIn(f'line {len(before) + 1}, column {column}: ', done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertNotIn('summary', done.stdout)
        if good:  # the lines before were decided, this one was not
            self.assertEqual(done.stdout.splitlines(), good.stdout.splitlines()[:-1])

    def test_time_does_not_run_backwards(self):
        self.refused({'t': 3.5, 'event': 'tick'}, '3.5', '3.5', 'at least 4', 'backwards')

    def test_an_outcome_needs_a_permit(self):
        self.refused(outcome(5, 'd9', 'healthy'), '"d9"', 'd9', 'begin')
        paused = [{'t': 5, 'event': 'pause', 'by': 'ann', 'reason': 'x'}, begin(5, 'd3')]
        self.refused(outcome(5, 'd3', 'healthy'), '"d3"', 'd3', 'holds no permit',
                     before=GOOD + paused)

    def test_an_outcome_comes_once(self):
        self.refused(outcome(5, 'd1', 'healthy'), '"d1"', 'd1', 'already')
        late = [begin(5, 'd3'), outcome(1000, 'd3', 'healthy')]
        self.refused(outcome(1001, 'd3', 'healthy'), '"d3"', 'd3', 'already', before=GOOD + late)

    def test_the_arm_is_the_one_that_was_decided(self):
        events = [start(), begin(1, 'd1')]
        given, other = ('release', 'placebo') if model.coin(SEED, 1) else ('placebo', 'release')
        self.refused(outcome(5, 'd1', 'healthy', arm=other), f'"{other}"', f'"{other}"', f'"{given}"',
                     before=events)
        self.refused(outcome(5, 'd1', 'healthy', arm='left'), '"left"', '"left"', 'release, placebo',
                     before=events)
        self.assertEqual(replay(events + [outcome(5, 'd1', 'healthy', arm=given)])[1]['state'],
                         'running')

    def test_what_is_not_known_is_not_passed_over(self):
        self.refused({'t': 5, 'event': 'reboot'}, '"reboot"', '"reboot"', 'begin, outcome, tick')
        self.refused({'t': 5, 'event': 'tick', 'why': 'x'}, '"x"', '"why"')
        self.refused({'t': 5, 'event': 'begin', 'device': 'd3', 'org': 'o'}, 1, '"attributes"')
        self.refused({'t': 5, 'event': 'begin', 'device': 'd3', 'org': 'o',
                      'attributes': {'os': 'x', 'cores': 4}}, '4}', 'attributes.cores is 4')
        self.refused(outcome(5, 'd2', 'well'), '"well"', '"well"', 'healthy, failed')
        self.refused({'t': '5', 'event': 'tick'}, '"5"', 't is "5"', 'a number')
        self.refused({'t': 5}, 1, '"event"')
        self.refused([5], 1, 'no JSON object')
        self.refused(outcome(5, 'd2', 'regressed'), '"d2"', 'd2', 'not healthy')
        self.refused({'t': 5, 'event': 'outage', 'from': 5, 'to': 3}, '3}', 'from 5.000 to 3.000')
        self.refused({'t': 5, 'event': 'approve', 'by': 'ann', 'stage': 'canary'}, '"canary"', 'canary')
        self.refused({'t': 5, 'event': 'hold', 'by': 'ann', 'reason': 'x'}, 1, 'organisation')

    def test_malformed_lines_are_refused_where_they_are_wrong(self):
        self.refused('{"t": 5, "event": tick}', 22, 'not valid JSON', 'tick')
        self.refused('{"t": 5, "t": 6, "event": "tick"}', 12, 'duplicate')
        self.refused('{"t": 5', 7, 'not valid JSON')
        self.refused('{"t":5,"event":"tick"} {}', 24, 'not valid JSON')
        self.refused('{"t": 5, "event": "tick", "\u00e9": NaN}', 34, 'not valid JSON')

    def test_a_start_that_cannot_be_is_refused(self):
        def bad(at, *words, **more):
            self.refused({**start(), **more}, at, *words, before=[])
        self.refused(begin(0, 'd1'), '"begin"', 'start', before=[])
        self.refused(start(t=9), '"start"', 'started already')
        bad('"xyz"', 'seed is "xyz"', seed='xyz')
        bad('0}', 'policy.harm_budget is 0', policy={'class': 'routine', 'harm_budget': 0})
        bad('true', 'policy: "hurry" is not known',
            policy={'class': 'routine', 'harm_budget': 3, 'hurry': True})
        bad('2, "name"', 'policy.stages[0].share is 2', policy={
            'class': 'routine', 'harm_budget': 3, 'stages': [{'share': 2, 'name': 'a'}]})
        bad('"x"', 'organisations.acme is "x"', organisations={'acme': 'x'})
        bad('{}', 'excluded[0] is no slice', excluded=[{}])
        self.assertEqual(run(text='').returncode, 1)
        self.assertIn('start', run(text='\n\n').stderr)

    def test_a_report_after_its_deadline_is_no_error(self):
        decisions, summary = replay([start(), begin(1, 'd1'), outcome(5000, 'd1', 'healthy')])
        self.assertEqual(summary['k_release'] + summary['k_placebo'], 1)
        self.assertEqual(summary['at'], 5000)

    def test_files_and_options_that_cannot_be_are_named(self):
        done = subprocess.run([MAESLANT, 'replay', '/nowhere/x'], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn('/nowhere/x', done.stderr)
        self.assertEqual(run('--all', '--check', text='').returncode, 2)
        self.assertEqual(subprocess.run([MAESLANT, 'replay'], capture_output=True).returncode, 2)


class Logs(unittest.TestCase):
    """What a server keeps: events, and behind each the decisions that follow from it."""

    @classmethod
    def setUpClass(cls):
        cls.history = History(11, {'harm_budget': 10, 'policy': {'alpha': 0.01}}, MIXED, 60,
                              persons=0.05).run(150)
        cls.log, before = [], []
        for number, event in enumerate(cls.history.events):
            decisions = replay(cls.history.events[:number + 1], '--all')[0]
            cls.log += [event] + decisions[len(before):]
            before = decisions

    def check(self, log):
        return run('--check', text=dump(log))

    def test_a_log_is_recomputed_and_any_other_decision_is_shown(self):
        decisions = [i for i, line in enumerate(self.log) if 'decision' in line]
        kinds = {self.log[i]['decision'] for i in decisions}
        self.assertLess({'permit', 'placebo', 'silent', 'pause', 'resume', 'halt'}, kinds)
        done = self.check(self.log)
        self.assertEqual(done.stdout,
                         f'every decision recomputed: {len(decisions)} of {len(decisions)}\n')
        self.assertEqual(done.returncode, 0)
        chance = random.Random(1)
        for at in chance.sample(decisions, 12):
            line = self.log[at]
            for wrong in ({**line, 't': line['t'] + 1}, {**line, 'device': 'dx'}, None):
                other = self.log[:at] + ([wrong] if wrong else []) + self.log[at + 1:]
                done = self.check(other)
                self.assertEqual(done.returncode, 1, wrong)
                self.assertIn('recomputed:  ', done.stdout)
                self.assertIn('line ', done.stderr)
        done = self.check(self.log + [{'t': 9e9, 'decision': 'halt'}])
        self.assertIn('recomputed:  nothing', done.stdout)
        done = self.check(self.log[:decisions[-1]])
        self.assertIn('in the log:  nothing', done.stdout)
        self.assertEqual(done.returncode, 1)

    def test_evidence_may_differ_by_rounding_and_no_more(self):
        at = next(i for i, line in enumerate(self.log) if line.get('decision') == 'pause')
        for difference, status in ((1e-10, 0), (1e-6, 1)):
            line = json.loads(json.dumps(self.log[at]))
            line['because']['log_e'] += difference
            self.assertEqual(self.check(self.log[:at] + [line] + self.log[at + 1:]).returncode,
                             status)

    def test_decisions_in_the_input_are_passed_over(self):
        self.assertEqual(replay(self.log), replay(self.history.events))

    def test_only_the_kinds_of_the_format_are_printed_unless_all_are_asked_for(self):
        few, summary = replay(self.history.events)
        every, same = replay(self.history.events, '--all')
        self.assertEqual(summary, same)
        self.assertLessEqual({d['decision'] for d in few}, set(LISTED))
        for line in every:
            if 'because' in line:
                line['because'] = {key: value for key, value in line['because'].items()
                                   if key not in ('by', 'reason')}
        self.assertEqual([d for d in every if d['decision'] in LISTED], few)
        for decision in few:
            self.assertEqual(set(decision) - {'t', 'decision'}, {
                'permit': {'device', 'pair'}, 'placebo': {'device', 'pair'},
                'wait': {'device', 'reason'}, 'no': {'device', 'reason'}, 'open': {'stage'},
                'pause': {'because'}, 'halt': {'because'}}[decision['decision']])

    def test_decisions_are_printed_as_they_fall(self):
        with subprocess.Popen([MAESLANT, 'replay', '-'], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, bufsize=1) as process:
            process.stdin.write(dump(GOOD[:2]))
            process.stdin.flush()
            self.assertEqual(json.loads(process.stdout.readline())['decision'], 'open')
            self.assertEqual(json.loads(process.stdout.readline())['device'], 'd1')
            process.stdin.write(json.dumps(GOOD[2]))  # a last line without a line feed
            process.stdin.close()
            self.assertEqual(json.loads(process.stdout.readline())['device'], 'd2')
            self.assertIn('summary', json.loads(process.stdout.readline()))


if __name__ == '__main__':
    del sys.argv[1:3]
    unittest.main(verbosity=2)
