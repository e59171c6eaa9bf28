"""What the system tests share: a control plane in a folder of its own, tiny releases, simulated
devices, and one line on the terminal for each sentence that was proved."""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'lib'))

import device_client  # noqa: E402
import fleet  # noqa: E402

MANIFEST = {
    'maeslant': 1,
    'permissions': ['files', 'reload'],
    'adapter': {'kind': 'command', 'activate': ['/bin/true'], 'mode': 'reload', 'timeout': '5s'},
    'active': {'kind': 'exec', 'command': ['/bin/cat', '${slot}/digest']},
    'probes': [{'name': 'always', 'kind': 'exec', 'command': ['/bin/true'], 'interval': '1s'}],
    'lab': {'validate': {'command': ['/bin/true']}, 'load': {'command': ['/bin/true']}},
}
# One organisation has all the devices of a test, so its own budget is no less than the harm budget.
POLICY = {'class': 'routine', 'harm_budget': 100, 'soak': '1h', 'deadline': '2h', 'start_by': '60s',
          'organisation_share': 1}


def ok(sentence):
    print(f'ok - {sentence}', flush=True)


def expect(truth, *what):
    if not truth:
        raise AssertionError(' '.join(str(part) for part in what))


def problem(answer, status, code, *in_detail):
    """The answer is a whole RFC 9457 problem with this code, and its detail names the values."""
    expect(answer.status == status, f'expected {status} {code}, got', answer)
    expect(answer.headers.get('content-type') == 'application/problem+json',
           'no problem+json:', answer.headers, answer)
    value = answer.json
    expect(value['type'] == f'https://maeslant.org/problems/{code}', 'expected', code, 'got', value)
    expect(value['status'] == status, value)
    for member in ('title', 'detail', 'remedy'):
        expect(isinstance(value.get(member), str) and value[member], 'no', member, 'in', value)
    for text in in_detail:
        expect(str(text) in value['detail'], f'"{text}" is not in the detail of', value)
    return value


class Admin:
    """The administrators' interface with one of the two tokens (or none)."""

    def __init__(self, plane, token='admin'):
        self.plane = plane
        self.token = (plane.folder / f'{token}.token').read_text().strip() if token else None

    def ask(self, method, path, value=None, body=None, headers=None):
        all_headers = {'Content-Type': 'application/json'}
        if self.token:
            all_headers['Authorization'] = f'Bearer {self.token}'
        all_headers.update(headers or {})
        transport = device_client.shared_transport(self.plane.url, self.plane_ca)
        return transport.ask(method, path, body if value is None else device_client.dump(value),
                             all_headers)

    @property
    def plane_ca(self):
        return None if self.plane.plain else self.plane.ca

    def get(self, path):
        answer = self.ask('GET', f'/v1/admin/{path}')
        expect(answer.status == 200, f'GET {path}:', answer)
        return answer.json

    def post(self, path, **members):
        answer = self.ask('POST', f'/v1/admin/{path}', members)
        expect(answer.status == 200, f'POST {path} {members}:', answer)
        return answer.json

    def rollout(self, name):
        return self.get(f'rollouts/{name}')

    def events(self, name):
        """Events and decisions in order."""
        lines, after = [], 0
        while True:
            part = self.get(f'rollouts/{name}/events?after={after}&limit=1000')['events']
            if not part:
                return lines
            after = part[-1]['number']
            lines += [entry['line'] for entry in part]


class World:
    """A control plane with everything below one temporary folder."""

    def __init__(self, programs, plain=False, folder=None, wrapper=(), gate=True):
        self.programs = programs
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix='maeslant-system-'))
        self.owned = folder is None
        try:
            self.plane = fleet.Plane(self.folder / 'plane', programs.bin, plain=plain, gate=gate,
                                     wrapper=wrapper)
            self.plane.start()
        except Exception:
            if hasattr(self, 'plane'):
                self._kill()
            if self.owned:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.admin = Admin(self.plane)
        self.viewer = Admin(self.plane, 'viewer')
        self.nobody = Admin(self.plane, None)
        self.tokens = {}
        self.sequence = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            status = self.plane.stop() if kind is None else self._kill()
            if kind is None:
                expect(status == 0, f'the control plane ended with {status} after SIGTERM')
                log = (self.plane.folder / 'serve.log').read_text(errors='replace')
                for word in ('runtime error:', 'Sanitizer', 'refold-mismatch', 'tick-refused'):
                    expect(word not in log, log[max(0, log.find(word) - 500):][:3000])
        finally:
            if kind is not None:
                log = self.plane.folder / 'serve.log'
                tail = log.read_text(errors='replace')[-4000:] if log.exists() else ''
                print(f'--- the end of serve.log\n{tail}', flush=True)
            if self.owned:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _kill(self):
        if self.plane.process and self.plane.process.poll() is None:
            self.plane.kill()

    def restart(self, down=0.0):
        """SIGKILL, a while without a server, and a new one on the same port."""
        self.plane.kill()
        time.sleep(down)
        self.plane.start()

    def token(self, organisation='acme'):
        if organisation not in self.tokens:
            self.tokens[organisation] = self.admin.post(
                'tokens', organisation=organisation, uses=1000000)['token']
        return self.tokens[organisation]

    def unenrolled(self, **options):
        return device_client.Client(self.plane.url, self.admin.plane_ca, **options)

    def device(self, organisation='acme', **options):
        return self.unenrolled(**options).enroll(self.token(organisation))

    def devices(self, count, **options):
        return [self.device(**options) for _ in range(count)]

    def build(self, product='tiny', payload=None, **members):
        """A release's folder and name, built and signed with the command line."""
        self.sequence += 1
        folder = self.folder / f'release-{self.sequence}'
        content = folder / 'content'
        content.mkdir(parents=True)
        (content / 'data').write_text(payload or f'content {self.sequence}\n')
        manifest = {**MANIFEST, 'product': product, 'channel': 'stable',
                    'version': f'1.{self.sequence}', 'sequence': self.sequence, **members}
        (folder / 'manifest.yaml').write_text(
            ''.join(f'{key}: {json.dumps(value)}\n' for key, value in manifest.items()))
        return (folder / 'built',
                self.plane.build(folder / 'manifest.yaml', content, folder / 'built'))

    def release(self, product='tiny', **members):
        """Published; its name."""
        folder, name = self.build(product, **members)
        self.plane.publish(folder)
        return name

    def start(self, release, **policy):
        """A rollout; its name."""
        return self.admin.post('rollouts', release=release, policy={**POLICY, **policy})['rollout']

    def fold(self, name):
        """(events with recomputed decisions, where it stands), by the helper."""
        lines = self.admin.events(name)
        text = ''.join(json.dumps(line) + '\n' for line in lines)
        result = subprocess.run([self.programs.fold], input=text, capture_output=True, text=True,
                                timeout=60)
        expect(result.returncode == 0, 'fold:', result.stderr)
        out = [json.loads(line) for line in result.stdout.splitlines()]
        return lines, out[:-1], out[-1]


