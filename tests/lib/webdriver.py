"""Headless Chromium for tests, driven over W3C WebDriver. Python's standard library only."""
import base64
import json
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

FLAGS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync',
         '--disable-dev-shm-usage', '--no-default-browser-check', '--hide-scrollbars')
ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'


class DriverError(Exception):
    """The browser refused a command."""


def available():
    """Whether this machine has what a Browser needs."""
    return bool(shutil.which('chromedriver') and shutil.which('chromium'))


class Browser:
    """One browser window with an empty profile. Use it as a context manager.

    `trust_any_certificate` lets it open a server whose CA only the test knows.
    """

    def __init__(self, trust_any_certificate=False, width=1280, height=900, log_path=None):
        self.profile = tempfile.mkdtemp(prefix='maeslant-browser-')
        self.driver, self.session = None, None
        self.log = open(log_path or '/dev/null', 'ab')
        try:
            self._start_driver()
            self._start_session(trust_any_certificate, width, height)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def _start_driver(self):
        # Port 0: the driver takes a free one and says which.
        self.driver = subprocess.Popen(
            [shutil.which('chromedriver'), '--port=0'], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=self.profile)
        for line in self.driver.stdout:
            if 'started successfully on port' in line:
                self.base = f'http://127.0.0.1:{int(line.rstrip(". ").rstrip().split()[-1].rstrip("."))}'
                return
        raise DriverError(f'chromedriver ended with {self.driver.wait()} before it listened')

    def _start_session(self, trust_any_certificate, width, height):
        answer = self._call('POST', '/session', {'capabilities': {'alwaysMatch': {
            'browserName': 'chrome',
            'acceptInsecureCerts': trust_any_certificate,
            'goog:loggingPrefs': {'browser': 'ALL'},
            'goog:chromeOptions': {
                'binary': shutil.which('chromium'),
                'args': [*FLAGS, f'--user-data-dir={self.profile}/profile',
                         f'--window-size={width},{height}'],
            },
        }}}, timeout=60)
        self.session = answer['sessionId']

    def close(self):
        try:
            if self.session:
                self._call('DELETE', f'/session/{self.session}')
        except (DriverError, OSError):
            pass
        finally:
            self.session = None
            if self.driver:
                self.driver.terminate()
                try:
                    self.driver.wait(10)
                except subprocess.TimeoutExpired:
                    self.driver.kill()
                    self.driver.wait()
                self.driver.stdout.close()
            self.log.close()
            shutil.rmtree(self.profile, ignore_errors=True)

    def _call(self, method, path, body=None, timeout=30):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.base + path, data=data, method=method,
                                         headers={'Content-Type': 'application/json'})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as reply:
                return json.load(reply)['value']
        except urllib.error.HTTPError as error:
            value = json.loads(error.read() or b'{}').get('value', {})
            raise DriverError(f'{method} {path}: {value.get("error")}: '
                              f'{value.get("message", "")[:500]}') from None

    def call(self, method, path, body=None):
        return self._call(method, f'/session/{self.session}{path}', body)

    def open(self, url):
        self.call('POST', '/url', {'url': url})

    def address(self):
        return self.call('GET', '/url')

    def script(self, source, *arguments):
        """Runs the body of a function in the page and returns what it returns."""
        return self.call('POST', '/execute/sync', {'script': source, 'args': list(arguments)})

    def text(self, selector):
        """What is shown of the first match, '' when there is none or it is hidden."""
        return self.script('const node = document.querySelector(arguments[0]);'
                           'return node ? node.innerText.trim() : "";', selector)

    def count(self, selector):
        return self.script('return document.querySelectorAll(arguments[0]).length;', selector)

    def visible(self, selector):
        return self.script('const node = document.querySelector(arguments[0]);'
                           'return !!node && node.checkVisibility();', selector)

    def _element(self, selector):
        found = self.call('POST', '/element', {'using': 'css selector', 'value': selector})
        return found[ELEMENT]

    def type(self, selector, words):
        """Real key strokes; '\\ue007' is Enter."""
        self.call('POST', f'/element/{self._element(selector)}/value', {'text': words})

    def click(self, selector):
        self.call('POST', f'/element/{self._element(selector)}/click', {})

    def wait(self, what, check, timeout=20, pause=0.05):
        """Returns check()'s first true value; AssertionError when none came in time."""
        end = time.monotonic() + timeout
        while True:
            value = check()
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f'not within {timeout:g} s: {what}')
            time.sleep(pause)

    def devtools(self, command, **parameters):
        return self.call('POST', '/goog/cdp/execute', {'cmd': command, 'params': parameters})

    def scheme(self, name):
        """'light' or 'dark', as the viewer's system would ask for."""
        self.devtools('Emulation.setEmulatedMedia',
                      features=[{'name': 'prefers-color-scheme', 'value': name}])

    def size(self, width, height, scale=1):
        self.devtools('Emulation.setDeviceMetricsOverride', width=width, height=height,
                      deviceScaleFactor=scale, mobile=False)

    def offline(self, is_offline):
        self.devtools('Network.enable')
        self.devtools('Network.emulateNetworkConditions', offline=is_offline, latency=0,
                      downloadThroughput=-1, uploadThroughput=-1)

    def screenshot(self, path, whole=True):
        """A PNG of the window or, by default, of the whole page."""
        if whole:
            box = self.devtools('Page.getLayoutMetrics')['cssContentSize']
            shot = self.devtools('Page.captureScreenshot', captureBeyondViewport=True,
                                 clip={'x': 0, 'y': 0, 'width': box['width'],
                                       'height': box['height'], 'scale': 1})['data']
        else:
            shot = self.call('GET', '/screenshot')
        pathlib.Path(path).write_bytes(base64.b64decode(shot))

    def console(self):
        """What was logged since the last call: dicts with level, source and message."""
        return self.call('POST', '/se/log', {'type': 'browser'})
