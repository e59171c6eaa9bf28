"""docs/protocol.md against a real server: what each sentence refuses or promises, with bad input of
every kind, and at the end the rollout stands where the valid calls alone would have put it."""
import base64
import hashlib
import json
import secrets
import time

from support import (World, check_fold, device_client, events, expect, main, measured, ok, problem)

Key, Refused, dump = device_client.Key, device_client.Refused, device_client.dump


def seq_of(world, client):
    return world.admin.get(f'devices/{client.id}')['seq']


def replaced(body, old, new):
    changed = body.replace(old, new)
    expect(changed != body, f'{old} is not in {body}')
    return changed


# Enrolment

def enrolment(world):
    client = world.device('acme', group='pair-1')
    expect(client.certificate['organisation'] == 'acme' and client.certificate['machine'] ==
           client.machine, client.certificate)
    expect(base64.b64decode(client.certificate['public_key']) == client.key.public)
    expect(client.bundle['release_keys'] and client.bundle['organisation'] == 'acme')
    ok('enrol: certificate and bundle are signed by the enrolment key and say whose device it is')

    client.seq = 41
    client.enroll(world.token('acme'))
    shown = world.admin.get(f'devices/{client.id}')
    expect(shown['seq'] == 42 and shown['group'] == 'pair-1', shown)
    ok('enrol again with the same key, machine and a valid token: the history stays')

    body = client.enroll_body(world.token('acme'), machine=secrets.token_hex(32))
    problem(client.post('enroll', body), 409, 'machine-mismatch', client.id)
    ok('enrol with a known key on another machine: 409 machine-mismatch')

    stranger = world.unenrolled()
    problem(stranger.post('enroll', stranger.enroll_body('no-such-token')), 403, 'token-unknown')
    ok('enrol with an unknown token: 403 token-unknown')
    once = world.admin.post('tokens', organisation='acme', uses=1)['token']
    world.unenrolled().enroll(once)
    problem(stranger.post('enroll', stranger.enroll_body(once)), 403, 'token-used-up')
    ok('enrol with a token that is used up: 403 token-used-up')
    brief = world.admin.post('tokens', organisation='acme', uses=5, expires_ms=1000)
    time.sleep(1.1)
    problem(stranger.post('enroll', stranger.enroll_body(brief['token'])), 403, 'token-expired',
            brief['expires_at'])
    ok('enrol with a token that has expired: 403 token-expired')

    liar = dump(stranger.enroll_body(world.token('acme'),
                                     public_key=base64.b64encode(Key().public).decode()))
    problem(stranger.post_bytes('enroll', liar), 401, 'signature-invalid', stranger.id)
    ok('enrol with a public_key that is not the signer\'s: 401 signature-invalid')
    problem(stranger.post('status', stranger.status_body()), 401, 'device-unknown', stranger.id)
    ok('a body of a device that nobody enrolled: 401 device-unknown')


# Signatures and seq

def signatures(world, release):
    client = world.device()
    before = seq_of(world, client)
    body = dump(client.begin_body(release))
    good = client.key.header('begin', body)
    problem(client.post_bytes('begin', body, ''), 401, 'signature-missing')
    problem(client.post_bytes('begin', body, 'nonsense'), 401, 'signature-invalid', 'nonsense')
    problem(client.post_bytes('begin', body, f'{client.id} {"A" * 88}'), 401, 'signature-invalid')
    problem(client.post_bytes('begin', replaced(body, b'"empty"', b'"emptx"'), good), 401,
            'signature-invalid', client.id, 'begin')
    flipped = bytearray(base64.b64decode(good.split()[1]))
    flipped[17] ^= 4
    problem(client.post_bytes('begin', body, f'{client.id} {base64.b64encode(flipped).decode()}'),
            401, 'signature-invalid', client.id)
    ok('a wrong, malformed or missing signature: 401, and the detail names device and call')

    status = dump(client.status_body())
    problem(client.post_bytes('report', status, client.key.header('status', status)), 401,
            'signature-invalid', 'report')
    problem(client.post_bytes('begin', body, client.key.header('report', body)), 401,
            'signature-invalid', 'begin')
    ok('a signature replayed on another call: 401 signature-invalid')

    other = world.device()
    problem(client.post_bytes('begin', body, other.key.header('begin', body)), 400,
            'member-invalid', client.id, other.id)
    ok('a body that speaks of another device than its signer: 400')
    expect(seq_of(world, client) == before, 'a refused body moved seq')
    answer = client.post_bytes('begin', body)
    expect(answer.status == 200, answer)
    ok('a refused body changes nothing: its seq is still good for the right one')


