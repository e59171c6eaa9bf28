"""A second engine, for one stratum without organisations, written from the design and docs/rollout.md
and from no line of src/: the coin, split-1, default-1, the bounds, the window, both alarms.

It is slow and plain on purpose: every number is computed again from the list of exposures whenever it
is needed. Numbers that decide are compared after rounding to 1e-9.
"""
import functools
import hashlib
import heapq
import math

TERMS = 24
EPSILON = 1e-6
ODDS = 10
CONTROL = 10
CHECKED = 20
PATIENCE = 4  # deadlines without a placebo for the check


def coin(seed, pair):
    """Whether the first device of the pair gets the release."""
    digest = hashlib.sha256(f'maeslant coin v1\n{seed}\n{pair}'.encode()).digest()
    return digest[0] & 1 == 1


def geometric(first, last):
    return [first * (last / first) ** (j / (TERMS - 1)) for j in range(TERMS)]


def log_sum(terms):
    top = max(terms)
    return top + math.log(sum(math.exp(term - top) for term in terms))


@functools.lru_cache(None)
def log_split(k_release, k_placebo, h=0):
    """ln e_h."""
    gains = max(0, k_release - h)
    terms = [math.log(0.8 / TERMS) + gains * math.log(2 * ratio / (ratio + 1)) +
             k_placebo * math.log(2 / (ratio + 1)) for ratio in geometric(1.05, 1000)]
    if k_placebo == 0:
        terms.append(math.log(0.2) + gains * math.log(2))
    return log_sum(terms)


def likelihood(n, k, p):
    total = 0.0
    if k:
        total += k * math.log(p)
    if n > k:
        total += (n - k) * math.log1p(-p)
    return total


@functools.lru_cache(None)
def log_default(n, k, tolerated, floor):
    """ln E of default-1."""
    if n == 0:
        return 0.0
    null = likelihood(n, k, min(tolerated, k / n))
    terms = [math.log(0.8 / TERMS) + likelihood(n, k, rate) - null
             for rate in geometric(1.5 * floor, 0.9) if rate > tolerated]
    if k == n:
        terms.append(math.log(0.2) - null)
    return log_sum(terms)


def log_beta(a, b):
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def martingale(n, k, p):
    """The Jeffreys mixture over the likelihood at p."""
    return log_beta(k + 0.5, n - k + 0.5) - log_beta(0.5, 0.5) - likelihood(n, k, p)


def bisect(inside, outside, n, k, threshold):
    """The root between a rate that is not refuted and one that is."""
    for _ in range(200):
        middle = (inside + outside) / 2
        if middle in (inside, outside):
            break
        if martingale(n, k, middle) < threshold:
            inside = middle
        else:
            outside = middle
    return inside


@functools.lru_cache(None)
def upper(n, k, alpha):
    return 1.0 if n == k else bisect(k / n, 1.0, n, k, -math.log(alpha))


@functools.lru_cache(None)
def lower(n, k, alpha):
    return 0.0 if k == 0 else bisect(k / n, 0.0, n, k, -math.log(alpha))


def rounded(value):
    return round(value * 1e9) / 1e9


def at_least(value, threshold):
    return rounded(value) >= rounded(threshold)


class Exposure:
    def __init__(self, device, arm, t, deadline, sequence):
        self.device, self.arm, self.t, self.deadline = device, arm, t, deadline
        self.sequence = sequence
        self.pair = self.check = None
        self.outcome = None      # h f s d
        self.interruptions = 0
        self.forgotten = False   # outside pairs, before alarm A started afresh

    @property
    def failed(self):
        return self.outcome in ('f', 's')

    @property
    def settled(self):
        return self.outcome in ('h', 'f', 's')


class Pair:
    def __init__(self, number, first_gets_release):
        self.number, self.first = number, first_gets_release
        self.members = []
        self.closed = False

    @property
    def over(self):
        """Its toss is over: the coin hides nothing any more."""
        return self.closed or any(member.failed for member in self.members)


class Device:
    def __init__(self, name):
        self.name = name
        self.state = 'new'  # new, placebo, waiting, release, healthy, failed
        self.open = None    # its exposure in flight
        self.pair = None    # in which it was the placebo
        self.round = 0
        self.silent = False


