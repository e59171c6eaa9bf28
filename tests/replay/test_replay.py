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


def begin(t, device, org='acme', **more):
    return {'t': t, 'event': 'begin', 'device': device, 'org': org,
            'attributes': {'os': 'linux'}, **more}


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
        vectors = json.loads((VECTORS / 'vectors.json').read_text())
        split = json.loads((VECTORS / 'split.json').read_text())
        print(json.dumps(vectors)[:300], json.dumps(split)[:300], file=sys.stderr)


if __name__ == '__main__':
    del sys.argv[1:3]
    unittest.main(verbosity=2)
