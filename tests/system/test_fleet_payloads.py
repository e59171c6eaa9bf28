"""What a hostile or careless vendor, or somebody between, can offer to a device that trusts the
release key: each is declined with a reason, and nothing outside the slot is touched."""
import base64
import hashlib
import http.client
import http.server
import io
import json
import os
import pathlib
import subprocess
import tarfile
import threading

from fleet_support import (MANIFEST, PRODUCT, World, at_least_three_probes, blocked, expect, main,
                           running, settle, support, wait_until, whole)


import device_client  # found by fleet_support


def member(name, data=b'', kind=tarfile.REGTYPE, mode=0o644, link='', device=None):
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), link
    if device:
        entry.devmajor, entry.devminor = device
    return entry, data


def archive(members, frames=1):
    """A tar.zst as its format demands it, of members that it may not demand."""
    whole_tar = io.BytesIO()
    with tarfile.open(fileobj=whole_tar, mode='w', format=tarfile.USTAR_FORMAT) as tar:
        for entry, data in members:
            tar.addfile(entry, io.BytesIO(data))
    packed = subprocess.run(['zstd', '-q', '-c', '-3'], input=whole_tar.getvalue(),
                            capture_output=True, check=True).stdout
    return packed * frames


def signed(text, key_file):
    """manifest.sig, without the tool that refuses what it does not know."""
    seed = base64.b64decode(pathlib.Path(key_file).read_text().split()[-1])
    key = device_client.Key(seed)
    signature = base64.b64encode(key.sign('maeslant release v1\n', text)).decode()
    return f'maeslant release signature v1 {key.device[:16]}\n{signature}\n'


class Vendor:
    """Somebody with the release key who does not use our tools to build."""

    def __init__(self, world):
        self.world = world
        self.admin = support.Admin(world.plane)

    def upload(self, data):
        name = hashlib.sha256(data).hexdigest()
        for offset in range(0, len(data), 65536):
            answer = self.admin.ask('PUT', f'/v1/admin/artifacts/{name}?offset={offset}&size='
                                    f'{len(data)}', body=data[offset:offset + 65536],
                                    headers={'Content-Type': 'application/octet-stream'})
            expect(answer.status == 200, answer)
        return name

    def offer(self, payload, key=None, unpacked=None, files=None, **members):
        """Uploads, signs, publishes; returns the answer to the publication and the release."""
        text, _ = self.manifest(payload, unpacked or 1 << 20, files or 100, **members)
        self.upload(payload)
        release = self.upload(text)
        answer = self.admin.ask('POST', '/v1/admin/releases', {
            'release': release, 'signature': signed(text, key or self.world.plane.release_key),
            'skipped': 'a hostile vendor tests nothing'})
        return answer, release

    def manifest(self, payload, unpacked, files, **members):
        """Its bytes, and what it says of the payload."""
        self.world.sequence += 1
        sums = {'sha256': hashlib.sha256(payload).hexdigest(), 'size': len(payload),
                'unpacked': unpacked, 'files': files}
        manifest = {**MANIFEST, 'probes': at_least_three_probes(),
                    'version': f'1.{self.world.sequence}', 'sequence': self.world.sequence + 1,
                    'payload': sums, **members}
        return ''.join(f'{name}: {json.dumps(value)}\n'
                       for name, value in manifest.items()).encode(), sums


def snapshot(*folders):
    """Every path below with its kind, mode and, of files, size."""
    seen = {}
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob('*')):
            status = path.lstat()
            seen[str(path)] = (status.st_mode, status.st_size if path.is_file() else 0)
    return seen


def outside(device, seen):
    """What may change while a release is looked at: the agent's own records, and its product's."""
    own = (str(device.root / 'var/lib/maeslant'), str(device.root / 'run'),
           str(device.log_path), str(device.product_dir))
    return {path: what for path, what in seen.items() if not path.startswith(own)}