def sequence(world):
    client = world.device()
    client.seq = 9
    first = client.post('status', client.status_body())
    expect(first.status == 200, first)
    again = client.again()
    expect((again.status, again.body) == (200, first.body), again)
    world.restart()
    again = client.again()
    expect((again.status, again.body) == (200, first.body), again)
    ok('the same body again, byte for byte: the same answer, even from a server started anew')

    client.seq = 4
    problem(client.post('status', client.status_body()), 409, 'seq-replayed', 5, 10)
    client.seq = 10
    expect(client.post('status', client.status_body()).status == 200)
    ok('a seq that goes back: 409 seq-replayed names both numbers, and nothing changed')

    for seq in (0, -1, 2 ** 63, 1.5, '7'):
        body = client.status_body(seq=seq)
        answer = client.post('status', body)
        expect(answer.status == 400 and answer.code in ('member-invalid', 'json'), seq, answer)
    ok('a seq that is no integer from 1 on: 400')

    client.seq = seq_of(world, client)
    twin = world.unenrolled(key=client.key)
    twin.server_key, twin.seq = client.server_key, client.seq - 1
    problem(twin.post('status', twin.status_body()), 409, 'clone', client.id, client.seq)
    for call, body in (('status', client.status_body()), ('status', twin.status_body())):
        problem(client.post(call, body), 403, 'quarantined', client.id)
    world.restart()
    problem(client.post('status', client.status_body()), 403, 'quarantined', client.id)
    ok('a seq used for two bodies: 409 clone, then both copies are quarantined, restart or not')
    client.seq += 5
    client.enroll(world.token())
    expect(client.status()['answer'] == 'ok')
    ok('a quarantine ends when a person enrols the device again')

    client.seq += 1
    retired = world.device()
    world.admin.post(f'devices/{retired.id}/retire', reason='sold')
    problem(retired.post('status', retired.status_body()), 403, 'device-retired', retired.id)
    problem(retired.post('enroll', retired.enroll_body(world.token())), 403, 'device-retired')
    ok('a retired device: 403 device-retired on every call')


# Permits

def permits(world, release):
    client, other = world.device(), world.device()
    nonce = secrets.token_hex(32)
    body = client.begin_body(release, nonce)
    first = client.post('begin', body)
    permit = client.opened('permit', first)
    expect(permit['answer'] == 'permit' and permit['release'] == release and
           permit['from'] == 'empty' and permit['arm'] == 'release' and permit['pair'] is None and
           permit['nonce'] == nonce and permit['soak_ms'] == 3600000 and
           permit['start_by_ms'] == 60000 and permit['leash']['poll'] is True and
           0 < permit['leash']['every_ms'] <= 10000 and len(permit['permit']) == 32, permit)
    ok('begin: a signed permit with device, nonce, release, arm, soak, deadline and leash')

    again = client.post('begin', client.begin_body(release, nonce))
    expect((again.status, again.body) == (200, first.body), first, again)
    world.restart()
    again = client.post('begin', client.begin_body(release, nonce))
    expect((again.status, again.body) == (200, first.body), first, again)
    ok('a replayed nonce: the same answer byte for byte, also after the server was killed')

    problem(client.post('begin', client.begin_body(release)), 409, 'open-permit', permit['permit'])
    ok('a second begin with an open permit: 409 open-permit names it')
    problem(other.post('begin', other.begin_body(release, nonce)), 409, 'nonce-of-another')
    ok('another device\'s nonce: 409')

    problem(other.post('report', other.report_body(permit['permit'], release, 'failed')), 403,
            'permit-of-another', permit['permit'], client.id[:12])
    ok('a report for another\'s permit: 403 permit-of-another')
    problem(client.post('report', client.report_body('0' * 32, release, 'healthy')), 404,
            'permit-unknown', '0' * 32)
    ok('a report for a permit that does not exist: 404 permit-unknown')
    problem(client.post('report', client.report_body(permit['permit'], '1' * 64, 'healthy')), 400,
            'member-invalid', permit['permit'])
    missing = client.report_body(permit['permit'], release, 'failed')
    del missing['reason']
    problem(client.post('report', missing), 400, 'member-missing', 'reason')
    ok('a report for the permit\'s release only, and failed says why')

    problem(client.post('report', client.report_body(permit['permit'], release, 'regressed')), 409,
            'outcome-order', permit['permit'])
    first = client.post('report', client.report_body(permit['permit'], release, 'healthy'))
    answer = client.opened('answer', first)
    expect(answer['answer'] == 'confirm' and answer['permit'] == permit['permit'] and
           answer['outcome'] == 'healthy' and answer['device'] == client.id, answer)
    ok('healthy while the rollout runs: confirm')
    again = client.post('report', client.report_body(permit['permit'], release, 'healthy'))
    expect((again.status, again.body) == (200, first.body), again)
    ok('the same outcome again: the same answer')
    problem(client.post('report', client.report_body(permit['permit'], release, 'failed')), 409,
            'outcome-settled', permit['permit'], 'healthy', 'failed')
    ok('a second outcome: 409 outcome-settled names the first')

    client.current = release
    again = client.begin(release)
    expect(again['answer'] == 'no' and again['reason'] == 'already' and again['sentence'], again)
    unknown = client.begin('2' * 64)
    expect(unknown['answer'] == 'no' and unknown['reason'] == 'not-offered', unknown)
    expect(client.begin(release, purpose='revert')['answer'] == 'no')
    ok('begin for what runs already, what is not offered and what is not halted: a signed no')
    problem(client.post('begin', client.begin_body(release, product='other')), 400,
            'member-invalid', release[:12])
    ok('begin for a release of another product: 400')
    return 1


