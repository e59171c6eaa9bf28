"""A device of protocol 1 (docs/protocol.md) in Python: it enrols, asks, reports, and can send broken bytes.

Ed25519 comes from libsodium through ctypes; all the rest is Python's standard library. Every envelope
is checked with the key that the bundle gave, so that a test which reads an answer has verified it.
"""
import base64
import ctypes
import ctypes.util
import hashlib
import http.client
import json
import secrets
import socket
import ssl
import threading
import time
import urllib.parse

_sodium = ctypes.CDLL('libsodium.so.23')
if _sodium.sodium_init() < 0:
    raise RuntimeError('libsodium does not start')


class Key:
    """An Ed25519 key pair; the id of a device is the SHA-256 of its public half."""

    def __init__(self, seed=None):
        self.seed = seed or secrets.token_bytes(32)
        public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
        _sodium.crypto_sign_seed_keypair(public, secret, self.seed)
        self.public, self._secret = public.raw, secret.raw
        self.device = hashlib.sha256(self.public).hexdigest()

    def sign(self, context, message):
        text = context.encode() + message
        signature = ctypes.create_string_buffer(64)
        _sodium.crypto_sign_detached(signature, None, text, ctypes.c_ulonglong(len(text)),
                                     self._secret)
        return signature.raw

    def header(self, call, body):
        signature = self.sign(f'maeslant {call} v1\n', body)
        return f'{self.device} {base64.b64encode(signature).decode()}'


def verified(public, context, message, signature):
    text = context.encode() + message
    return len(signature) == 64 and _sodium.crypto_sign_verify_detached(
        signature, text, ctypes.c_ulonglong(len(text)), public) == 0


class BadEnvelope(Exception):
    """An answer whose signature is not the server's."""


def open_envelope(public, kind, envelope):
    """The signed value of an envelope of `kind` (permit, halts, plan, answer, …)."""
    if set(envelope) != {'signed', 'key', 'signature'}:
        raise BadEnvelope(f'an envelope with {sorted(envelope)}')
    if envelope['key'] != hashlib.sha256(public).hexdigest()[:16]:
        raise BadEnvelope(f'signed by key {envelope["key"]}')
    if not verified(public, f'maeslant {kind} v1\n', envelope['signed'].encode(),
                    base64.b64decode(envelope['signature'], validate=True)):
        raise BadEnvelope(f'the signature over this {kind} is wrong')
    return json.loads(envelope['signed'])


class Answer:
    """What came back, bytes and all."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The problem's code, or None when this is no problem+json."""
        if self.headers.get('content-type', '').split(';')[0] != 'application/problem+json':
            return None
        return self.json['type'].rsplit('/', 1)[1]

    def __repr__(self):
        return f'{self.status} {self.body[:600].decode(errors="replace")}'


class Refused(Exception):
    """The server answered with a problem."""

    def __init__(self, answer):
        super().__init__(repr(answer))
        self.answer = answer
        self.status, self.code = answer.status, answer.code


class Transport:
    """One kept connection to the server; of one thread at a time."""

    def __init__(self, url, ca=None, timeout=40):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.tls = parts.hostname, parts.port, parts.scheme == 'https'
        self.timeout = timeout
        self.context = None
        if self.tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_3
            self.context.load_verify_locations(ca)
        self.connection = None

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def _open(self):
        if self.tls:
            self.connection = http.client.HTTPSConnection(self.host, self.port,
                                                          timeout=self.timeout,
                                                          context=self.context)
        else:
            self.connection = http.client.HTTPConnection(self.host, self.port,
                                                         timeout=self.timeout)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method, path, body=None, headers=None):
        """An Answer, or OSError when none came. A kept connection that the server closed meanwhile
        is replaced once: every call of the protocol may be sent again."""
        for last in (False, True):
            fresh = self.connection is None
            try:
                if fresh:
                    self._open()
                self.connection.request(method, path, body=body, headers=headers or {})
                reply = self.connection.getresponse()
                data = reply.read()
                got = {name.lower(): value for name, value in reply.getheaders()}
                if reply.will_close:
                    self.close()
                return Answer(reply.status, got, data)
            except (http.client.HTTPException, OSError) as error:
                self.close()
                if fresh or last:
                    raise error if isinstance(error, OSError) else ConnectionError(
                        repr(error)) from error
        raise AssertionError

    def socket(self):
        """A bare connected socket (in TLS where the server speaks it), for bytes that are no HTTP."""
        bare = socket.create_connection((self.host, self.port), timeout=self.timeout)
        return self.context.wrap_socket(bare, server_hostname=self.host) if self.tls else bare

    def raw(self, data, timeout=5):
        """Sends the bytes as they are; returns all that came until the server closed."""
        with self.socket() as connection:
            connection.settimeout(timeout)
            received = b''
            try:
                connection.sendall(data)
            except OSError:
                pass  # the refusal may come before the last byte is out
            try:
                while part := connection.recv(65536):
                    received += part
            except OSError:
                pass
            return received