def hostile(victim):
    """Name, members of the archive."""
    good = member('data', b'content\n')
    deep = '/'.join(['..'] * 14)
    return (
        ('traversal', (good, member('../../../escaped', b'x'))),
        ('traversal inside', (good, member('a/../../escaped', b'x'))),
        ('traversal to the root', (good, member(f'{deep}{victim}/escaped', b'x'))),
        ('absolute path', (good, member(f'{victim}/escaped', b'x'))),
        ('symbolic link', (good, member('z', kind=tarfile.SYMTYPE, link=str(victim)))),
        ('a file through a link', (good, member('out', kind=tarfile.SYMTYPE, link=str(victim)),
                                   member('out/escaped', b'x'))),
        ('hard link', (good, member('z', kind=tarfile.LNKTYPE, link=f'{victim}/kept'))),
        ('hard link inside', (good, member('z', kind=tarfile.LNKTYPE, link='data'))),
        ('character device', (good, member('z', kind=tarfile.CHRTYPE, device=(1, 3)))),
        ('block device', (good, member('z', kind=tarfile.BLKTYPE, device=(8, 0)))),
        ('fifo', (good, member('z', kind=tarfile.FIFOTYPE))),
        ('setuid', (good, member('z', b'#!/bin/sh\n', mode=0o4755))),
        ('setgid folder', (good, member('z', kind=tarfile.DIRTYPE, mode=0o2755))),
        ('sticky, writable for all', (good, member('z', b'x', mode=0o1777))),
        ('the same name twice', (good, member('data', b'other\n'))),
        ('name with a newline', (good, member('z\nz', b'x'))),
        ('more than it says', (good, member('z', b'\0' * (3 << 20)))),
    )


def archives_of_a_hostile_vendor_are_declined_and_touch_nothing_outside_the_slot(programs):
    with World(programs) as world:
        device = world.device().start()
        wait_until('adopted', lambda: running(device) and 'adopted' in device.log(), 30)
        first = running(device)
        victim = world.folder / 'victim'
        victim.mkdir()
        (victim / 'kept').write_text('kept\n')
        vendor = Vendor(world)
        before = outside(device, snapshot(device.folder, victim))
        cases = [(name, archive(members)) for name, members in hostile(victim)]
        cases.append(('two frames', archive((member('data', b'content\n'),), frames=2)))
        cases.append(('no archive at all', b'this is no archive, and long enough to look at\n'))
        cases.append(('half an archive', archive((member('data', os.urandom(9000)),))[:4000]))
        for name, payload in cases:
            answer, release = vendor.offer(payload)
            expect(answer.status == 200, name, 'published:', answer)
            rollout = world.rollout(release, soak='1s')
            wait_until(f'{name}: it says why', lambda r=release: any(
                'not-staged' in line and f'{r[:12]}…: payload:' in line
                for line in device.log().splitlines()), 15)
            blocked(device, 'payload')
            view = world.plane.rollout(rollout)
            expect(view['permits'] == 0 and view['placebos'] == 0, name, view['permits'])
            expect(running(device) == first and whole(device) == first, name)
            slots = [path.name for path in (device.state_folder(PRODUCT) / 'slots').iterdir()]
            expect(slots == [first], name, 'left', slots)
            after = outside(device, snapshot(device.folder, victim))
            expect(after == before, name, 'changed', set(after.items()) ^ set(before.items()))
            expect((victim / 'kept').stat().st_nlink == 1, name, 'linked')
            world.halt(rollout)
        reasons = {line.split(': ', 3)[-1] for line in device.log().splitlines()
                   if 'not-staged' in line}
        print('# declined because:\n' + ''.join(f'#   {reason[:150]}\n' for reason in
                                                sorted(reasons)), flush=True)
        # After all that, an honest one.
        release = world.release(probes=at_least_three_probes())
        world.rollout(release, soak='1s')
        settle(device, 'confirmed')


def an_artifact_whose_digest_differs_is_declined_until_it_is_right(programs):
    with World(programs) as world:
        device = world.device().start()
        wait_until('adopted', lambda: running(device) and 'adopted' in device.log(), 30)
        first = running(device)
        release = world.release({'more': 'x' * 2000}, probes=at_least_three_probes())
        manifest = (world.folder / f'release-{world.sequence}/built/manifest.yaml').read_text()
        name = next(line.split('"')[1] if '"' in line else line.split()[-1]
                    for line in manifest.splitlines() if 'sha256' in line)
        stored = next(path for path in (world.plane.folder).rglob(f'{name}*') if path.is_file())
        good = stored.read_bytes()
        mode = stored.stat().st_mode
        stored.chmod(0o600)
        stored.write_bytes(good[:-7] + b'tamper!')
        rollout = world.rollout(release, soak='1s')
        blocked(device, 'payload')
        expect(world.plane.rollout(rollout)['permits'] == 0, 'no permit')
        expect(name[:12] in device.log() or 'SHA-256' in device.log(), 'it says which digest')
        expect(whole(device) == first, 'as before')
        left = [path.name for path in (device.state_folder(PRODUCT) / 'slots').iterdir()]
        expect(left == [first], left)
        stored.write_bytes(good)
        stored.chmod(mode)
        settle(device, 'confirmed', timeout=40)


