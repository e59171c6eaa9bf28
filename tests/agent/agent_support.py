"""A control plane, a tiny product and its devices, for the tests of the agent as a real process."""
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'lib'))

import fleet  # noqa: E402

PRODUCT = 'tiny'
wait_until = fleet.wait_until

MANIFEST = {
    'maeslant': 1,
    'product': PRODUCT,
    'channel': 'stable',
    'permissions': ['files', 'reload'],
    'adapter': {'kind': 'command', 'mode': 'reload', 'timeout': '5s',
                'activate': ['/bin/sh', '${product_dir}/activate', '${slot}', '${product_dir}']},
    'active': {'kind': 'exec', 'command': ['/bin/cat', '${product_dir}/running'], 'within': '2s'},
    'probes': [{'name': 'good', 'kind': 'exec', 'interval': '200ms', 'timeout': '5s',
                'command': ['/bin/sh', '${product_dir}/probe']}],
}
POLICY = {'class': 'routine', 'harm_budget': 100, 'soak': '1s', 'deadline': '60s',
          'placebo': 'none', 'organisation_share': 1}

# The product runs what the adapter copied last. `slow` in a payload makes its activation slow.
ACTIVATE = '''echo "$1" >>"$2/activations"
test ! -e "$1/payload/slow" || sleep 30
test ! -e "$1/payload/broken" || exit 7
cp "$1/digest" "$2/running.new" && mv "$2/running.new" "$2/running"
cp -r "$1/payload/data" "$2/data"
'''
PROBE = 'd=$(dirname "$0"); ! grep -q bad "$d/data" && test ! -e "$d/sick"\n'


class World:
    """A control plane below a temporary folder, with releases and devices."""

    def __init__(self, programs, plain=True, start=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='maeslant-agent-'))
        self.bin = self.folder / 'bin'
        self.bin.mkdir()
        for name, program in programs.items():
            (self.bin / name).symlink_to(os.path.abspath(program))
        self.plane = fleet.Plane(self.folder / 'plane', self.bin, plain=plain)
        if start:
            self.plane.start()
        self.devices = []
        self.sequence = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for device in self.devices:
            if device.alive():
                device.kill()
        if kind is not None:
            for device in self.devices:
                print(f'--- {device.name}\n{device.log()[-6000:]}', flush=True)
            log = self.plane.folder / 'serve.log'
            print(f'--- serve.log\n{log.read_text(errors="replace")[-3000:]}', flush=True)
        if self.plane.process and self.plane.process.poll() is None:
            self.plane.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def device(self, name=None, product=None, extra=None, adopt=True, enroll=True, manifest=None,
               **options):
        name = name or f'device-{len(self.devices) + 1}'
        folder = self.folder / name
        product_dir = folder / 'product'
        product_dir.mkdir(parents=True)
        (product_dir / 'activate').write_text(ACTIVATE)
        (product_dir / 'probe').write_text(PROBE)
        config = {'channel': 'stable', 'vars': {'product_dir': str(product_dir)},
                  'provides': {'engine': '1'}, **(product or {})}
        initial = folder / 'initial'
        initial.mkdir(parents=True)
        (initial / 'data').write_text('initial\n')
        if adopt:
            first = {**MANIFEST, 'version': '0', 'sequence': 1, **(manifest or {})}
            (folder / 'initial.yaml').write_text(
                ''.join(f'{key}: {json.dumps(value)}\n' for key, value in first.items()))
            config['adopt'] = {'content': str(initial), 'manifest': str(folder / 'initial.yaml')}
        device = fleet.Device(self.plane, folder, 'acme', {PRODUCT: config},
                              {'os': 'test', 'engine': '1'}, self.plane.token('acme', 1),
                              poll='1s', extra=extra, **options)
        device.product_dir = product_dir
        self.devices.append(device)
        return device.enroll() if enroll else device

    def release(self, files=None, **members):
        """Built, signed and published; its name."""
        self.sequence += 1
        folder = self.folder / f'release-{self.sequence}'
        content = folder / 'content'
        content.mkdir(parents=True)
        for name, text in {'data': f'content {self.sequence}\n', **(files or {})}.items():
            (content / name).write_text(text)
        manifest = {**MANIFEST, 'version': f'1.{self.sequence}', 'sequence': self.sequence + 1,
                    **members}
        (folder / 'manifest.yaml').write_text(
            ''.join(f'{key}: {json.dumps(value)}\n' for key, value in manifest.items()))
        release = self.plane.build(folder / 'manifest.yaml', content, folder / 'built')
        self.plane.publish(folder / 'built', '--skip-lab', 'a test of the agent')
        return release

    def rollout(self, release, **policy):
        path = self.folder / f'policy-{release[:12]}.yaml'
        path.write_text(json.dumps({**POLICY, **policy}))
        return self.plane.start_rollout(release, path)

    def halt(self, rollout, *options):
        self.plane.run('rollout', 'halt', rollout, '--reason', 'a test', *options)


def running(device):
    try:
        return (device.product_dir / 'running').read_text().strip()
    except OSError:
        return None


def settle(device, *states, timeout=30):
    wait_until(f'{device.name} is {" or ".join(states)}',
               lambda: device.state(PRODUCT) in states, timeout=timeout, pause=0.02)


def whole(device):
    """Exactly one whole release: `current` names a slot whose parts are all there."""
    slot = device.state_folder(PRODUCT) / 'slots' / (device.current(PRODUCT) or 'none')
    expect((slot / 'digest').read_text().strip() == slot.name, slot)
    expect((slot / 'manifest.yaml').exists() and (slot / 'payload/data').exists(), slot)
    return slot.name


def expect(truth, *what):
    if not truth:
        raise AssertionError(' '.join(str(part) for part in what))


def run_all(tests, programs):
    """Each test a function of the programs, its name the sentence that it proves."""
    only = os.environ.get('ONLY')
    failed = 0
    for test in tests:
        if only and only not in test.__name__:
            continue
        start = time.monotonic()
        try:
            test(programs)
            print(f'ok - {test.__name__} ({time.monotonic() - start:.1f} s)', flush=True)
        except Exception as problem:  # a failed test shows and the others go on
            failed += 1
            print(f'not ok - {test.__name__}: {type(problem).__name__}: {problem}', flush=True)
    return 1 if failed else 0