_local = threading.local()


def shared_transport(url, ca=None):
    """The calling thread's own connection: some hundred clients then need a handful of them."""
    known = _local.__dict__.setdefault('transports', {})
    if (url, ca) not in known:
        known[url, ca] = Transport(url, ca)
    return known[url, ca]


def dump(value):
    return json.dumps(value, separators=(',', ':'), ensure_ascii=False).encode()


class Client:
    """One device. Keeps its `seq` as a real one does; sends on the calling thread's connection."""

    def __init__(self, url, ca=None, product='tiny', channel='stable', attributes=None, group=None,
                 key=None, machine=None):
        self.url, self.ca = url, ca
        self.product, self.channel = product, channel
        self.attributes = attributes if attributes is not None else {'os': 'linux'}
        self.group = group
        self.key = key or Key()
        self.machine = machine or secrets.token_hex(32)
        self.boot = secrets.token_hex(16)
        self.seq = 0
        self.current = 'empty'
        self.server_key = None
        self.bundle = self.certificate = None
        self.highest_halt = 0
        self.last = None  # (call, body, headers): what was sent last

    @property
    def id(self):
        return self.key.device

    @property
    def transport(self):
        return shared_transport(self.url, self.ca)

    # Bodies

    def common(self, **members):
        self.seq += 1
        return {'protocol': 1, 'agent': 'python-1', 'device': self.id, 'seq': self.seq,
                'sent_at': int(time.time() * 1000), **members}

    def begin_body(self, release, nonce=None, purpose=None, **members):
        body = self.common(nonce=nonce or secrets.token_hex(32), product=self.product,
                           channel=self.channel, release=release,
                           attributes=self.attributes, boot=self.boot)
        body['from'] = self.current
        if purpose:
            body['purpose'] = purpose
        if self.group:
            body['group'] = self.group
        return {**body, **members}

    def report_body(self, permit, release, outcome, reason=None, **members):
        body = self.common(permit=permit, release=release, outcome=outcome)
        if reason or outcome in ('failed', 'declined'):
            body['reason'] = reason or 'probe'
        return {**body, **members}

    def status_body(self, **members):
        product = {'product': self.product, 'channel': self.channel, 'current': self.current,
                   'state': 'idle'}
        return {**self.common(boot=self.boot, boots=1, products=[product],
                              attributes=self.attributes), **members}

    def enroll_body(self, token, **members):
        body = self.common(token=token, machine=self.machine, attributes=self.attributes,
                           public_key=base64.b64encode(self.key.public).decode())
        if self.group:
            body['group'] = self.group
        return {**body, **members}

    # Calls

    def post_bytes(self, call, body, signature=None, headers=None):
        """Any bytes, signed unless `signature` gives another header (''=none); no check of the
        answer."""
        all_headers = {'Content-Type': 'application/json'}
        if signature != '':
            all_headers['Maeslant-Signature'] = signature or self.key.header(call, body)
        all_headers.update(headers or {})
        self.last = (call, body, all_headers)
        return self.transport.ask('POST', f'/v1/{call}', body, all_headers)

    def post(self, call, value):
        return self.post_bytes(call, dump(value))

    def again(self):
        """The last request, byte for byte: a retry after a lost answer."""
        call, body, headers = self.last
        return self.transport.ask('POST', f'/v1/{call}', body, headers)

    def opened(self, kind, answer):
        if answer.status != 200:
            raise Refused(answer)
        return open_envelope(self.server_key, kind, answer.json)

    def enroll(self, token):
        answer = self.post('enroll', self.enroll_body(token))
        if answer.status != 200:
            raise Refused(answer)
        value = answer.json
        unverified = json.loads(value['bundle']['signed'])
        enrolment_key = base64.b64decode(unverified['enrolment_key'])
        self.bundle = open_envelope(enrolment_key, 'bundle', value['bundle'])
        self.certificate = open_envelope(enrolment_key, 'certificate', value['certificate'])
        self.server_key = base64.b64decode(self.bundle['server_key'])
        if self.certificate['device'] != self.id:
            raise BadEnvelope('the certificate is another device\'s')
        return self

    def begin(self, release, nonce=None, purpose=None, **members):
        """permit, wait or no."""
        body = self.begin_body(release, nonce, purpose, **members)
        value = self.opened('permit', self.post('begin', body))
        if value['device'] != self.id or value['nonce'] != body['nonce']:
            raise BadEnvelope(f'an answer for another begin: {value}')
        return value

    def report(self, permit, outcome, reason=None, **members):
        """`permit` is what begin() gave."""
        body = self.report_body(permit['permit'], permit['release'], outcome, reason, **members)
        return self.opened('answer', self.post('report', body))

    def status(self, **members):
        return self.opened('answer', self.post('status', self.status_body(**members)))

    def get(self, path, headers=None):
        return self.transport.ask('GET', path, headers=headers)

    def plan(self):
        return self.opened('plan', self.get(f'/v1/plans/{self.product}/{self.channel}'))

    def take_halts(self, answer):
        value = self.opened('halts', answer)
        if value['number'] < self.highest_halt:
            raise BadEnvelope(f'halts went back from {self.highest_halt} to {value["number"]}')
        self.highest_halt = value['number']
        return value

    def halts(self):
        return self.take_halts(self.get('/v1/halts'))

    def leash(self, permit):
        """The halts' list as soon as the permit's release is halted; None after 25 s without."""
        answer = Transport(self.url, self.ca).ask('GET', f'/v1/leash/{permit["permit"]}')
        return None if answer.status == 204 else self.take_halts(answer)


