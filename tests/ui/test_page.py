"""The page during a rollout that goes bad: real control plane, real agents, headless Chromium.

test_page.py MAESLANT MAESLANT-AGENT FOLDER-FOR-SCREENSHOTS
"""
import json
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'lib'))

from fleet import Device, Failed, Plane, stop_all, wait_until  # noqa: E402
from webdriver import Browser, available  # noqa: E402

MAESLANT, AGENT, SHOTS = (pathlib.Path(path).resolve() for path in sys.argv[1:4])
DEVICES = 28
HARM_BUDGET = 8
SKIPPED = 77

# Every text against what lies behind it, as WCAG 2 computes it; the worst ones come back.
CONTRAST = '''
const number = (colour) => {
    const parts = colour.match(/[0-9.]+/g).map(Number);
    return {rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1};
};
const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255)
        .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (node) => {
    for (; node; node = node.parentElement) {
        const {rgb, alpha} = number(getComputedStyle(node).backgroundColor);
        if (alpha === 1)
            return rgb;
    }
    return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
};
const bad = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || parent.closest('.unseen, .skip, noscript, script') ||
        !parent.checkVisibility())
        continue;
    const style = getComputedStyle(parent);
    const [a, b] = [light(number(style.color).rgb), light(behind(parent))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 ||
                  (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5))
        bad.push(`${ratio.toFixed(2)} ${walker.currentNode.data.trim().slice(0, 40)}`);
}
return bad;
'''


class Flag(Device):
    """A product that is a file: what the device runs is what the file says."""

    def __init__(self, plane, folder, number, content, trouble, token):
        run = pathlib.Path(folder) / 'run'
        run.mkdir(parents=True)
        products = {'flag': {
            'channel': 'stable',
            'vars': {'run_dir': str(run), 'trouble': str(trouble)},
            'adopt': {'content': str(content / 'one'), 'manifest': str(content / 'one.yaml')},
        }}
        alike = {'os': 'debian-12', 'arch': 'amd64', 'kernel': '6.1', 'engine': '1'}
        super().__init__(plane, folder, f'o{number % 4 + 1}', products, alike, token, poll='1s')


def manifest(version):
    """A probe that fails for version two once there is trouble."""
    shell = ['/bin/sh', '-c']
    return {
        'maeslant': 1, 'product': 'flag', 'channel': 'stable', 'version': f'{version}.0',
        'sequence': version, 'permissions': ['files', 'reload'],
        'adapter': {'kind': 'command', 'mode': 'reload', 'timeout': '5s',
                    'activate': [*shell, 'cp "$1" "$2"', 'sh', '${slot}/digest',
                                 '${run_dir}/loaded'],
                    'deactivate': ['/bin/rm', '-f', '${run_dir}/loaded']},
        'active': {'kind': 'exec', 'command': ['/bin/cat', '${run_dir}/loaded'],
                   'timeout': '2s', 'within': '3s'},
        'probes': [{'name': 'well', 'kind': 'exec', 'interval': '500ms', 'timeout': '2s',
                    'failures': 1,
                    'command': [*shell, 'test ! -e "$1" || grep -q 1 "$2"', 'sh', '${trouble}',
                                '${payload}/version']}],
    }


