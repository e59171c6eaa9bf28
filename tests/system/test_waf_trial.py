"""Bad rule sets on a real nginx with ModSecurity: what its reload does not tell, the trial finds."""
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
for part in ('tests/agent', 'tests/lib', 'examples/demo'):
    sys.path.insert(0, str(ROOT / part))

import json  # noqa: E402

from agent_support import POLICY, World, expect, run_all, wait_until  # noqa: E402
from fleets import Waf, bring_up  # noqa: E402

KINDS = ROOT / 'examples'


class Site:
    """A control plane and firewalls that run the older rules."""

    def __init__(self, programs, count=1):
        self.world = World(programs, plain=False)
        self.count = count

    def __enter__(self):
        self.world.__enter__()
        try:
            self.content = self.world.folder / 'content'
            subprocess.run([KINDS / 'waf/build-content', self.content], check=True,
                           stdout=subprocess.DEVNULL)
            self.world.folder.chmod(0o755)
            token = self.world.plane.token('o1', self.count)
            self.wafs = [Waf(self.world.plane, self.world.folder / f'waf-{n}', n, self.content,
                             token, KINDS) for n in range(self.count)]
            self.world.devices += self.wafs
            bring_up(self.wafs, lambda w: w.version() == 'u1' and w.state(w.product) == 'idle')
            self.before = {waf: waf.current(waf.product) for waf in self.wafs}
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        for waf in getattr(self, 'wafs', []):
            if waf.alive():
                waf.stop()
            waf.stop_product()
        self.world.__exit__(kind, value, trace)

    def build(self, content):
        folder = self.world.folder / f'release-{content}'
        release = self.world.plane.build(KINDS / f'waf/manifest-{content}.yaml',
                                         self.content / content, folder)
        return folder, release

    def fails_everywhere(self, content, why, probe=None):
        """Publishes it past the lab, rolls it out, and checks that each trial failed for the same
        reason, that the workers run the rules before, and that the device and the server say why."""
        plane = self.world.plane
        folder, release = self.build(content)
        plane.publish(folder, '--skip-lab', 'a test of the trial on a real nginx')
        policy = self.world.folder / f'policy-{content}.yaml'
        policy.write_text(json.dumps({**POLICY, 'soak': '8s', 'deadline': '60s'}))
        name = plane.start_rollout(release, policy)
        for waf in self.wafs:
            wait_until(f'{waf.name} tried it', lambda w=waf: 'trial-reverted' in w.log() and
                       release[:12] in w.log() and w.state(w.product) == 'idle', 60, 0.1)
            expect(waf.current(waf.product) == self.before[waf], 'back on the slot before')
            expect(waf.version() == 'u1' and waf.serves(), content, 'the workers run', waf.version())
            rejected = (waf.root / 'var/lib/maeslant/rejected').read_text()
            expect(release in rejected, 'not tried again:', rejected)
        view = plane.rollout(name)
        expect(view['failed'] == len(self.wafs), view)
        reasons = [failure['why'] for failure in view['failures']]
        for reason in reasons:
            expect(any(reason.startswith(word) for word in why), content, 'reported as', reason)
            expect(not probe or f'probe {probe}' in reason, content, 'reported as', reason)
        return reasons


def an_unparsable_rule_fails_the_trial_though_the_reload_is_answered_well(programs):
    with Site(programs) as site:
        reasons = site.fails_everywhere('broken', ('adapter', 'not-active'))
        log = site.wafs[0].log()
        expect('SecRull' in log or 'nginx' in log, 'the device says what nginx said:', log[-1500:])
        print(f'ok - reported as: {reasons}', flush=True)


def an_unparsable_rule_is_found_by_the_active_check_alone(programs):
    # An adapter that only sends the signal, as most do: it cannot see that nginx kept its rules.
    with Site(programs) as site:
        control = site.world.folder / 'only-hup'
        control.write_text('''#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in --slot) new=${2##*/} ;; --run) run=$2 ;; esac
    shift
done
old=$(sed -n 's/^# Written by waf-ctl for release \\(.*\\)\\.$/\\1/p' "$run/nginx.conf")
sed -i "s/$old/$new/g" "$run/nginx.conf"
kill -HUP "$(cat "$run/nginx.pid")"
''')
        control.chmod(0o755)
        waf = site.wafs[0]
        config = waf.root / 'etc/maeslant/agent.yaml'
        waf.stop()
        value = json.loads(config.read_text())
        value['products'][waf.product]['vars']['waf_ctl'] = str(control)
        config.write_text(json.dumps(value))
        waf.start()
        site.fails_everywhere('broken', ('not-active',))


def an_expression_that_does_not_compile_is_found_by_the_probe_of_an_injection(programs):
    with Site(programs) as site:
        site.fails_everywhere('bad-regex', ('probe',), 'injection')


def the_lab_refuses_both_when_it_is_not_skipped(programs):
    with World(programs, plain=False) as world:
        content = world.folder / 'content'
        world.folder.chmod(0o755)
        subprocess.run([KINDS / 'waf/build-content', content], check=True,
                       stdout=subprocess.DEVNULL)
        for kind, words in (('broken', ('SecRull',)), ('bad-regex', ('injection', '403'))):
            folder = world.folder / f'release-{kind}'
            world.plane.build(KINDS / f'waf/manifest-{kind}.yaml', content / kind, folder)
            refused = world.plane.publish(folder, '--lab-dir', str(KINDS / 'waf'), check=False)
            expect(refused.returncode == 1, kind, 'published:', refused.stdout)
            for word in words:
                expect(word in refused.stderr, kind, 'refused without', word, ':', refused.stderr)
        listed = world.plane.ask('release', 'list')['releases']
        expect(listed == [], 'nothing was published:', listed)


TESTS = (an_unparsable_rule_fails_the_trial_though_the_reload_is_answered_well,
         an_unparsable_rule_is_found_by_the_active_check_alone,
         an_expression_that_does_not_compile_is_found_by_the_probe_of_an_injection,
         the_lab_refuses_both_when_it_is_not_skipped)

if __name__ == '__main__':
    names = ('maeslant', 'maeslant-agent', 'maeslant-agent-test')
    sys.exit(run_all(TESTS, dict(zip(names, sys.argv[1:]))))