class SimulatedDevice(threading.Thread):
    """A device that polls, asks, soaks and reports until stopped, as a healthy agent would: what a
    lost server leaves unanswered is sent again byte for byte, for ever.

    `verdict(device, permit)` gives (outcome, reason) or None: silence. All that the server
    acknowledged is kept in `acknowledged`: (permit, outcome, answer).
    """

    def __init__(self, client, verdict, poll=0.1, soak=0.2, stop=None):
        super().__init__(daemon=True)
        self.client, self.verdict, self.poll, self.soak = client, verdict, poll, soak
        self.stopping = stop or threading.Event()
        self.permits, self.acknowledged, self.problems = [], [], []
        self.resent = 0
        self.lost = False

    def _insist(self, call, value):
        """Sends until an answer comes; None when stopped."""
        body = dump(value)
        while not self.stopping.is_set():
            try:
                answer = self.client.post_bytes(call, body)
                if answer.status < 500:
                    return answer
            except OSError:
                pass
            self.resent += 1
            self.stopping.wait(0.05)
        return None

    def _refused(self, answer):
        self.problems.append(repr(answer))

    def _trial(self, release):
        client = self.client
        answer = self._insist('begin', client.begin_body(release))
        if answer is None:
            return
        if answer.status != 200:
            self._refused(answer)
            return
        permit = client.opened('permit', answer)
        if permit['answer'] != 'permit':
            self.stopping.wait(min(permit.get('retry_after_ms', 500) / 1000, 0.5))
            return
        self.permits.append(permit)
        self.stopping.wait(self.soak)
        verdict = self.verdict(self, permit)
        if verdict is None:
            self.lost = True
            return
        answer = self._insist('report', client.report_body(permit['permit'], permit['release'],
                                                           *verdict))
        if answer is None:
            return
        if answer.status != 200:
            self._refused(answer)
            return
        value = client.opened('answer', answer)
        self.acknowledged.append((permit, verdict[0], value))
        if permit['arm'] == 'release' and value['answer'] == 'confirm':
            client.current = permit['release']

    def run(self):
        try:
            while not self.stopping.is_set() and not self.lost:
                try:
                    plan = self.client.plan()
                except (OSError, Refused):
                    self.stopping.wait(self.poll)
                    continue
                offered = [entry for entry in plan['releases'] if entry['state'] == 'running']
                if offered and self.client.current != offered[0]['release']:
                    self._trial(offered[0]['release'])
                self.stopping.wait(self.poll)
        except Exception as error:  # a thread's exception would be lost
            self.problems.append(repr(error))


class SimulatedFleet:
    """Simulated devices that start and stop together."""

    def __init__(self, clients, verdict, poll=0.05, soak=0.1):
        self.stopping = threading.Event()
        self.devices = [SimulatedDevice(client, verdict, poll, soak, self.stopping)
                        for client in clients]

    def start(self):
        for device in self.devices:
            device.start()
        return self

    def stop(self):
        """Waits for what is under way; an unexpected answer to any device is an error."""
        self.stopping.set()
        for device in self.devices:
            device.join(15)
            if device.is_alive():
                raise RuntimeError('a simulated device does not stop')
        problems = [problem for device in self.devices for problem in device.problems]
        if problems:
            raise RuntimeError(f'{len(problems)} unexpected answers, the first: {problems[0]}')

    @property
    def acknowledged(self):
        """(device id, permit, outcome) of every report that the server acknowledged."""
        return [(device.client.id, permit, outcome) for device in self.devices
                for permit, outcome, _ in device.acknowledged]

    @property
    def resent(self):
        return sum(device.resent for device in self.devices)