def waits(world):
    release = world.release('waiting')
    rollout = world.start(release, placebo='none')
    world.admin.post(f'rollouts/{rollout}/pause', reason='lunch')
    client = world.device(product='waiting')
    nonce = secrets.token_hex(32)
    first = client.post('begin', client.begin_body(release, nonce))
    value = client.opened('permit', first)
    expect(value['answer'] == 'wait' and value['reason'] == 'paused' and value['sentence'] and
           value['retry_after_ms'] > 0 and int(first.headers['retry-after']) >= 1, value)
    again = client.again()
    expect((again.status, again.body) == (200, first.body), again)
    world.admin.post(f'rollouts/{rollout}/resume', reason='fed')
    expect(client.begin(release, nonce)['answer'] == 'permit')
    check_fold(world, rollout)
    ok('wait: signed, with a reason, a sentence and Retry-After; the same nonce may ask again')


def outcomes(world):
    release = world.release('outcomes')
    clients = world.devices(24, product='outcomes')
    rollout = world.start(release)
    arms = {'release': [], 'placebo': []}
    for client in clients:
        permit = client.begin(release)
        expect(permit['answer'] == 'permit' and permit['pair'] >= 1, permit)
        arms[permit['arm']].append((client, permit))
    expect(len(arms['release']) == len(arms['placebo']) == 12, arms)

    def say(arm, outcome, expected, before=()):
        client, permit = arms[arm].pop()
        for earlier in before:
            client.report(permit, earlier)
        members = {'boot': secrets.token_hex(8)} if outcome == 'interrupted' else {}
        answer = client.report(permit, outcome, **members)
        expect(answer['answer'] == expected, arm, outcome, 'got', answer)
        return client, permit

    for outcome, expected in (('healthy', 'confirm'), ('failed', 'revert'), ('declined', 'revert'),
                              ('reverted', 'revert'), ('interrupted', 'wait')):
        say('release', outcome, expected)
        say('placebo', outcome, 'confirm')
    say('release', 'regressed', 'revert', ['healthy'])
    client, permit = say('release', 'interrupted', 'wait')
    expect(client.report(permit, 'healthy')['answer'] == 'confirm')
    ok('every outcome gets the answer of the protocol\'s table, in both arms')
    world.admin.post(f'rollouts/{rollout}/halt', reason='enough')
    for outcome in ('healthy', 'interrupted', 'failed', 'reverted', 'declined'):
        say('release', outcome, 'revert')
    say('placebo', 'healthy', 'confirm')
    expect(client.report(permit, 'healthy')['answer'] == 'revert')
    ok('the same after a halt: revert, also for healthy and for what was confirmed; placebos stay')
    check_fold(world, rollout)


def many_at_once(world):
    import concurrent.futures
    release = world.release('crowd')
    rollout = world.start(release, placebo='none')
    client = world.device(product='crowd')
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        body = dump(client.begin_body(release))
        answers = list(pool.map(lambda _: client.post_bytes('begin', body), range(48)))
        expect({(answer.status, answer.body) for answer in answers} ==
               {(200, answers[0].body)}, answers[:3])
        permit = client.opened('permit', answers[0])
        body = dump(client.report_body(permit['permit'], release, 'healthy'))
        answers = list(pool.map(lambda _: client.post_bytes('report', body), range(48)))
        expect({(answer.status, answer.body) for answer in answers} ==
               {(200, answers[0].body)}, answers[:3])
        ok('one body sent 48 times at once: one answer')
        other = world.device(product='crowd')
        bodies = [dump(other.begin_body(release)) for _ in range(24)]
        answers = list(pool.map(lambda body: other.post_bytes('begin', body), bodies))
        granted = [answer for answer in answers if answer.status == 200]
        expect(len(granted) == 1 and {answer.code for answer in answers if answer.status != 200} <=
               {'open-permit', 'seq-replayed'}, answers)
        ok('24 begins of one device at once: one permit, the rest refused')
    view = world.admin.rollout(rollout)
    expect(view['permits'] == 2 and view['healthy'] == 1 and view['in_flight'] == 1, view)
    check_fold(world, rollout)


def late_reports(world):
    release = world.release('late')
    rollout = world.start(release, placebo='none', soak='50ms', deadline='300ms')
    client = world.device(product='late')
    permit = client.begin(release)
    time.sleep(0.6)
    before = world.admin.rollout(rollout)
    expect(before['silent'] == 1 and before['failed'] == 1, before)
    answer = client.report(permit, 'healthy')
    expect(answer['answer'] == 'confirm', answer)
    after = world.admin.rollout(rollout)
    for member in ('silent', 'failed', 'healthy', 'settled', 'log_e', 'proven_harm'):
        expect(before[member] == after[member], member, before[member], after[member])
    expect(after['late'] == 1, after['late'])
    check_fold(world, rollout)
    ok('a report after the deadline: kept, shown and answered with confirm; the evidence stays')


# Broken bodies

