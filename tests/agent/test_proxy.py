"""Through a proxy that asks who comes, and through one that opens the TLS (rule 17)."""
import base64
import json
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

from agent_support import PRODUCT, World, expect, run_all, running, settle, wait_until

NAME = 'updates.test'  # known to nobody but the proxy
USER, PASSWORD = 'maeslant-device', 'correct-horse-7731'


class Proxy:
    """CONNECT with Basic authentication. With `open_tls` it ends the TLS with a certificate of its
    own and begins another one to the server, as an inspecting proxy does."""

    def __init__(self, target, server_ca=None, certificate=None):
        self.target, self.server_ca, self.certificate = target, server_ca, certificate
        self.asked, self.refused, self.seen = 0, 0, []
        self.socket = socket.create_server(('127.0.0.1', 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            self._talk(client)
        except (OSError, ValueError):
            pass
        finally:
            client.close()

    def _talk(self, client):
        wanted = base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()
        while True:
            head = b''
            while b'\r\n\r\n' not in head:
                got = client.recv(4096)
                if not got:
                    return
                head += got
            lines = head.decode('latin-1').split('\r\n')
            self.seen.append(lines[0])
            self.asked += 1
            if f'Proxy-Authorization: Basic {wanted}' in lines:
                break
            self.refused += 1
            client.sendall(b'HTTP/1.1 407 Proxy Authentication Required\r\n'
                           b'Proxy-Authenticate: Basic realm="a proxy"\r\nContent-Length: 0\r\n\r\n')
        far = socket.create_connection(('127.0.0.1', self.target()))
        client.sendall(b'HTTP/1.1 200 Connection established\r\n\r\n')
        if self.certificate:
            inner = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            inner.load_cert_chain(*self.certificate)
            client = inner.wrap_socket(client, server_side=True)
            outer = ssl.create_default_context(cafile=self.server_ca)
            far = outer.wrap_socket(far, server_hostname=NAME)
        self._pump(client, far)

    @staticmethod
    def _pump(one, two):
        other = {one: two, two: one}
        with one, two:
            while True:
                ready = [s for s in other if isinstance(s, ssl.SSLSocket) and s.pending()]
                ready = ready or select.select(list(other), [], [], 60)[0]
                for side in ready:
                    data = side.recv(65536)
                    if not data:
                        return
                    other[side].sendall(data)


def own_certificate(folder):
    """A CA and a certificate for NAME: (ca.pem, (certificate, key))."""
    ca, key, request, cert = (folder / name for name in
                              ('inspect-ca.pem', 'inspect.key', 'inspect.csr', 'inspect.pem'))
    extensions = folder / 'inspect.cnf'
    extensions.write_text(f'subjectAltName=DNS:{NAME}\n')
    run = lambda *line: subprocess.run(['openssl', *map(str, line)], check=True,  # noqa: E731
                                       capture_output=True)
    ec = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes')
    run('req', '-x509', *ec, '-keyout', folder / 'ca.key', '-out', ca, '-subj', '/CN=inspection',
        '-days', 30)
    run('req', *ec, '-keyout', key, '-out', request, '-subj', f'/CN={NAME}')
    run('x509', '-req', '-in', request, '-CA', ca, '-CAkey', folder / 'ca.key', '-CAcreateserial',
        '-days', 30, '-extfile', extensions, '-out', cert)
    return ca, (str(cert), str(key))


def world_behind(programs):
    """A control plane whose certificate names NAME."""
    world = World(programs, plain=False, start=False)
    shutil.rmtree(world.plane.folder)
    world.plane.run('init', str(world.plane.folder), '--name', NAME, '--listen', '127.0.0.1:0')
    world.plane.start()
    return world


def behind(world, proxy, password=PASSWORD, **extra):
    device = world.device(enroll=False, extra={
        'server': f'https://{NAME}:{world.plane.port}', 'proxy': f'http://127.0.0.1:{proxy.port}',
        'proxy_auth_file': '/etc/maeslant/proxy.secret', **extra})
    secret = device.root / 'etc/maeslant/proxy.secret'
    secret.write_text(f'{USER}:{password}\n')
    secret.chmod(0o600)
    return device


def no_secret(device, password, *texts):
    encoded = base64.b64encode(f'{USER}:{password}'.encode()).decode()
    bundle = device.folder / 'bundle.tar.zst'
    subprocess.run([device.agent, 'support-bundle', '--root', str(device.root), '--log',
                    str(device.log_path), '-o', str(bundle)], check=True, capture_output=True,
                   timeout=60, env=device.environment())
    shown = subprocess.run(['tar', '--zstd', '-xOf', str(bundle)], check=True, capture_output=True,
                           text=True, errors='replace').stdout
    lines = ''
    if device.alive():
        with open(f'/proc/{device.process.pid}/cmdline', encoding='latin-1') as file:
            lines = file.read()
    for text in (device.log(), shown, lines, *texts):
        expect(password not in text and encoded not in text, 'a secret shows:', text[-2000:])
    expect('proxy' in shown, 'the bundle has the configuration')


def over_tls_through_a_proxy_with_a_password_a_device_enrols_and_updates(programs):
    with world_behind(programs) as world:
        proxy = Proxy(lambda: world.plane.port)
        device = behind(world, proxy).enroll().start()
        second = world.release()
        rollout = world.rollout(second)
        settle(device, 'confirmed', timeout=40)
        expect(running(device) == second, 'updated')
        wait_until('reported', lambda: world.plane.rollout(rollout)['healthy'] == 1)
        expect(set(line.split()[1] for line in proxy.seen) == {f'{NAME}:{world.plane.port}'},
               proxy.seen)
        no_secret(device, PASSWORD)


def a_wrong_password_is_said_clearly_and_never_shown(programs):
    with world_behind(programs) as world:
        proxy = Proxy(lambda: world.plane.port)
        wrong = 'wrong-battery-4242'
        device = behind(world, proxy, wrong)
        result = subprocess.run([device.agent, 'enroll', '--root', str(device.root), '--token-file',
                                 str(device.folder / 'token')], capture_output=True, text=True,
                                timeout=60, env=device.environment())
        said = result.stdout + result.stderr
        expect(result.returncode == 1 and 'proxy' in said and '407' in said and
               'proxy_auth_file' in said, said)
        expect(wrong not in said, said)
        # A password that was changed while the agent is in service.
        secret = device.root / 'etc/maeslant/proxy.secret'
        secret.write_text(f'{USER}:{PASSWORD}\n')
        device.enroll()
        secret.write_text(f'{USER}:{wrong}\n')
        device.start()
        wait_until('the log says so', lambda: '407' in device.log() and
                   'proxy_auth_file' in device.log())
        doctor = subprocess.run([device.agent, 'doctor', '--root', str(device.root)], text=True,
                                capture_output=True, timeout=60, env=device.environment())
        expect(doctor.returncode == 1 and '407' in doctor.stdout, doctor.stdout)
        no_secret(device, wrong, doctor.stdout)


def a_proxy_that_opens_the_tls_is_trusted_with_its_extra_ca_and_not_without(programs):
    with world_behind(programs) as world:
        ca, certificate = own_certificate(world.folder)
        proxy = Proxy(lambda: world.plane.port, str(world.plane.ca), certificate)
        device = behind(world, proxy)
        result = subprocess.run([device.agent, 'enroll', '--root', str(device.root), '--token-file',
                                 str(device.folder / 'token')], capture_output=True, text=True,
                                timeout=60, env=device.environment())
        expect(result.returncode == 1 and 'certificate' in result.stderr, result.stderr)
        (device.root / 'etc/maeslant/extra.pem').write_bytes(ca.read_bytes())
        path = device.root / 'etc/maeslant/agent.yaml'
        path.write_text(json.dumps({**json.loads(path.read_text()),
                                    'extra_ca': '/etc/maeslant/extra.pem'}))
        device.enroll().start()
        second = world.release()
        world.rollout(second)
        settle(device, 'confirmed', timeout=40)
        expect(running(device) == second, 'updated')
        no_secret(device, PASSWORD)


TESTS = [test for name, test in list(globals().items())
         if callable(test) and getattr(test, '__module__', '') == __name__ and
         name not in ('Proxy', 'own_certificate', 'world_behind', 'behind', 'no_secret')]

if __name__ == '__main__':
    names = ('maeslant', 'maeslant-agent', 'maeslant-agent-test')
    sys.exit(run_all(TESTS, dict(zip(names, sys.argv[1:]))))
