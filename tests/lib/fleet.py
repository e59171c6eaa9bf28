"""A control plane and its devices as real processes, for the demo and the system tests.

Everything lives below one folder; nothing listens off loopback; every process is stopped by its own
process id. Python's standard library only.
"""
import asyncio
import json
import os
import pathlib
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time


class Failed(Exception):
    """A step that had to work did not."""


def wait_until(what, check, timeout=30.0, pause=0.05):
    """Returns check()'s first true value, or raises Failed."""
    end = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f'not within {timeout:g} s: {what}')
        time.sleep(pause)


GIVEN = set()


def free_port():
    """A port that nobody listens at, below those that the kernel gives to clients and to port 0:
    it is still free when its owner gets round to it."""
    while True:
        port = random.randrange(10240, 32768)
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port))
            except OSError:
                continue
        if port not in GIVEN:
            GIVEN.add(port)
            return port


class Relay:
    """Loopback TCP relays, one a device, that can be cut: a device's network."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.links = {}
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def add(self, name, target):
        """Opens a link to target() = port; returns the link's own port."""
        return asyncio.run_coroutine_threadsafe(self._open(name, target), self.loop).result(10)

    def cut(self, name):
        self.links[name]['up'] = False
        self.loop.call_soon_threadsafe(self._drop, name)

    def mend(self, name):
        self.links[name]['up'] = True

    def is_up(self, name):
        return self.links[name]['up']

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    def _drop(self, name):
        for writer in list(self.links[name]['writers']):
            writer.transport.abort()

    async def _open(self, name, target):
        link = {'up': True, 'writers': set()}

        async def pump(reader, writer):
            try:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            except (ConnectionError, OSError):
                pass
            finally:
                writer.transport.abort() if not link['up'] else writer.close()

        async def accept(reader, writer):
            if not link['up']:
                writer.transport.abort()
                return
            try:
                far_reader, far_writer = await asyncio.open_connection('127.0.0.1', target())
            except OSError:
                writer.transport.abort()
                return
            link['writers'] |= {writer, far_writer}
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer),
                                 return_exceptions=True)
            link['writers'] -= {writer, far_writer}

        server = await asyncio.start_server(accept, '127.0.0.1', 0)
        link['server'] = server
        self.links[name] = link
        return server.sockets[0].getsockname()[1]


class Plane:
    """A control plane: `maeslant init` and `serve`."""

    def __init__(self, folder, bin_folder, plain=False, gate=True, wrapper=()):
        self.folder = pathlib.Path(folder)
        self.bin = pathlib.Path(bin_folder)
        self.plain, self.gate, self.wrapper = plain, gate, list(wrapper)
        self.process = None
        self.port = 0
        if not (self.folder / 'server.yaml').exists():
            self.run('init', str(self.folder), '--listen', '127.0.0.1:0')

    @property
    def maeslant(self):
        return str(self.bin / 'maeslant')

    @property
    def url(self):
        return f'{"http" if self.plain else "https"}://127.0.0.1:{self.port}'

    @property
    def ca(self):
        return str(self.folder / 'tls/ca.pem')

    @property
    def release_key(self):
        return str(self.folder / 'offline/release.key')

    @property
    def release_pub(self):
        return str(self.folder / 'keys/release.pub')

    def run(self, *arguments, check=True, timeout=120, env=None):
        """The command line as typed; returns the completed process."""
        result = subprocess.run([self.maeslant, *arguments], capture_output=True, text=True,
                                timeout=timeout, stdin=subprocess.DEVNULL,
                                env={**os.environ, 'MAESLANT_DIR': str(self.folder), **(env or {})})
        if check and result.returncode != 0:
            raise Failed(f'maeslant {" ".join(arguments)}: exit {result.returncode}\n'
                         f'{result.stdout}{result.stderr}')
        return result

    def ask(self, *arguments):
        """The command's JSON answer."""
        return json.loads(self.run(*arguments, '--json').stdout)

    def start(self, port=None):
        port_file = self.folder / 'port'
        port_file.unlink(missing_ok=True)
        listen = f'127.0.0.1:{port if port is not None else self.port}'
        self.log = open(self.folder / 'serve.log', 'ab')
        self.process = subprocess.Popen(
            [*self.wrapper, self.maeslant, 'serve', str(self.folder), '--listen', listen,
             '--port-file', str(port_file), '--allow-root',
             *(['--plain'] if self.plain else []), *([] if self.gate else ['--no-gate'])],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_until('the control plane answers',
                   lambda: self._alive() and port_file.exists() and port_file.read_text().strip(),
                   timeout=30, pause=0.02)
        self.port = int(port_file.read_text())
        return self

    def _alive(self):
        if self.process.poll() is not None:
            tail = (self.folder / 'serve.log').read_text(errors='replace')[-2000:]
            raise Failed(f'the control plane ended with {self.process.returncode}:\n{tail}')
        return True

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self):
        """SIGTERM; returns the exit status."""
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else 0
        self.process.terminate()
        try:
            status = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed('the control plane did not stop within 20 s of SIGTERM') from None
        finally:
            self.log.close()
        return status

    def token(self, organisation, uses):
        return self.ask('device', 'enroll', '--organisation', organisation, '--uses', str(uses))[
            'token']

    def build(self, manifest, payload, output):
        """Builds and signs; returns the release's name."""
        answer = self.ask('release', 'build', str(manifest), '--payload', str(payload), '--output',
                          str(output))
        self.run('release', 'sign', str(output), '--key', self.release_key)
        return answer['release']

    def publish(self, directory, *options, check=True):
        return self.run('release', 'publish', str(directory), *options, check=check)

    def start_rollout(self, release, policy=None):
        options = ['--policy', str(policy)] if policy else []
        return self.ask('rollout', 'start', release, *options)['rollout']

    def rollout(self, name):
        return self.ask('rollout', 'status', name)

    def recompute(self, name, log):
        """Writes the rollout's events and decisions to `log` and makes the decisions again from the
        events, as an auditor would; how many there are. Failed at the first that differs."""
        log.write_text(self.run('rollout', 'events', name).stdout)
        said = self.run('replay', '--check', str(log)).stdout
        match = re.fullmatch(r'every decision recomputed: (\d+) of \1\n', said)
        if not match:
            raise Failed(f'maeslant replay --check {log} says: {said}')
        return int(match[1])


