"""maeslant sim as a user types it. argv: maeslant, the folder of incidents."""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

MAESLANT, INCIDENTS = sys.argv[1], pathlib.Path(sys.argv[2])
del sys.argv[1:]

SMALL = '''fleet:
  devices: 20000
  organisations: 100
  online: 0.85
  noise: {silent: 0.0008, failed: 0.0002}
release:
  harms:
    - {probability: 0.1, shows: failed, after: 20s}
  policy: {class: routine, harm_budget: 25}
compare: [all-at-once, percent-stages, canary-threshold, rate-abort, fixed-test]
'''
KEYS = ['exposed', 'harmed', 'proven_harm', 'halted', 'halted_at', 'completed_at', 'soaks',
        'false_halt', 'why']


def sim(*arguments):
    return subprocess.run([MAESLANT, 'sim', *map(str, arguments)], capture_output=True, text=True)


class Sim(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.scenario = pathlib.Path(self.folder.name) / 'scenario.yaml'
        self.scenario.write_text(SMALL)

    def test_json_is_one_object_as_the_format_says(self):
        done = sim(self.scenario, '--json')
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        self.assertEqual(list(found), ['wall_s', 'max_rss_bytes', 'strategies'])
        self.assertEqual(list(found['strategies']),
                         ['maeslant', 'all-at-once', 'percent-stages', 'canary-threshold',
                          'rate-abort', 'fixed-test'])
        for strategy in found['strategies'].values():
            self.assertEqual(list(strategy), KEYS)
        mine = found['strategies']['maeslant']
        self.assertTrue(mine['halted'] and not mine['false_halt'])
        self.assertAlmostEqual(mine['soaks'], mine['halted_at'] / 600)
        self.assertIsNone(mine['completed_at'])
        self.assertLess(mine['harmed'], found['strategies']['all-at-once']['harmed'] / 10)

    def test_the_same_seed_prints_the_same(self):
        one, two, other = (json.loads(sim(self.scenario, '--json', '--seed', seed).stdout)
                           ['strategies'] for seed in (7, 7, 8))
        self.assertEqual(one, two)
        self.assertNotEqual(one, other)

    def test_many_runs_give_means_with_intervals(self):
        done = sim(self.scenario, '--json', '--runs', 20)
        found = json.loads(done.stdout)
        self.assertEqual(found['runs'], 20)
        harmed = found['strategies']['maeslant']['harmed']
        self.assertEqual(harmed['runs'], 20)
        self.assertTrue(harmed['low'] <= harmed['mean'] <= harmed['high'])
        halted = found['strategies']['maeslant']['halted']
        self.assertEqual(halted['mean'], 1)
        self.assertTrue(0.8 < halted['low'] < 1)
        self.assertIsNone(found['strategies']['all-at-once']['halted_at'])
        self.assertIn('95 %', sim(self.scenario, '--runs', 3).stdout)

    def test_the_table_is_for_people(self):
        done = sim(self.scenario)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r'(?m)^maeslant +\d+ +\d+ ')
        self.assertRegex(done.stdout, r'(?m)^canary-threshold ')
        self.assertEqual(done.stderr, '')

    def test_the_page_is_one_file_without_anything_from_elsewhere(self):
        page = pathlib.Path(self.folder.name) / 'page.html'
        done = sim(self.scenario, '--report', page)
        self.assertEqual(done.returncode, 0, done.stderr)
        text = page.read_text()
        self.assertNotRegex(text, r'(?i)<script|<link|src=|https?://|url\(|@import')
        self.assertGreaterEqual(text.count('<svg class="chart"') + text.count('<svg class=chart'), 6)
        for words in ('harmed', 'side by side', 'Evidence against', 'The window'):
            self.assertIn(words, text)
        self.assertNotIn('nan', re.sub(r'<[^>]*>', '', text).lower().split())
        self.assertNotRegex(text, r'd="[^"]*(?:nan|inf)')

    def test_a_page_that_cannot_be_written_is_an_error(self):
        done = sim(self.scenario, '--report', pathlib.Path(self.folder.name) / 'no' / 'page.html')
        self.assertEqual(done.returncode, 1)
        self.assertIn('page.html', done.stderr)

    def test_bad_scenarios_are_refused_with_file_line_column_and_path(self):
        for old, new, said in [
                ('online: 0.85', 'online: 1.85', 'fleet.online is 1.85'),
                ('online: 0.85', 'onlime: 0.85', 'fleet.onlime is not known here'),
                ('silent: 0.0008', 'silent: 8', 'fleet.noise.silent is 8'),
                ('probability: 0.1', 'probability: 10', 'release.harms[0].probability is 10'),
                ('harm_budget: 25', 'harm_budget: -1', 'release.policy.harm_budget'),
                ('rate-abort', 'rate', 'compare[3] is "rate"'),
                ('20s', '20', 'release.harms[0].after is 20'),
                ('fleet:', 'fleet: [', 'line ')]:
            with self.subTest(new=new):
                self.scenario.write_text(SMALL.replace(old, new, 1))
                done = sim(self.scenario, '--json')
                self.assertEqual((done.returncode, done.stdout), (1, ''))
                self.assertIn(said, done.stderr)
                self.assertRegex(done.stderr, r'scenario\.yaml: line \d+, column \d+')

    def test_bad_options_are_refused(self):
        for arguments in (['--seed', 'x'], ['--runs', '0'], ['--seed', '-1']):
            self.assertEqual(sim(self.scenario, *arguments).returncode, 1, arguments)
        self.assertEqual(sim().returncode, 2)
        self.assertEqual(sim(self.folder.name + '/none.yaml').returncode, 1)

    def test_every_incident_is_explained_in_the_readme(self):
        readme = (INCIDENTS / 'README.md').read_text()
        for path in INCIDENTS.glob('*.yaml'):
            self.assertIn(f'({path.name})', readme)
            self.assertIn('# Expected: ', path.read_text())


unittest.main(verbosity=2)