def a_release_signed_by_another_key_is_not_even_published(programs):
    with World(programs) as world:
        vendor = Vendor(world)
        other = world.folder / 'other'
        world.plane.run('init', str(other), '--listen', '127.0.0.1:0')
        payload = archive((member('data', b'content\n'),))
        answer, _ = vendor.offer(payload, key=other / 'offline/release.key', unpacked=8, files=1)
        support.problem(answer, 403, 'release-signature')
        expect(world.plane.ask('release', 'list')['releases'] == [], 'nothing is published')


class NewerPlane:
    """A control plane of a later version, which knows more keys than the agent: the real one behind
    a proxy that offers one more release. It takes a relay's place."""

    def __init__(self, plane):
        self.plane, self.answers = plane, {}

    def envelope(self, kind, value):
        seed = base64.b64decode((self.plane.folder / 'keys/server.key').read_text().split()[-1])
        key, text = device_client.Key(seed), json.dumps(value)
        signature = key.sign(f'maeslant {kind} v1\n', text.encode())
        return json.dumps({'signed': text, 'key': key.device[:16],
                           'signature': base64.b64encode(signature).decode()}).encode()

    def add(self, _name, target):
        answers = self.answers

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *_):
                pass

            def forward(self):
                length = int(self.headers.get('Content-Length') or 0)
                body = self.rfile.read(length) if length else None
                if self.path in answers:
                    return 200, [], answers[self.path]
                far = http.client.HTTPConnection('127.0.0.1', target(), timeout=40)
                far.request(self.command, self.path, body, dict(self.headers))
                answer = far.getresponse()
                return answer.status, answer.getheaders(), answer.read()

            def do_GET(self):
                status, headers, body = self.forward()
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ('content-length', 'connection', 'keep-alive'):
                        self.send_header(name, value)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a device that ended in the middle
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server.server_port


def a_key_that_the_agent_must_know_and_does_not_is_agent_too_old(programs):
    with World(programs) as world:
        newer = NewerPlane(world.plane)
        device = world.device(relay=newer).start()
        wait_until('adopted', lambda: running(device) and 'adopted' in device.log(), 30)
        first = running(device)
        payload = archive((member('data', b'content\n'),))
        vendor = Vendor(world)
        # This control plane does not know the key either, and says so when it is published.
        answer, _ = vendor.offer(payload, unpacked=8, files=1, novelty={'much': 1},
                                 critical=['novelty.much'])
        support.problem(answer, 400, 'manifest', 'novelty.much')
        for number, (members, word) in enumerate((
                ({'novelty': {'much': 1}, 'critical': ['novelty.much']}, 'novelty.much'),
                ({'adapter': {**MANIFEST['adapter'], 'kind': 'telepathy'}}, 'telepathy'),
                ({'permissions': ['files', 'reload', 'astral']}, 'astral'),
                ({'maeslant': 2}, '2'))):
            text, sums = vendor.manifest(payload, 8, 1, **members)
            release = hashlib.sha256(text).hexdigest()
            offer = {'release': release, 'sequence': 90 + number, 'version': '9', 'rollout': 'r',
                     'state': 'running', 'stage': 'all', 'share': 1, 'admit': 1, 'salt': '00' * 16,
                     'soak_ms': 1000, 'deadline_ms': 20000, 'prestage_ms': 0, 'manifest': release,
                     'signature': signed(text, world.plane.release_key),
                     'payload': {'sha256': sums['sha256'], 'size': sums['size']}}
            newer.answers[f'/v1/artifacts/{release}'] = text
            newer.answers[f'/v1/plans/{PRODUCT}/stable'] = newer.envelope('plan', {
                'product': PRODUCT, 'channel': 'stable', 'halts': 0, 'releases': [offer]})
            wait_until(f'{word}: agent-too-old', lambda r=release: any(
                f'{r[:12]}…: agent-too-old:' in line and word in line
                for line in device.log().splitlines()), 10)
            blocked(device, 'agent-too-old')
            expect(whole(device) == first, 'as before')
        newer.answers.clear()
        # A key that it need not know is passed over, by both.
        answer, release = vendor.offer(payload, unpacked=8, files=1, novelty={'much': 1})
        expect(answer.status == 200, answer)
        world.rollout(release, soak='1s')
        settle(device, 'confirmed')