def broken_bodies(world, release):
    client = world.device()
    seq = seq_of(world, client)
    good = dump(client.status_body())

    for cut in (0, 1, len(good) // 2, len(good) - 1):
        problem(client.post_bytes('status', good[:cut]), 400, 'json')
    ok('a body cut anywhere: 400 json')
    answer = problem(client.post_bytes('status', good[:40]), 400, 'json')
    expect('line 1' in answer['detail'] and 'column' in answer['detail'], answer)
    ok('400 json says line and column')

    raw = client.transport.raw(
        b'POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
        b'Maeslant-Signature: ' + client.key.header('status', good).encode() +
        b'\r\nContent-Length: %d\r\n\r\n' % (len(good) + 50) + good, timeout=0.5)
    expect(raw == b'', raw)
    ok('a body shorter than its Content-Length: never answered, never taken')

    cases = {
        'an unknown member': (good[:-1] + b',"colour":"blue"}', 'member-unknown', 'colour'),
        'a member twice': (good[:-1] + b',"seq":7}', 'json', 'seq'),
        'a member twice, deep': (replaced(good, b'"attributes":{', b'"attributes":{"os":"a",'),
                                 'json', 'os'),
        'invalid UTF-8': (replaced(good, b'linux', b'li\xff\xfex'), 'json', ''),
        'an overlong UTF-8 form': (replaced(good, b'linux', b'li\xc0\xafx'), 'json', ''),
        'a lone surrogate': (replaced(good, b'linux', b'\\ud800'), 'json', ''),
        'a NUL in a string': (replaced(good, b'linux', b'li\\u0000x'), 'json', ''),
        'a NUL in a name': (replaced(good, b'"os"', b'"o\\u0000s"'), 'json', ''),
        'a bare NUL': (good + b'\x00', 'json', ''),
        'a second value behind': (good + b'{}', 'json', ''),
        'a comment': (good + b'// hello', 'json', ''),
        'a trailing comma': (good[:-1] + b',}', 'json', ''),
        'depth 17': (good[:-1] + b',"x":' + b'[' * 17 + b']' * 17 + b'}', 'json', '16'),
        'no object': (b'[1]', 'member-invalid', ''),
        'nothing': (b'null', 'member-invalid', ''),
        'NaN': (replaced(good, b'"boots":1', b'"boots":NaN'), 'json', ''),
        'protocol 2': (replaced(good, b'"protocol":1', b'"protocol":2'), 'member-invalid', '2'),
        'a boolean for a number': (replaced(good, b'"boots":1', b'"boots":true'), 'member-invalid',
                                   'boots'),
        'a real for an integer': (replaced(good, b'"boots":1', b'"boots":1.0'), 'member-invalid',
                                  'boots'),
        'a control byte': (replaced(good, b'linux', b'li\\u0007x'), 'attributes', 'os'),
        'an attribute that is no text': (replaced(good, b'"linux"', b'7'), 'attributes', 'os'),
        'upper-case hex': (replaced(good, client.id.encode(), client.id.upper().encode()),
                           'member-invalid', client.id.upper()[:20]),
    }
    for name, (body, code, detail) in cases.items():
        try:
            problem(client.post_bytes('status', body), 400, code, detail)
        except AssertionError as error:
            raise AssertionError(f'{name}: {error}') from None
        ok(f'a body with {name}: 400 {code}')
    nested = good[:-1] + b',"x":' + b'[' * 15 + b']' * 15 + b'}'
    problem(client.post_bytes('status', nested), 400, 'member-unknown', 'x')
    ok('depth 16 is read')

    def with_attributes(attributes):
        return client.post('status', client.status_body(attributes=attributes))

    problem(with_attributes({f'a{i}': 'v' for i in range(65)}), 400, 'attributes', 65)
    problem(with_attributes({'os': 'v' * 129}), 400, 'attributes', 'os', 128)
    problem(with_attributes({'n' * 129: 'v'}), 400, 'attributes')
    ok('65 attributes, a value or a name of 129 bytes: 400 attributes')
    expect(seq_of(world, client) == seq, 'a refused body moved seq')
    expect(with_attributes({f'a{i}': 'v' * 128 for i in range(64)}).status == 200)
    ok('64 attributes of 128 bytes are taken')

    permit = client.begin(release)
    report = client.report_body(permit['permit'], release, 'healthy', log='x' * 8193)
    problem(client.post('report', report), 400, 'log-too-long', 8193, 8192)
    ok('a log of 8193 bytes: 400 log-too-long')
    many = client.report_body(permit['permit'], release, 'healthy',
                              changes=[{'what': 'package', 'name': 'x', 'at': 1}] * 65)
    problem(client.post('report', many), 400, 'member-invalid', 65)
    for members in ({'outcome': 'splendid'}, {'signal': 65}, {'exit_status': 256},
                    {'running': 'yes'}, {'boots': -1}, {'resources': 3}):
        problem(client.post('report', client.report_body(permit['permit'], release,
                                                         **{'outcome': 'healthy', **members})),
                400, 'member-invalid', next(iter(members)))
    ok('a report whose members are out of range: 400 member-invalid names the member')
    report['log'] = 'é' * 4096
    expect(client.post('report', report).status == 200)
    ok('a log of 8192 bytes is taken')

    for sent_at in (0, int(time.time() * 1000) - 366 * 86400000, int(time.time() * 1000) +
                    366 * 86400000):
        expect(client.post('status', client.status_body(sent_at=sent_at)).status == 200)
    ok('a device whose clock is a year off is served like any other')
    body = dump(client.status_body())
    chunked = (b'POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
               b'Maeslant-Signature: ' + client.key.header('status', body).encode() +
               b'\r\nTransfer-Encoding: chunked\r\n\r\n')
    for part in (body[:7], body[7:]):
        chunked += b'%x\r\n' % len(part) + part + b'\r\n'
    expect(client.transport.raw(chunked + b'0\r\n\r\n').startswith(b'HTTP/1.1 200'))
    ok('a body in chunks is taken')

    big = client.status_body(agent='x' * 66000)
    problem(client.post('status', big), 413, 'body-too-large')
    answer = client.post_bytes('status', b'x' * 65537)
    problem(answer, 413, 'body-too-large', 65537, 65536)
    ok('a body of 65537 bytes: 413 body-too-large')
    problem(client.post_bytes('status', good, headers={'X-Long': 'y' * 16500}), 431,
            'header-too-large', 16384)
    ok('headers beyond 16 KiB: 431')
    for kind in ('text/plain', 'application/jsonx', ''):
        problem(client.post_bytes('status', good, headers={'Content-Type': kind}), 415,
                'media-type', kind)
    ok('a body that is not declared as JSON: 415 media-type')
    fresh = client.status_body()
    expect(client.post_bytes('status', dump(fresh), headers={
        'Content-Type': 'application/json; charset=utf-8'}).status == 200)
    for method, path in (('GET', '/v1/begin'), ('PUT', '/v1/report'), ('DELETE', '/v1/halts'),
                         ('POST', '/v1/plans/tiny/stable'), ('POST', '/v1/artifacts/' + '0' * 64),
                         ('POST', '/v1/leash/' + '0' * 32)):
        answer = client.transport.ask(method, path, b'' if method != 'GET' else None)
        problem(answer, 405, 'method', method, path)
        expect(answer.headers.get('allow'), answer.headers)
    ok('a wrong method: 405 method, with Allow')
    for path in ('/v1', '/v2/begin', '/v1/nothing', '/nothing', '/v1/plans/tiny'):
        problem(client.get(path), 404, 'not-found', path)
    ok('an address that is not there: 404 not-found')
    return 1


# What is static

def static(world, release):
    client = world.device()
    problem(client.get('/v1/plans/nobody/stable'), 404, 'plan-unknown', 'nobody', 'stable')
    ok('a plan of an unknown product: 404 plan-unknown')
    answer = client.get('/v1/plans/tiny/stable')
    plan = client.opened('plan', answer)
    entry = plan['releases'][0]
    expect(entry['release'] == release and entry['state'] == 'running' and
           entry['manifest'] == release and 0 <= entry['admit'] <= 1 and
           entry['soak_ms'] == 3600000 and entry['deadline_ms'] == 7200000, entry)
    expect(answer.headers['cache-control'] == 'max-age=1', answer.headers)
    tag = answer.headers['etag']
    again = client.get('/v1/plans/tiny/stable', {'If-None-Match': tag})
    expect(again.status == 304 and again.body == b'' and again.headers['etag'] == tag, again)
    expect(client.get('/v1/plans/tiny/stable', {'If-None-Match': '"other"'}).status == 200)
    ok('the plan: signed, with an ETag; 304 while it is the same')
    halts = client.get('/v1/halts')
    expect(halts.headers['cache-control'] == 'max-age=5' and 'etag' in halts.headers)
    client.take_halts(halts)
    expect(client.get('/v1/halts', {'If-None-Match': halts.headers['etag']}).status == 304)
    ok('the halts: signed, max-age 5, with an ETag')

    manifest = client.get(f'/v1/artifacts/{release}')
    expect(hashlib.sha256(manifest.body).hexdigest() == release)
    expect('immutable' in manifest.headers['cache-control'], manifest.headers)
    lines = entry['signature'].split('\n')
    public = base64.b64decode(client.bundle['release_keys'][0])
    expect(device_client.verified(public, 'maeslant release v1\n', manifest.body,
                                  base64.b64decode(lines[1])))
    ok('an artifact has the digest that is its name; the plan\'s signature fits the manifest')
    whole = client.get(f'/v1/artifacts/{entry["payload"]["sha256"]}')
    path, size = f'/v1/artifacts/{entry["payload"]["sha256"]}', len(whole.body)
    expect(size == entry['payload']['size'] and whole.headers['accept-ranges'] == 'bytes')
    part = client.get(path, {'Range': 'bytes=5-14'})
    expect(part.status == 206 and part.body == whole.body[5:15] and
           part.headers['content-range'] == f'bytes 5-14/{size}', part.headers)
    part = client.get(path, {'Range': 'bytes=-7'})
    expect(part.status == 206 and part.body == whole.body[-7:], part)
    part = client.get(path, {'Range': f'bytes={size - 3}-'})
    expect(part.status == 206 and part.body == whole.body[-3:], part)
    part = client.get(path, {'Range': 'bytes=0-3', 'If-Range': whole.headers['etag']})
    expect(part.status == 206, part)
    part = client.get(path, {'Range': 'bytes=0-3', 'If-Range': '"else"'})
    expect(part.status == 200 and part.body == whole.body, part.status)
    ok('ranges of an artifact: 206 with the right bytes; If-Range')
    beyond = client.get(path, {'Range': f'bytes={size}-'})
    expect(beyond.status == 416 and beyond.headers['content-range'] == f'bytes */{size}', beyond)
    expect(beyond.headers['content-type'] == 'application/problem+json', beyond)
    ok('a range beyond the end: 416')
    expect(client.get(path, {'If-None-Match': whole.headers['etag']}).status == 304)
    problem(client.get('/v1/artifacts/' + '3' * 64), 404, 'not-found', '3' * 64)
    for name in ('../server.yaml', '.part-' + '3' * 64, 'x'):
        answer = client.get(f'/v1/artifacts/{name}')
        expect(answer.status in (400, 404) and answer.code, answer)
    ok('an artifact that is not there, or a path out of the folder: refused')


def uploads(world):
    content = secrets.token_bytes(100000)
    digest = hashlib.sha256(content).hexdigest()
    path = f'/v1/admin/artifacts/{digest}'

    def put(offset, data, size=len(content)):
        return world.admin.ask('PUT', f'{path}?offset={offset}&size={size}', body=data)

    first = put(0, content[:60000])
    expect(first.status == 200 and first.json == {'received': 60000, 'complete': False}, first)
    problem(put(50000, content[50000:]), 409, 'offset', 50000, 60000)
    problem(put(99999, b'12'), 400, 'member-invalid')
    problem(world.admin.ask('PUT', path, body=b'x'), 400, 'member-invalid')
    problem(world.admin.ask('PUT', f'{path}?offset=-1&size=9', body=b'x'), 400, 'member-invalid',
            '-1')
    ok('an upload\'s part at the wrong place: 409 offset names the right one')
    wrong = put(60000, content[60000:-1] + bytes([content[-1] ^ 1]))
    problem(wrong, 409, 'digest', digest)
    expect(device_client.shared_transport(world.plane.url, world.admin.plane_ca).ask(
        'GET', f'/v1/artifacts/{digest}').status == 404)
    ok('an upload whose digest differs: 409 digest, and nothing has its name')
    expect(put(0, content[:60000]).status == 200)
    world.restart()
    done = put(60000, content[60000:])
    expect(done.status == 200 and done.json == {'received': 100000, 'complete': True}, done)
    expect(put(0, content[:10]).json['complete'] is True)
    got = device_client.shared_transport(world.plane.url, world.admin.plane_ca).ask(
        'GET', f'/v1/artifacts/{digest}')
    expect(got.body == content)
    ok('an upload goes on after the server was killed, and is there once it is whole')
    problem(world.admin.ask('PUT', f'/v1/admin/artifacts/{digest[:-1]}?offset=0&size=1', body=b'x'),
            404, 'not-found')


# Halts

def halts(world):
    release = world.release('halting')
    rollout = world.start(release, placebo='none')
    clients = [world.device(product='halting') for _ in range(4)]
    permits = [client.begin(release) for client in clients[:2] + clients[3:]]
    expect(all(permit['answer'] == 'permit' for permit in permits), permits)
    expect(clients[3].report(permits[2], 'healthy')['answer'] == 'confirm')
    number = clients[0].halts()['number']
    problem(clients[0].get('/v1/leash/' + '4' * 32), 404, 'permit-unknown', '4' * 32)
    ok('a leash for a permit that is not open: 404')

    import threading
    came = []
    start = threading.Event()

    def hold():
        start.set()
        came.append((clients[0].leash(permits[0]), time.monotonic()))

    thread = threading.Thread(target=hold)
    thread.start()
    start.wait()
    time.sleep(0.3)
    expect(not came, 'a leash was answered without a halt')
    asked = time.monotonic()
    world.admin.post(f'rollouts/{rollout}/halt', reason='a person saw smoke', by='anna')
    thread.join(10)
    expect(came and came[0][0], 'the leash was not answered')
    took = came[0][1] - asked
    expect(took < 1, f'the leash was answered after {took:.2f} s')
    entry = came[0][0]['halts'][-1]
    expect(entry['release'] == release and entry['rollout'] == rollout and
           entry['reason'] == 'a person saw smoke' and entry['on_halt'] == 'revert' and
           entry['now'] is False and entry['number'] == came[0][0]['number'] > number, entry)
    ok(f'a leash is answered with the signed halt at once ({took * 1000:.0f} ms)')
    with measured() as span:
        clients[1].highest_halt = 0
        expect(clients[1].leash(permits[1])['halts'][-1]['release'] == release)
    expect(span[0] < 1, span)
    ok('a leash that is asked for after the halt is answered with it at once')

    late = clients[2].begin(release)
    expect(late['answer'] == 'no' and late['reason'] == 'halted', late)
    expect(clients[0].report(permits[0], 'healthy')['answer'] == 'revert')
    ok('after a halt: begin gets no, and healthy is answered with revert')
    problem(world.admin.ask('POST', '/v1/admin/rollouts', {'release': release}), 409,
            'release-halted', release)
    problem(world.admin.ask('POST', f'/v1/admin/rollouts/{rollout}/resume', {'reason': 'x'}), 409,
            'rollout-halted', rollout)
    signature = world.admin.get(f'releases/{release}')['signature']
    problem(world.admin.ask('POST', '/v1/admin/releases', {
        'release': release, 'signature': signature, 'skipped': 'again'}), 409, 'release-halted',
            release)
    ok('a halted release can neither be started, resumed nor published again')
    folder, _ = world.build('halting', payload=f'content {world.sequence}\n')
    result = world.plane.publish(folder, check=False)
    expect(result.returncode != 0 and 'halted' in result.stderr, result.stderr)
    ok('the payload of a halted release under another name: refused with the reason')

    before = clients[0].halts()['number']
    second = world.start(world.release('halting-2'), placebo='none')
    world.admin.post(f'rollouts/{second}/halt', reason='again', now=True)
    value = clients[0].halts()
    expect(value['number'] == before + 1 and value['halts'][-1]['now'] is True and
           [halt['number'] for halt in value['halts']] == sorted(
               {halt['number'] for halt in value['halts']}), value)
    world.restart()
    expect(clients[0].halts()['number'] == before + 1)
    world.admin.post(f'rollouts/{second}/halt', reason='twice')
    expect(clients[0].halts()['number'] == before + 1)
    ok('the halts\' number only grows, over restarts, and once a halt')
    back = clients[1].begin(release, purpose='revert')
    expect(back['answer'] == 'no' and back['reason'] == 'in-trial', back)
    expect(clients[1].report(permits[1], 'reverted')['answer'] == 'revert')
    clients[3].current = release
    back = clients[3].begin(release, purpose='revert')
    expect(back['answer'] == 'permit' and back['arm'] == 'revert', back)
    expect(clients[3].report(back, 'reverted')['answer'] == 'revert')
    ok('after a halt a trial goes back at once, a confirmed device by a revert permit')
    for name in (rollout, second):
        check_fold(world, name)


# Administrators

def stream(world):
    transport = device_client.Transport(world.plane.url, world.admin.plane_ca)
    with transport.socket() as connection:
        connection.settimeout(5)
        connection.sendall(b'GET /v1/admin/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ' +
                           world.viewer.token.encode() + b'\r\n\r\n')
        text = b''

        def until(mark):
            nonlocal text
            while mark not in text:
                part = connection.recv(65536)
                expect(part, 'the stream ended:', text[-500:])
                text += part

        until(b'event: state')
        expect(b'text/event-stream' in text, text[:500])
        with measured() as span:
            client = world.device('streamers')
            text = b''
            until(b'event: state')
        expect(client and span[0] < 2, span)
    ok('the stream sends the state at once and at a change')


def administrators(world, release):
    for path in ('rollouts', 'devices', 'log', 'state', 'releases', 'stream'):
        problem(world.nobody.ask('GET', f'/v1/admin/{path}'), 401, 'token')
    problem(world.nobody.ask('GET', '/v1/admin/rollouts',
                             headers={'Authorization': 'Bearer ' + 'x' * 40}), 401, 'token')
    problem(world.nobody.ask('POST', '/v1/admin/tokens', {'organisation': 'acme'}), 401, 'token')
    ok('administrators\' addresses without a token, or with a wrong one: 401')
    expect(world.viewer.get('rollouts')['rollouts'])
    for method, path in (('POST', 'tokens'), ('POST', 'rollouts'), ('POST', 'releases'),
                         ('PUT', 'artifacts/' + '5' * 64 + '?offset=0&size=1')):
        problem(world.viewer.ask(method, f'/v1/admin/{path}', body=b'{}'), 403, 'read-only', method)
    ok('the viewer\'s token reads, and can\'t POST or PUT: 403 read-only')
    answer = world.nobody.ask('POST', '/session', body=world.admin.token.encode())
    cookie = answer.headers['set-cookie']
    expect(answer.status == 200 and 'HttpOnly' in cookie and 'Secure' in cookie and
           world.admin.token not in cookie, cookie)
    cookie = {'Cookie': cookie.split(';')[0]}
    expect(world.nobody.ask('GET', '/v1/admin/rollouts', headers=cookie).status == 200)
    problem(world.nobody.ask('POST', '/v1/admin/tokens', {'organisation': 'acme'}, headers=cookie),
            403, 'read-only')
    problem(world.nobody.ask('POST', '/session', body=b'guess'), 403, 'token')
    ok('a session\'s cookie reads and can\'t write, whoever made it')
    for body, code in ((b'{"organisation":"a","organisation":"b"}', 'json'),
                       (b'{"organisation":"a","colour":1}', 'member-unknown'),
                       (b'{}', 'member-missing'), (b'{"organisation":""}', 'member-invalid'),
                       (b'{"organisation":"a","uses":0}', 'member-invalid')):
        problem(world.admin.ask('POST', '/v1/admin/tokens', body=body), 400, code)
    problem(world.admin.ask('POST', '/v1/admin/tokens', body=b'{"organisation":"a"}',
                            headers={'Content-Type': 'text/plain'}), 415, 'media-type')
    ok('administrators\' bodies are checked as strictly as the devices\'')
    for policy, word in (({'class': 'routine'}, 'harm_budget'),
                         ({'class': 'routine', 'harm_budget': 0.5}, 'harm_budget'),
                         ({'class': 'routine', 'harm_budget': 4, 'soak': '10m', 'deadline': '5m'},
                          'deadline'),
                         ({'class': 'lazy', 'harm_budget': 4}, 'lazy'),
                         ({'class': 'routine', 'harm_budget': 4, 'colour': 1}, 'colour'),
                         ({'class': 'routine', 'harm_budget': 4,
                           'stages': [{'name': 'a', 'share': 2}]}, 'share')):
        other = world.other_release
        problem(world.admin.ask('POST', '/v1/admin/rollouts', {'release': other, 'policy': policy}),
                400, 'policy', word)
    ok('a rollout with an impossible policy: 400 policy names the key')
    for verb in ('pause', 'halt', 'approve', 'hold'):
        problem(world.admin.ask('POST', f'/v1/admin/rollouts/x/{verb}', {}), 400, 'member-missing',
                'reason')
    problem(world.admin.ask('POST', '/v1/admin/rollouts', {'release': '6' * 64}), 404,
            'release-unknown', '6' * 64)
    problem(world.admin.ask('GET', '/v1/admin/rollouts/nobody'), 404, 'rollout-unknown', 'nobody')
    problem(world.admin.ask('GET', '/v1/admin/devices/' + '7' * 64), 404, 'device-unknown')
    problem(world.admin.ask('GET', '/v1/admin/log?after=x'), 400, 'member-invalid', 'x')
    problem(world.admin.ask('DELETE', '/v1/admin/rollouts'), 405, 'method', 'DELETE')
    problem(world.admin.ask('POST', '/v1/admin/rollouts', {'release': release}), 409,
            'rollout-exists', release)
    ok('what is not known or not possible: 404, 400, 405, 409 with the value')


def every_sentence_of_the_protocol_holds(programs):
    with World(programs) as world:
        release = world.release()
        world.other_release = world.release('impossible')
        rollout = world.start(release, placebo='none')
        enrolment(world)
        sequence(world)
        before = world.admin.events(rollout)
        expect(not events(before, 'begin'), before)
        signatures(world, release)
        healthy = permits(world, release)
        waits(world)
        outcomes(world)
        many_at_once(world)
        late_reports(world)
        healthy += broken_bodies(world, release)
        static(world, release)
        uploads(world)
        halts(world)
        administrators(world, release)
        stream(world)
        lines = check_fold(world, rollout)
        view = world.admin.rollout(rollout)
        # The one of `signatures` is still open; permits() also asked for what ran already.
        expect(view['permits'] == healthy + 1 and view['healthy'] == healthy and
               view['settled'] == healthy and view['failed'] == 0 and view['in_flight'] == 1 and
               view['state'] == 'running', view)
        reported = events(lines, 'outcome')
        expect(len(reported) == healthy and all(line['outcome'] == 'healthy' for line in reported),
               reported)
        expect(len(events(lines, 'begin')) == healthy + 1, events(lines, 'begin'))
        ok('after all that bad input the rollout stands where the valid calls alone have put it')


def plain_http_is_refused_off_loopback_and_tls_12_everywhere(programs):
    import ssl
    with World(programs) as world:
        transport = device_client.Transport(world.plane.url, world.plane.ca)
        transport.context.minimum_version = ssl.TLSVersion.TLSv1_2
        transport.context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            transport.ask('GET', '/v1/halts')
            raise AssertionError('TLS 1.2 was spoken')
        except OSError:
            ok('TLS 1.2 is refused')
        foreign = device_client.Transport(world.plane.url, world.plane.ca)
        foreign.context = ssl.create_default_context()
        try:
            foreign.ask('GET', '/v1/halts')
            raise AssertionError('the certificate is trusted by everybody')
        except ssl.SSLCertVerificationError:
            ok('the server\'s certificate is of its own authority only')
    import subprocess
    result = subprocess.run([programs.maeslant, 'serve', str(world.folder), '--plain', '--listen',
                             '0.0.0.0:0', '--allow-root'], capture_output=True, text=True,
                            timeout=20)
    expect(result.returncode != 0, result.stdout)
    with World(programs) as other:
        other.plane.stop()
        result = subprocess.run([programs.maeslant, 'serve', str(other.plane.folder), '--plain',
                                 '--listen', '0.0.0.0:0', '--allow-root'], capture_output=True,
                                text=True, timeout=20)
        expect(result.returncode != 0 and 'loopback' in result.stderr, result)
        ok('plain HTTP off loopback: refused at the start, with the reason')
        other.plane.start()


def a_leash_without_a_halt_ends_after_25_seconds_with_204(programs):
    with World(programs) as world:
        release = world.release()
        world.start(release, placebo='none')
        client = world.device()
        permit = client.begin(release)
        with measured() as span:
            expect(client.leash(permit) is None)
        expect(24 <= span[0] <= 28, span)
        ok(f'a leash without a halt: 204 after {span[0]:.1f} s')
        import socket
        import ssl
        with client.transport.socket() as slow:
            slow.sendall(b'POST /v1/status HTTP/1.1\r\nHost: x\r\n')
            slow.settimeout(45)
            start = time.monotonic()
            try:
                rest = slow.recv(65536)
            except (ConnectionError, ssl.SSLError):
                rest = b''
            except socket.timeout:
                raise AssertionError('a half request is held for ever') from None
            took = time.monotonic() - start
        expect(25 <= took <= 40, took, rest)
        ok(f'a request that does not come to an end is closed ({took:.0f} s)')
        expect(json.loads(world.plane.run('rollout', 'list', '--json').stdout))


if __name__ == '__main__':
    main([every_sentence_of_the_protocol_holds,
          plain_http_is_refused_off_loopback_and_tls_12_everywhere],
         [a_leash_without_a_halt_ends_after_25_seconds_with_204])