class Model:
    """event() gives the decisions that design/formats.md lists, as dicts; summary() the last line."""

    def __init__(self, start, straight=False):
        policy = start['policy']
        self.straight = straight  # count what an open pair's coin would give away, too
        self.seed, self.t = start['seed'], start['t']
        self.budget = policy['harm_budget']
        self.alpha = policy.get('alpha', 1e-4)
        self.risk = 1 - policy.get('confidence', 0.99)
        tolerance = policy.get('tolerance', {})
        self.ratio = tolerance.get('ratio', 1.5)
        self.floor = tolerance.get('floor', 1e-4)
        self.cap = tolerance.get('cap', 1e-2)
        self.pairs_on = policy.get('placebo', 'pairs') == 'pairs'
        self.deadline = policy.get('deadline', 900)
        self.interruptions = policy.get('interruptions', 2)
        self.interrupted_for = policy.get('interrupted_for', 86400)
        self.threshold = math.log(2 / self.alpha)
        self.devices, self.exposures, self.pairs = {}, [], []
        self.half_open = None
        self.k_release = self.k_placebo = 0
        self.opened = False
        self.state, self.at = 'running', None
        self.person = self.environment = self.excused = self.out_of_service = False
        self.world_well = False
        self.check = self.check_moved = 0
        self.round = 0
        self.halt_log_e = None
        self.halted = False
        self.decided = []

    # Counts

    def visible(self, exposure):
        """Its outcome may be counted."""
        return exposure.settled and (self.straight or exposure.pair is None or exposure.pair.over)

    def begun(self, arm):
        """Exposures begun; both arms of a pair from its opening."""
        count = sum(1 for e in self.exposures if e.arm == arm and e.outcome != 'd' and
                    not e.forgotten and (e.pair is None or e.pair.closed or self.straight))
        if not self.straight:
            count += sum(1 for pair in self.pairs if not pair.closed)
        return count

    def outcomes(self, arm, evidence=False):
        """(settled, failed); for evidence without what was forgotten."""
        seen = [e for e in self.exposures if e.arm == arm and self.visible(e) and
                not (evidence and e.forgotten)]
        return len(seen), sum(e.failed for e in seen)

    def tolerated(self):
        settled, failed = self.outcomes('placebo')
        most = 0.6 if self.out_of_service else self.cap
        return min(most, max(self.floor, self.ratio * upper(settled, failed, self.risk)))

    def price(self):
        settled, failed = self.outcomes('release')
        if settled == 0:
            return 1.0
        return max(upper(settled, failed, self.risk) -
                   lower(*self.outcomes('placebo'), self.risk), EPSILON)

    def rooms(self):
        return sum(not pair.closed for pair in self.pairs) + \
            sum(e.arm == 'release' and e.pair is None and e.outcome is None
                for e in self.exposures)

    def window_allows(self):
        cost = round(self.price() * 1e9)
        return (self.rooms() + 1) * cost <= round(self.budget * 1e9) + 1

    def log_e(self, pairs_only=False):
        n, k = self.evidence_counts(pairs_only)
        return log_default(n, k, self.tolerated(), self.floor)

    def evidence_counts(self, pairs_only=False):
        if not pairs_only:
            return self.begun('release'), self.outcomes('release', evidence=True)[1]
        mine = [e for e in self.exposures if e.arm == 'release' and e.pair is not None]
        n = sum(1 for e in mine if e.pair.closed and e.outcome != 'd') + \
            sum(1 for pair in self.pairs if not pair.closed)
        return n, sum(e.failed for e in mine)

    def proven(self):
        count = 0
        while count < self.k_release and \
                at_least(log_split(self.k_release, self.k_placebo, count), self.threshold):
            count += 1
        return count

    # Decisions

    def emit(self, decision, **members):
        self.decided.append({'t': self.t, 'decision': decision, **members})

    def because(self, alarm, slice_='all'):
        n, k = self.evidence_counts()
        return {'alarm': alarm, 'slice': slice_, 'n': n, 'k': k, 'tolerated': self.tolerated(),
                'log_e': self.log_e(), 'k_release': self.k_release, 'k_placebo': self.k_placebo,
                'proven_harm': self.proven_at_halt if self.halted else self.proven()}

    def halt(self, alarm, slice_='all'):
        if self.halted:
            return
        self.halt_log_e, self.proven_at_halt = self.log_e(), self.proven()
        self.halted, self.state = True, 'halted'
        self.emit('halt', because=self.because(alarm, slice_))

    def set_pause(self):
        if self.halted:
            return
        self.state = 'paused' if self.person or self.environment else 'running'

    def coins(self):
        return log_split(self.k_release, self.k_placebo)

    def joint(self):
        """Evidence that more pairs have failures than a noise of five caps explains, times e_0."""
        pairs = self.evidence_counts(pairs_only=True)[0]
        decided = sum(any(member.failed for member in pair.members) for pair in self.pairs)
        rate = min(5 * self.cap, 0.5)
        return log_default(pairs, min(decided, pairs), rate * (2 - rate), self.floor) + self.coins()

    def apart(self):
        if not at_least(self.coins(), math.log(ODDS)):
            return False
        if at_least(self.coins(), self.threshold):
            return True
        if self.alpha >= 0.01:
            return False
        return self.k_placebo == 0 or at_least(self.joint(), self.threshold) or \
            self.world_well and at_least(self.coins() + math.log(CHECKED), self.threshold)

    def convicted(self):
        """After a clean control check."""
        if self.alpha >= 0.01:
            return False
        return self.k_placebo == 0 or \
            at_least(max(self.joint(), self.coins()) + math.log(CHECKED), self.threshold)

    def accused(self, pairs_only=False):
        if self.out_of_service or self.evidence_counts(pairs_only)[1] == 0:
            return False
        return at_least(self.log_e(pairs_only), self.threshold)

    def placebos_fail(self):
        n, k = self.begun('placebo'), self.outcomes('placebo')[1]
        return at_least(log_default(n, k, self.cap, self.floor), math.log(ODDS))

    def take_out_of_service(self):
        if self.outcomes('release')[1] == 0 or not self.placebos_fail():
            return False
        self.out_of_service = True
        return True

    def check_absolute(self):
        if at_least(self.coins(), self.threshold) and self.evidence_counts()[1] > 0 and \
                at_least(self.log_e(), self.threshold):
            self.halt('absolute')
            return
        if not self.accused():
            return
        if not self.pairs_on or self.apart():
            self.halt('absolute')
        elif not self.environment and not self.excused and not self.take_out_of_service():
            self.environment = True
            self.check += 1
            self.check_moved = self.t
            self.set_pause()
            self.emit('pause', because=self.because('environment'))

    def controls(self):
        mine = [e for e in self.exposures if e.check == self.check and e.outcome != 'd']
        return (sum(e.outcome is None for e in mine), sum(e.outcome == 'h' for e in mine),
                sum(e.failed for e in mine))

    def controls_needed(self):
        n, k = self.evidence_counts(pairs_only=True)
        if k == 0 or not self.accused(pairs_only=True):
            return CONTROL
        failed = self.controls()[2]
        rate = min(k / n, 0.9)
        gain, loss = math.log((1 - self.cap) / (1 - rate)), math.log(self.cap / rate)
        if gain < 0.01:
            return CONTROL * (1 + failed)
        return max(CONTROL, math.ceil(rounded((math.log(ODDS) - failed * loss) / gain)))

    def check_environment(self):
        if self.apart():
            self.halt('absolute')
        elif self.take_out_of_service():
            self.environment = False
            self.set_pause()
        elif self.controls()[1] >= self.controls_needed():
            if self.accused(pairs_only=True):
                if self.convicted():
                    self.halt('absolute')
                    return
                self.world_well = self.excused = True
                self.environment = False
                self.set_pause()
                self.check_absolute()
                return
            for exposure in self.exposures:
                if exposure.pair is None and exposure.outcome is not None:
                    exposure.forgotten = exposure.arm == 'release'
            self.round += 1
            self.environment = False
            self.set_pause()
            self.check_absolute()

    def alarms(self):
        if self.halted:
            return
        if self.proven() > math.floor(self.budget):
            self.halt('proven-harm')
            return
        if not self.environment and self.outcomes('placebo')[1] >= 2 and self.placebos_fail():
            self.out_of_service = True
        self.check_absolute()
        if self.environment and not self.halted:
            self.check_environment()

    def lose_patience(self):
        """Nobody came for the check: the pause ends, and the suspicion is heard."""
        if self.environment and not self.halted and self.controls()[0] == 0 and \
                self.t >= self.check_moved + PATIENCE * self.deadline:
            self.excused, self.environment = True, False
            self.set_pause()
            self.check_absolute()

    # Exposures

    def expose(self, device, arm, pair=None, check=None):
        exposure = Exposure(device, arm, self.t, self.t + self.deadline, len(self.exposures))
        exposure.pair, exposure.check = pair, check
        if check is not None:
            self.check_moved = self.t
        exposure.before = device.state
        self.exposures.append(exposure)
        device.open, device.silent = exposure, False
        device.state = 'release' if arm == 'release' else 'placebo'
        if pair:
            pair.members.append(exposure)
            device.round = self.round
            if arm == 'placebo':
                device.pair = pair
        self.emit('permit' if arm == 'release' else 'placebo', device=device.name,
                  pair=pair.number if pair else None)

    def settle(self, exposure, outcome):
        device, pair = exposure.device, exposure.pair
        exposure.outcome = outcome
        device.open = None
        device.silent = outcome == 's'
        if outcome == 'd' or exposure.check is not None:
            device.state = exposure.before
        elif exposure.arm == 'placebo':
            device.state = 'waiting'
        else:
            device.state = 'healthy' if outcome == 'h' else 'failed'
        if exposure.failed and not self.halted:
            partner = [e for e in pair.members if e is not exposure] if pair else []
            if exposure.arm == 'placebo':
                self.k_placebo += 1
            elif pair and not any(e.failed for e in partner):
                self.k_release += 1
        if pair and all(e.outcome is not None for e in pair.members):
            # Also a half-open pair: a partner that never came closes it.
            pair.closed = True
            if self.half_open is pair:
                self.half_open = None
        self.alarms()

    def deadlines(self, t, reporting=None):
        """Silence, earliest first; the device that reports at its very deadline is in time."""
        due = [(e.deadline, e.sequence, e) for e in self.exposures
               if e.outcome is None and e.deadline <= t and
               not (e.device is reporting and e.deadline == t)]
        heapq.heapify(due)
        while due:
            self.settle(heapq.heappop(due)[2], 's')

    def begin(self, device):
        def refuse(reason):
            kind = 'no' if reason in ('halted', 'already', 'failed-before') else 'wait'
            self.emit(kind, device=device.name, reason=reason)

        if self.halted:
            return refuse('halted')
        if device.open:
            return refuse('open-permit')
        if device.state == 'healthy':
            return refuse('already')
        if device.state == 'failed':
            return refuse('failed-before')
        if device.state == 'waiting' and not device.pair.closed:
            return refuse('pair-open')
        if self.person or self.environment:
            in_flight, clean, _ = self.controls()
            if self.person or in_flight + clean >= self.controls_needed():
                return refuse('paused')
            return self.expose(device, 'placebo', check=self.check)
        paired = self.pairs_on and (device.state == 'new' or device.round < self.round)
        if not (paired and self.half_open) and not self.window_allows():
            return refuse('window')
        if not paired:
            return self.expose(device, 'release')
        if self.half_open:
            pair, self.half_open = self.half_open, None
            return self.expose(device, 'placebo' if pair.first else 'release', pair)
        pair = self.half_open = Pair(len(self.pairs) + 1, coin(self.seed, len(self.pairs) + 1))
        self.pairs.append(pair)
        return self.expose(device, 'release' if pair.first else 'placebo', pair)

    def outcome(self, device, outcome):
        exposure = device.open
        if outcome == 'regressed':
            device.state = 'failed'
            device.regressed = True
        elif exposure is None:
            pass  # after its deadline: kept, and no evidence
        elif outcome != 'interrupted':
            self.settle(exposure, outcome[0])
        elif exposure.interruptions >= self.interruptions:
            self.settle(exposure, 's')
        else:
            exposure.interruptions += 1
            exposure.deadline = self.t + self.interrupted_for

    def event(self, event):
        before, self.decided = self.state, []
        kind, self.t = event['event'], event['t']
        device = None
        if 'device' in event:
            device = self.devices.setdefault(event['device'], Device(event['device']))
        if kind == 'outage':
            self.deadlines(min(event['from'], self.t))
            for exposure in self.exposures:
                if exposure.outcome is None and exposure.t < event['to'] and \
                        exposure.deadline > event['from']:
                    exposure.deadline += event['to'] - event['from']
            self.check_moved += event['to'] - event['from']
        self.deadlines(self.t, device if kind == 'outcome' else None)
        self.lose_patience()
        if not self.opened and not (self.halted or self.person):
            self.opened = True
            self.emit('open', stage='all')
        if kind == 'begin':
            self.begin(device)
        elif kind == 'outcome':
            self.outcome(device, event['outcome'])
        elif kind == 'pause' and not self.halted and not self.person:
            self.person = True
            self.set_pause()
            self.emit('pause', because=self.because('person', ''))
        elif kind == 'resume' and not self.halted:
            self.excused = self.excused or self.environment
            self.person = self.environment = False
            self.set_pause()
        elif kind == 'halt':
            self.halt('person', '')
        if self.state != before:
            self.at = self.t
        return self.decided

    def summary(self):
        release = [e for e in self.exposures if e.arm == 'release']
        regressed = sum(getattr(device, 'regressed', False) for device in self.devices.values())
        return {'state': self.state, 'at': self.t if self.state == 'running' else self.at,
                'permits': len(release), 'placebos': len(self.exposures) - len(release),
                'settled': sum(e.settled for e in release),
                'failed': sum(e.failed for e in release) + regressed,
                'log_e': self.halt_log_e if self.halted else self.log_e(),
                'k_release': self.k_release, 'k_placebo': self.k_placebo,
                'log_split': log_split(self.k_release, self.k_placebo),
                'proven_harm': self.proven_at_halt if self.halted else self.proven(),
                'stage': 'all'}


def replay(events, straight=False):
    """(decisions, summary)"""
    model = Model(events[0], straight)
    decisions = [decision for event in events[1:] for decision in model.event(event)]
    return decisions, model.summary()