def same(stored, now):
    """Equal, but for evidence that differs by rounding."""
    if isinstance(stored, dict) and isinstance(now, dict):
        return stored.keys() == now.keys() and all(same(stored[key], now[key]) for key in stored)
    if isinstance(stored, (int, float)) and isinstance(now, (int, float)):
        return abs(stored - now) <= 2e-9 * max(1, abs(stored))
    return stored == now


def check_fold(world, name):
    """The log and the server's view equal what anybody recomputes from the events. Returns the
    log's lines."""
    view = world.admin.rollout(name)
    lines, folded, state = world.fold(name)
    expect(len(lines) == len(folded), f'{name}: {len(lines)} lines logged, {len(folded)} recomputed')
    for number, (stored, now) in enumerate(zip(lines, folded)):
        expect(same(stored, now), f'{name}, line {number + 1}: logged {stored}, recomputed {now}')
    expect('mismatch' not in view, view.get('mismatch'))
    expect(view['state'] == state['state'], view['state'], state)
    for member in ('permits', 'placebos', 'settled', 'healthy', 'silent', 'late', 'in_flight',
                   'proven_harm', 'placebo_failed'):
        expect(view[member] == state[member], f'{name}: {member} is {view[member]} in the view and',
               f'{state[member]} in the fold')
    expect(view['failed'] + view.get('obeyed_halt', 0) == state['failed'], view['failed'], state)
    expect(state['most_used'] <= state['window'] + 1e-6,
           f'{name}: the harm in flight was {state["most_used"]} of {state["window"]}')
    check_replay(world, name, lines, view)
    return lines


def check_replay(world, name, lines, view):
    """`maeslant replay` says so too, and its summary is the server's view."""
    text = ''.join(json.dumps(line) + '\n' for line in lines)

    def replay(*options):
        done = subprocess.run([world.programs.maeslant, 'replay', *options, '-'], input=text,
                              capture_output=True, text=True, timeout=60)
        expect(done.returncode == 0, f'{name}: replay', *options, done.stdout, done.stderr)
        return done.stdout

    count = sum('decision' in line for line in lines)
    expect(replay('--check') == f'every decision recomputed: {count} of {count}\n')
    summary = json.loads(replay().splitlines()[-1])['summary']
    for member in ('state', 'settled', 'k_release', 'k_placebo', 'proven_harm', 'stage'):
        expect(summary[member] == view[member],
               f'{name}: {member} is {view[member]} in the view, {summary[member]} in the summary')
    granted = decisions(lines, 'permit')
    expect(summary['permits'] == len(granted) >= view['permits'], summary, view['permits'])


def decisions(lines, *kinds):
    return [line for line in lines if line.get('decision') in kinds]


def events(lines, kind):
    return [line for line in lines if line.get('event') == kind]


@contextlib.contextmanager
def measured():
    """Seconds that the block took, as a list's only item once it is over."""
    span = []
    start = time.monotonic()
    yield span
    span.append(time.monotonic() - start)


class Programs:
    def __init__(self, maeslant, fold):
        self.maeslant = os.path.abspath(maeslant)
        self.bin = os.path.dirname(self.maeslant)
        self.fold = os.path.abspath(fold)


def main(tests, slow_tests=()):
    """Runs the tests (functions of Programs), each for itself; the exit status says whether all
    passed."""
    parser = argparse.ArgumentParser()
    parser.add_argument('maeslant')
    parser.add_argument('fold')
    parser.add_argument('--slow', action='store_true')
    parser.add_argument('--only', help='part of a test\'s name')
    options = parser.parse_args()
    programs = Programs(options.maeslant, options.fold)
    failed = 0
    for test in slow_tests if options.slow else tests:
        if options.only and options.only not in test.__name__:
            continue
        start = time.monotonic()
        try:
            test(programs)
            print(f'ok - {test.__name__} ({time.monotonic() - start:.1f} s)', flush=True)
        except Exception:
            failed += 1
            print(f'not ok - {test.__name__}\n{traceback.format_exc()}', flush=True)
    sys.exit(1 if failed else 0)