class Device:
    """One device: a folder as its root file system, and an agent process."""

    def __init__(self, plane, folder, organisation, products, attributes, token, relay=None,
                 group=None, poll='2s', extra=None):
        self.plane = plane
        self.folder = pathlib.Path(folder)
        self.name = self.folder.name
        self.organisation = organisation
        self.products = products
        self.relay = relay
        self.boots = 0
        self.boot_id = str(secrets.token_hex(16))
        self.process = None
        self.root = self.folder / 'root'
        etc = self.root / 'etc/maeslant'
        etc.mkdir(parents=True)
        (self.root / 'etc/machine-id').write_text(secrets.token_hex(16) + '\n')
        (etc / 'ca.pem').write_bytes(pathlib.Path(plane.ca).read_bytes())
        (etc / 'release.pub').write_bytes(pathlib.Path(plane.release_pub).read_bytes())
        (self.folder / 'token').write_text(token + '\n')
        os.chmod(self.folder / 'token', 0o600)
        for product, setting in products.items():
            if 'adopt' in setting:
                setting['adopt'] = self._inside(product, setting['adopt'])
        port = relay.add(self.name, lambda: plane.port) if relay else None
        self.fixed_port = port
        config = {
            'server': f'{"http" if plane.plain else "https"}://127.0.0.1:{port or plane.port}',
            'release_keys': ['/etc/maeslant/release.pub'],
            'poll': poll,
            'attributes': attributes,
            'settle_after_boot': '0s',
            'min_free': '16MiB',
            'products': products,
            **({} if plane.plain else {'ca': '/etc/maeslant/ca.pem'}),
            **({'group': group} if group else {}),
            **(extra or {}),
        }
        (etc / 'agent.yaml').write_text(json.dumps(config, indent=1) + '\n')

    def _inside(self, product, adopt):
        """The installed content as it lies on the device: the agent reads below its root only."""
        place = self.root / 'srv' / product
        place.mkdir(parents=True)
        shutil.copytree(adopt['content'], place / 'content')
        shutil.copy(adopt['manifest'], place / 'manifest.yaml')
        return {'content': f'/srv/{product}/content', 'manifest': f'/srv/{product}/manifest.yaml'}

    @property
    def agent(self):
        return str(self.plane.bin / 'maeslant-agent')

    @property
    def log_path(self):
        return self.folder / 'agent.log'

    def environment(self):
        return {**os.environ, 'MAESLANT_BOOT_ID': self.boot_id}

    def enroll(self):
        result = subprocess.run([self.agent, 'enroll', '--root', str(self.root), '--token-file',
                                 str(self.folder / 'token')], capture_output=True, text=True,
                                timeout=60, env=self.environment())
        if result.returncode != 0:
            raise Failed(f'{self.name} can\'t enrol: {result.stdout}{result.stderr}')
        return self

    def start(self, program=None, env=None):
        with open(self.log_path, 'ab') as log:
            self.process = subprocess.Popen([program or self.agent, 'run', '--root', str(self.root)],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**self.environment(), **(env or {})})
        return self

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self, timeout=20):
        if not self.alive():
            return self.process.returncode if self.process else 0
        self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f'{self.name}: the agent did not stop within {timeout} s') from None

    def reboot(self):
        """A new boot id; the caller has killed what ran."""
        self.boot_id = str(secrets.token_hex(16))
        self.boots += 1
        return self.start()

    def state_folder(self, product):
        return self.root / 'var/lib/maeslant' / product

    def current(self, product):
        """The release that `current` points at, or None."""
        try:
            return os.path.basename(os.readlink(self.state_folder(product) / 'current'))
        except OSError:
            return None

    def journal(self, product):
        """The journal as a dict, or {}."""
        try:
            lines = (self.state_folder(product) / 'journal').read_text().splitlines()
        except OSError:
            return {}
        return dict(line.split(' ', 1) for line in lines[1:] if ' ' in line)

    def state(self, product):
        return self.journal(product).get('state', 'idle')

    def status(self):
        """The agent's own status file, or {}."""
        try:
            return json.loads((self.root / 'run/maeslant/status.json').read_text())
        except (OSError, ValueError):
            return {}

    def blocked(self, product):
        """Why the device does not ask for a permit: a reason code, or ''."""
        for entry in self.status().get('products', []):
            if entry.get('product') == product:
                return entry.get('blocked') or ''
        return ''

    def log(self):
        try:
            return self.log_path.read_text(errors='replace')
        except OSError:
            return ''


def stop_all(devices):
    for device in devices:
        if device.alive():
            device.process.send_signal(signal.SIGTERM)
    for device in devices:
        if device.process:
            try:
                device.process.wait(20)
            except subprocess.TimeoutExpired:
                device.process.kill()
                device.process.wait()
