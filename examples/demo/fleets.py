"""The demo's two fleets: web application firewalls and sensors, each device with its own agent,
slots, product, port and attributes."""
import http.client
import json
import os
import pathlib
import signal
import subprocess

from fleet import Device, free_port, wait_until

ORGANISATIONS = 12
KERNELS = ('6.1.0-37', '6.1.0-38', '6.1.0-40')
FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0'


def organisation(number):
    return f'o{number % ORGANISATIONS + 1}'


def attributes(number, engine):
    return {'os': 'debian-12', 'arch': 'amd64', 'engine': engine,
            'kernel': KERNELS[number % len(KERNELS)]}


class Waf(Device):
    """nginx with ModSecurity in front of a small site."""
    product = 'waf-rules'

    def __init__(self, plane, folder, number, content, token, kinds):
        self.port = free_port()
        self.run = pathlib.Path(folder) / 'run'
        self.run.mkdir(parents=True)
        products = {self.product: {
            'channel': 'stable',
            'provides': {'modsecurity': '3.0.9'},
            'vars': {'port': str(self.port), 'run_dir': str(self.run),
                     'waf_ctl': str(kinds / 'waf/waf-ctl')},
            'adopt': {'content': str(content / 'u1'),
                      'manifest': str(kinds / 'waf/manifest-u1.yaml')}}}
        # A third of the strata would do for a real fleet; here all firewalls are alike.
        alike = {**attributes(number, '3.0.9'), 'kernel': KERNELS[0]}
        super().__init__(plane, folder, organisation(number), products, alike, token)

    def ask(self, path, method='GET', headers=(), body=None):
        """Status and headers of one request to the firewall."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=5)
        try:
            connection.putrequest(method, path)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader('Content-Length', str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except OSError:
            return 0
        finally:
            connection.close()

    def version(self):
        """Which rule set the running workers have, told by how they answer."""
        status = self.ask('/', 'POST', [('Content-Type', 'application/json'),
                                        ('Content-Type', 'text/plain')], b'{}')
        return {405: 'u1', 403: 'u3'}.get(status, f'answer {status}')

    def serves(self):
        """Lets a visitor in and keeps an injection out."""
        benign = self.ask('/', headers=[('User-Agent', FIREFOX), ('Accept', 'text/html')])
        evil = self.ask('/?id=1%27%20OR%201=1--', headers=[('Accept', 'text/html')])
        return benign == 200 and evil == 403

    def stop_product(self):
        subprocess.run([self.products[self.product]['vars']['waf_ctl'], 'stop', '--run',
                        str(self.run)], capture_output=True, timeout=30, check=False)


class Sensor(Device):
    """A sensor that scans a folder; its machine can go dark."""
    product = 'sensor'

    def __init__(self, plane, folder, number, content, token, relay=None, poll='2s'):
        folder = pathlib.Path(folder)
        self.run, self.watch = folder / 'run', folder / 'watch'
        self.run.mkdir(parents=True)
        self.watch.mkdir()
        self.sensor = str(content / 'bin/sensor')
        products = {self.product: {
            'channel': 'stable',
            'provides_exec': [self.sensor, 'provides'],
            'vars': {'sensor': self.sensor, 'run_dir': str(self.run), 'watch_dir': str(self.watch)},
            'adopt': {'content': str(content / 'v1/payload'),
                      'manifest': str(content / 'manifest-v1.yaml')}}}
        alike = {**attributes(number, '1'), 'kernel': KERNELS[0]}
        super().__init__(plane, folder, organisation(number), products, alike, token, relay=relay,
                         poll=poll)

    def query(self, what):
        result = subprocess.run([self.sensor, 'query', '--run', str(self.run), what],
                                capture_output=True, text=True, timeout=10, check=False)
        return result.stdout.strip() if result.returncode == 0 else ''

    def running(self):
        """The release that the running process has loaded."""
        return self.query('digest')

    def panicked(self):
        return (self.run / 'panic').exists()

    def go_dark(self):
        """What a kernel panic does: agent and product are gone at once."""
        self.kill()
        self.kill_product()

    def kill_product(self):
        for pid in product_pids(self.run):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def stop_product(self):
        subprocess.run([self.sensor, 'stop', '--run', str(self.run)], capture_output=True,
                       timeout=30, check=False)
        self.kill_product()


def product_pids(run):
    """Processes that name this run folder among their arguments."""
    found = []
    for entry in pathlib.Path('/proc').iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / 'cmdline').read_bytes().split(b'\0')
        except OSError:
            continue
        if str(run).encode() in arguments:
            found.append(int(entry.name))
    return found


def bring_up(devices, ready, timeout=120):
    """Enrols and starts every device and waits until its product runs its first content."""
    for device in devices:
        device.enroll()
    for device in devices:
        device.start()
    for device in devices:
        wait_until(f'{device.name} is up', lambda d=device: d.alive() and ready(d), timeout, 0.2)


def write_policy(path, **changes):
    """The demo's policy: H = 4, soaks of five seconds, stages of 4, 12 and all."""
    # Two devices an organisation: here one organisation's word counts, so that four failures halt.
    policy = {'class': 'routine', 'harm_budget': 4, 'soak': '5s', 'deadline': '20s', 'quorum': 0,
              'stages': [{'name': 'four', 'devices': 4}, {'name': 'twelve', 'devices': 12},
                         {'name': 'all', 'share': '100%'}], **changes}
    path.write_text(json.dumps(policy) + '\n')
    return path