def write_content(folder):
    for version, name in ((1, 'one'), (2, 'two')):
        (folder / name).mkdir()
        (folder / name / 'version').write_text(f'{version}\n')
        (folder / f'{name}.yaml').write_text(''.join(
            f'{key}: {json.dumps(value)}\n' for key, value in manifest(version).items()))
    (folder / 'policy.yaml').write_text(json.dumps({
        'class': 'routine', 'harm_budget': HARM_BUDGET, 'alpha': 0.05, 'soak': '5s', 'organisation_share': 1,
        'deadline': '20s', 'stages': [{'name': 'first', 'devices': 3}, {'name': 'all', 'approval': True}]}) + '\n')


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix='maeslant-ui-'))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        programs = cls.folder / 'bin'
        programs.mkdir()
        os.symlink(MAESLANT, programs / 'maeslant')
        os.symlink(AGENT, programs / 'maeslant-agent')
        write_content(cls.folder)
        cls.trouble = cls.folder / 'trouble'
        cls.plane = Plane(cls.folder / 'plane', programs).start()
        cls.addClassCleanup(cls.plane.stop)
        cls.token = (cls.plane.folder / 'viewer.token').read_text().strip()
        cls.release = cls.plane.build(cls.folder / 'two.yaml', cls.folder / 'two',
                                      cls.folder / 'release')
        cls.plane.publish(cls.folder / 'release', '--skip-lab', 'a test of the page')
        cls.devices = []
        cls.addClassCleanup(stop_all, cls.devices)
        tokens = {f'o{n + 1}': cls.plane.token(f'o{n + 1}', DEVICES) for n in range(4)}
        for number in range(DEVICES):
            device = Flag(cls.plane, cls.folder / f'd{number + 1:02}', number, cls.folder,
                          cls.trouble, tokens[f'o{number % 4 + 1}'])
            cls.devices.append(device.enroll())
        for device in cls.devices:
            device.start()
        for device in cls.devices:
            try:
                wait_until(f'{device.name} runs its first release',
                           lambda d=device: (d.folder / 'run/loaded').exists(), 30)
            except Failed:
                print(device.log(), file=sys.stderr)
                raise

    def shoot(self, browser, name):
        for width, height, kind in ((1280, 900, 'desktop'), (390, 844, 'phone')):
            browser.size(width, height)
            for scheme in ('light', 'dark'):
                browser.scheme(scheme)
                browser.wait('the charts have the scheme',
                             lambda: browser.count('.uplot canvas') in (0, 3))
                browser.screenshot(SHOTS / f'page-{name}-{kind}-{scheme}.png')
                self.assertEqual(browser.script(CONTRAST), [], f'contrast, {name} {kind} {scheme}')
        browser.size(360, 740)
        self.assertLessEqual(browser.script('return document.documentElement.scrollWidth'), 360)
        browser.size(1280, 900)
        browser.scheme('light')

    def sign_in(self, browser):
        browser.open(self.plane.url + '/')
        browser.wait('the page asks for a token', lambda: browser.visible('#sign-in-form'))
        self.shoot(browser, 'sign-in')
        browser.type('#token', 'not-the-token\ue007')
        browser.wait('a wrong token is refused',
                     lambda: 'viewer.token' in browser.text('#sign-in-error'))
        refused = [entry for entry in browser.console() if entry['level'] == 'SEVERE']
        for entry in refused:  # the browser's own lines about 401 and 403
            self.assertEqual(entry['source'], 'network', entry)
        browser.script('document.querySelector("#token").value = ""')
        browser.type('#token', self.token + '\ue007')
        browser.wait('the page is live', lambda: browser.text('#live') == 'Live')
        browser.wait('nothing runs yet', lambda: browser.visible('#nothing'))

    def watch_it_run(self, browser):
        name = self.plane.start_rollout(self.release, self.folder / 'policy.yaml')
        browser.wait('the rollout appears without a reload',
                     lambda: browser.text('#state').startswith('Running: stage 1 of 2'))
        self.assertEqual(browser.text('#title'), 'flag 2.0')
        browser.wait('pairs are tossed and some have come out well',
                     lambda: browser.count('#tosses .cell.healthy') >= 4, 60)
        self.assertEqual(browser.text('#n-failed'), '0')
        self.assertIn('No device of any pair has failed', browser.text('#score-words'))
        self.assertEqual(browser.text('#n-evidence'), 'none')
        self.assertEqual(browser.count('.uplot canvas'), 3)
        self.shoot(browser, 'running')
        self.plane.run('rollout', 'approve', name, '--reason', 'the first stage is well')
        browser.wait('the second stage opens',
                     lambda: browser.text('#state') == 'Running: stage 2 of 2, “all”', 60)
        browser.wait('enough coins are tossed for a verdict',
                     lambda: browser.count('#tosses .cell.open + .cell.open') >= 6, 60)
        return name

    def check_the_halt(self, browser, name):
        view = self.plane.rollout(name)
        self.assertEqual(view['state'], 'halted')
        self.assertIn('after the first failure', browser.text('#state'))
        self.assertIn('Halted', browser.text('#say') or browser.script(
            'return document.querySelector("#say").textContent'))
        self.assertTrue(browser.text('#why').startswith('Halted at'), browser.text('#why'))
        browser.wait('the figures are the control plane\'s',
                     lambda: browser.text('#n-failed') == str(view['failed']) and
                     browser.count('#tosses li') == view['pairs'])
        self.assertGreaterEqual(view['k_release'], 4)
        self.assertIn(f'release {view["k_release"]} : {view["k_placebo"]} placebo',
                      browser.text('#score'))
        self.assertRegex(browser.text('#score-words'),
                         r'Were the release harmless, a score at least so lopsided would come up '
                         r'at most once in \d+ rollouts\.')
        self.assertRegex(browser.text('#n-evidence'), r'^1 in \d+')
        self.assertIn('proof is 1 in 40', browser.text('#n-evidence-more'))
        self.assertEqual(browser.text('#n-proven').split()[0], str(view['proven_harm']))
        self.assertIn(f'halts above {HARM_BUDGET}', browser.text('#n-proven-more'))
        self.assertIn('It halts above 8', browser.text('#t-proven'))
        self.assertIn('were the release harmless: 1 in', browser.text('#t-evidence'))
        self.assertEqual(browser.count('.uplot canvas'), 3)
        for outcome in ('failed', 'reverted', 'healthy'):
            tossed = sum((pair['release_outcome'], pair['placebo_outcome']).count(outcome)
                         for pair in view['pair_list'])
            browser.wait(f'the strip has {tossed} devices that are {outcome}',
                         lambda o=outcome, n=tossed: browser.count(f'#tosses .cell.{o}') == n)
        self.assertIn('probe well', browser.text('#failures'))
        moments = browser.text('#moments')
        for words in ('Stage “first” opened', 'Stage “all” opened', 'Halted'):
            self.assertIn(words, moments)
        shown = browser.script('return [...document.querySelectorAll("#devices td:nth-child(2)")]'
                               '.reduce((sum, cell) => sum + Number(cell.textContent), 0)')
        self.assertEqual(shown, DEVICES)

    def check_an_outage(self, browser):
        failures, tosses = browser.text('#failures'), browser.text('#tosses')
        self.plane.stop()
        browser.wait('the page says that it is not live',
                     lambda: browser.visible('#not-live') and browser.text('#live') == 'Not live')
        self.assertIn('What you see is from', browser.text('#not-live-text'))
        self.assertIn('stale', browser.script('return document.body.className'))
        browser.screenshot(SHOTS / 'page-not-live.png')
        self.plane.start()
        browser.wait('the page is live again by itself',
                     lambda: browser.text('#live') == 'Live' and not browser.visible('#not-live'))
        self.assertTrue(browser.text('#state').startswith('Halted'))
        browser.wait('the control plane has told the same story again',
                     lambda: (browser.text('#failures'), browser.text('#tosses')) ==
                     (failures, tosses))

    def test_the_page_sees_the_halt_happen(self):
        with Browser(trust_any_certificate=True, log_path=SHOTS / 'chromedriver.log') as browser:
            self.sign_in(browser)
            browser.script('window.neverReloaded = true')
            name = self.watch_it_run(browser)
            self.trouble.touch()
            browser.wait('the banner turns to halted',
                         lambda: browser.text('#state').startswith('Halted'), 30)
            self.assertTrue(browser.script('return window.neverReloaded === true'))
            wait_until('no trial is left', lambda: not any(
                self.plane.rollout(name)[what] for what in ('in_flight', 'placebo_in_flight')), 30)
            self.check_the_halt(browser, name)
            self.shoot(browser, 'halted')
            noise = [entry for entry in browser.console() if entry['level'] != 'INFO']
            self.assertEqual(noise, [], 'the console stays empty: no error, no CSP violation')
            self.check_an_outage(browser)

    def test_a_token_in_the_address_leaves_it_at_once(self):
        with Browser(trust_any_certificate=True) as browser:
            browser.open(f'{self.plane.url}/#token={self.token}')
            browser.wait('the page is live', lambda: browser.text('#live') == 'Live')
            self.assertEqual(browser.address(), self.plane.url + '/')
            self.assertNotIn(self.token, browser.script('return document.documentElement.outerHTML'))


if __name__ == '__main__':
    if not available():
        print('chromium and chromium-driver are not installed: nothing was tested')
        sys.exit(SKIPPED)
    SHOTS.mkdir(parents=True, exist_ok=True)
    unittest.main(argv=[sys.argv[0], '--verbose'])