IMPOSSIBLE = (
    # what is wrong, the policy, words of the refusal
    ('harm_budget', {'class': 'routine', 'harm_budget': 0}, ('harm_budget', '0')),
    ('harm_budget', {'class': 'routine', 'harm_budget': -3}, ('harm_budget', '-3')),
    ('class', {'class': 'yesterday', 'harm_budget': 4}, ('class', 'yesterday')),
    ('alpha', {'class': 'routine', 'harm_budget': 4, 'alpha': 1.5}, ('alpha', '1.5')),
    ('confidence', {'class': 'routine', 'harm_budget': 4, 'confidence': 1}, ('confidence', '1')),
    ('deadline', {'class': 'routine', 'harm_budget': 4, 'soak': '10m', 'deadline': '5m'},
     ('deadline', '5m')),
    ('stages', {'class': 'routine', 'harm_budget': 4, 'stages': []}, ('stages',)),
    ('share', {'class': 'routine', 'harm_budget': 4,
               'stages': [{'name': 'all', 'share': '130%'}]}, ('share', '130%')),
    ('on_halt', {'class': 'routine', 'harm_budget': 4, 'on_halt': 'pray'}, ('on_halt', 'pray')),
    ('unknown', {'class': 'routine', 'harm_budget': 4, 'hurry': True}, ('hurry',)),
    ('missing', {'class': 'routine'}, ('harm_budget',)),
)


def an_impossible_policy_is_refused_with_line_and_value_when_built_and_when_started(programs):
    with World(programs) as world:
        release = world.release()
        content = world.folder / 'content'
        content.mkdir()
        (content / 'data').write_text('x\n')
        for name, policy, words in IMPOSSIBLE:
            text = ''.join(f'{key}: {json.dumps(value)}\n' for key, value in
                           {**MANIFEST, 'version': '2', 'sequence': 99}.items())
            lines = [f'  {key}: {json.dumps(value)}' for key, value in policy.items()]
            text += 'policy:\n' + '\n'.join(lines) + '\n'
            manifest = world.folder / 'impossible.yaml'
            manifest.write_text(text)
            output = world.folder / 'never'
            built = world.plane.run('release', 'build', str(manifest), '--payload', str(content),
                                    '--output', str(output), check=False)
            expect(built.returncode == 1 and not output.exists(), name, 'was built')
            for word in words:
                expect(word in built.stderr, name, 'refused without', word, ':', built.stderr)
            expect('line ' in built.stderr or 'impossible.yaml:' in built.stderr, name,
                   'refused without a line:', built.stderr)
            alone = world.folder / 'policy.yaml'
            alone.write_text(''.join(f'{line.strip()}\n' for line in lines))
            started = world.plane.run('rollout', 'start', release, '--policy', str(alone),
                                      check=False)
            expect(started.returncode == 1, name, 'was started:', started.stdout)
            for word in words:
                expect(word in started.stderr, name, 'refused without', word, ':', started.stderr)
            expect('line ' in started.stderr or 'policy.yaml:' in started.stderr, name,
                   'refused without a line:', started.stderr)
        expect(world.plane.ask('rollout', 'list')['rollouts'] == [], 'nothing started')


TESTS = (archives_of_a_hostile_vendor_are_declined_and_touch_nothing_outside_the_slot,
         an_artifact_whose_digest_differs_is_declined_until_it_is_right,
         a_release_signed_by_another_key_is_not_even_published,
         a_key_that_the_agent_must_know_and_does_not_is_agent_too_old,
         an_impossible_policy_is_refused_with_line_and_value_when_built_and_when_started)

if __name__ == '__main__':
    main(TESTS)
