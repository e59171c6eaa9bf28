#!/usr/bin/python3
"""The WAF example with a real nginx: each test's name is the sentence it proves.

Run by root, everything under test runs as nobody, in copies that nobody can read."""

import http.client
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent.parent
CONTENTS = ("u1", "u3", "broken", "bad-regex", "blocks-visitors")
DIGEST = {name: format(0xA0 + i, "064x") for i, name in enumerate(CONTENTS)}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
INJECTION = "/?id=1%27%20OR%201=1--"
ROOT = os.geteuid() == 0
AS_NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []} if ROOT else {}


def run(*command, limit=60, **options):
    return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=limit, **options)


def free_port():
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def nginx_of(folder):
    """The processes of nginx that work in `folder`, zombies left out."""
    found = []
    if not folder.exists():
        return found
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "comm").read_text() == "nginx\n" and \
                    os.path.samefile(entry / "cwd", folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


class Firewall:
    """One device: its port, its folder and its slots."""

    def __init__(self, name):
        self.port = free_port()
        self.run = WORK / "devices" / name
        self.base = f"127.0.0.1:{self.port}"

    def command(self, verb, content=None, *more):
        slot = ["--slot", WORK / "slots" / content, "--port", self.port] if content else []
        return [str(word) for word in (WAF / "waf-ctl", verb, *slot, "--run", self.run, *more)]

    def ctl(self, verb, content=None, *more):
        return run(*self.command(verb, content, *more), **AS_NOBODY)

    def activate(self, content, *more):
        done = self.ctl("activate", content, *more)
        assert done.returncode == 0, done.stderr
        return done

    def ask(self, path="/", method="GET", headers=(), body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.putrequest(method, path)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply.status, reply.read().decode(), reply.headers
        finally:
            connection.close()

    def status(self, *arguments, **options):
        return self.ask(*arguments, **options)[0]

    def benign(self):
        return self.status("/", headers=[("User-Agent", FIREFOX), ("Accept", "text/html")])

    def injection(self):
        return self.status(INJECTION)

    def telling(self):
        """405 from the rules before the update, 403 from those after it."""
        return self.status("/", method="POST", body=b"{}", headers=[
            ("Content-Type", "application/json"), ("Content-Type", "text/plain")])

    def loaded(self):
        return self.ask("/.maeslant/release")[1].strip()

    def master(self):
        return int((self.run / "nginx.pid").read_text())

    def worker(self):
        return int(self.ask()[2]["Maeslant-Worker"])


class WafTest(unittest.TestCase):
    def setUp(self):
        self.waf = self.firewall(re.sub(r"\W", "", self.id().rsplit(".", 1)[1]))

    def firewall(self, name):
        waf = Firewall(name)
        self.addCleanup(self.clear, waf)
        return waf

    def clear(self, waf):
        for pid in nginx_of(waf.run):
            os.kill(pid, signal.SIGKILL)

    def runs(self, content, waf=None):
        """The workers hold this content's rules and protect the site as those do."""
        waf = waf or self.waf
        self.assertEqual(waf.loaded(), DIGEST[content])
        self.assertEqual((waf.benign(), waf.injection(), waf.telling()),
                         (200, 403, 405 if content == "u1" else 403))


class Rules(WafTest):
    def test_the_update_reaches_the_workers_and_goes_back(self):
        self.assertEqual(self.waf.ctl("start", "u1").returncode, 0)
        self.runs("u1")
        master = self.waf.master()
        self.waf.activate("u3")
        self.runs("u3")
        self.waf.activate("u1")
        self.runs("u1")
        self.assertEqual(self.waf.master(), master, "it was a reload, not a restart")

    def test_the_site_has_two_pages_and_a_form(self):
        self.waf.activate("u3")
        self.assertIn("<form", self.waf.ask("/")[1])
        self.assertEqual(self.waf.status("/search.html?q=Hoek+van+Holland"), 200)
        self.assertEqual(self.waf.status("/search.html?q=%3Cscript%3Ealert(1)%3C/script%3E"), 403)

    def test_every_reply_names_the_release(self):
        self.waf.activate("u3")
        for path in ("/", INJECTION, "/nowhere", "/.maeslant/release"):
            self.assertEqual(self.waf.ask(path)[2]["Maeslant-Release"], DIGEST["u3"], path)

    def test_an_unparsable_rule_leaves_the_old_rules_and_the_answer_says_so(self):
        self.waf.activate("u1")
        refused = self.waf.ctl("activate", "broken")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("SecRull", refused.stderr)
        self.runs("u1")
        configuration = (self.waf.run / "nginx.conf").read_text()
        self.assertIn(DIGEST["u1"], configuration)
        self.assertNotIn(DIGEST["broken"], configuration)
        self.waf.activate("u1")
        self.runs("u1")
        self.waf.activate("u3")
        self.runs("u3")

    def test_a_bare_reload_of_unparsable_rules_is_seen_in_the_answer_alone(self):
        self.waf.activate("u1")
        slot = re.compile(re.escape(str(WORK / "slots" / "u1")))
        configuration = self.waf.run / "nginx.conf"
        text = slot.sub(str(WORK / "slots" / "broken"), configuration.read_text())
        configuration.write_text(text.replace(DIGEST["u1"], DIGEST["broken"]))
        os.kill(self.waf.master(), signal.SIGHUP)
        log = self.waf.run / "error.log"
        self.assertTrue(until(lambda: "[emerg]" in log.read_text()))
        self.assertEqual((self.waf.benign(), self.waf.injection()), (200, 403))
        self.assertEqual(self.waf.loaded(), DIGEST["u1"])
        self.waf.activate("u1")
        self.runs("u1")

    def test_an_invalid_expression_is_accepted_and_found_by_the_injection(self):
        self.waf.activate("u1")
        self.waf.activate("bad-regex")
        self.assertEqual(self.waf.loaded(), DIGEST["bad-regex"])
        self.assertEqual((self.waf.benign(), self.waf.injection()), (200, 200))
        self.waf.activate("u1")
        self.runs("u1")

    def test_a_rule_that_blocks_visitors_is_found_by_the_benign_request(self):
        self.waf.activate("u1")
        self.waf.activate("blocks-visitors")
        self.assertEqual(self.waf.loaded(), DIGEST["blocks-visitors"])
        self.assertEqual((self.waf.benign(), self.waf.injection()), (403, 403))
        self.waf.activate("u1")
        self.runs("u1")

    def test_the_same_rules_again_are_a_real_reload(self):
        self.waf.activate("u3")
        worker = self.waf.worker()
        self.waf.activate("u3")
        self.runs("u3")
        self.assertNotEqual(self.waf.worker(), worker)

    def test_no_visitor_is_lost_during_reloads_and_none_meets_the_old_rules_after(self):
        self.waf.activate("u1")
        answers, done = [], threading.Event()

        def visit():
            while not done.is_set():
                answers.append(self.waf.benign())

        visitor = threading.Thread(target=visit)
        visitor.start()
        try:
            for content in ("u3", "u1", "u3", "u1"):
                self.waf.activate(content)
                for _ in range(20):
                    self.assertEqual(self.waf.loaded(), DIGEST[content])
        finally:
            done.set()
            visitor.join()
        self.assertEqual(set(answers), {200})


class Processes(WafTest):
    def test_two_devices_side_by_side_do_not_touch_each_other(self):
        other = self.firewall("neighbour")
        self.waf.activate("u1")
        other.activate("u1")
        master = other.master()
        self.waf.activate("u3")
        self.runs("u3")
        self.runs("u1", other)
        self.assertEqual(self.waf.ctl("stop").returncode, 0)
        self.assertEqual(nginx_of(self.waf.run), [])
        self.runs("u1", other)
        self.assertEqual(other.master(), master)

    def test_a_killed_master_is_replaced_though_its_worker_keeps_the_port(self):
        self.waf.activate("u1")
        os.kill(self.waf.master(), signal.SIGKILL)
        self.assertTrue(until(lambda: len(nginx_of(self.waf.run)) == 1))
        self.assertEqual(self.waf.ctl("status").returncode, 3)
        self.waf.activate("u3")
        self.runs("u3")
        self.assertEqual(len(nginx_of(self.waf.run)), 2)

    def test_a_machine_that_went_dark_comes_back_on_the_slot_it_is_given(self):
        self.waf.activate("u3")
        for pid in nginx_of(self.waf.run):
            os.kill(pid, signal.SIGKILL)
        self.assertTrue(until(lambda: not nginx_of(self.waf.run)))
        self.waf.activate("u1")
        self.runs("u1")

    def test_an_nginx_that_hangs_is_started_afresh(self):
        self.waf.activate("u1")
        master = self.waf.master()
        for pid in nginx_of(self.waf.run):
            os.kill(pid, signal.SIGSTOP)
        self.assertIn("afresh", self.waf.activate("u3", "--wait", "1").stderr)
        self.runs("u3")
        self.assertNotEqual(self.waf.master(), master)

    def test_unparsable_rules_do_not_start_and_leave_nothing_behind(self):
        refused = self.waf.ctl("activate", "broken")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("SecRull", refused.stderr)
        self.assertEqual(nginx_of(self.waf.run), [])
        self.waf.activate("u3")
        self.runs("u3")

    def test_a_taken_port_is_named(self):
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", self.waf.port))
            holder.listen()
            refused = self.waf.ctl("start", "u1", "--wait", "2")
        self.assertEqual(refused.returncode, 1)
        self.assertIn(f"127.0.0.1:{self.waf.port}", refused.stderr)

    def test_a_pid_file_that_names_a_stranger_kills_nobody(self):
        self.waf.activate("u1")
        self.assertEqual(self.waf.ctl("stop").returncode, 0)
        stranger = subprocess.Popen(["sleep", "60"], **AS_NOBODY)
        self.addCleanup(stranger.wait)
        self.addCleanup(stranger.kill)
        (self.waf.run / "nginx.pid").write_text(f"{stranger.pid}\n")
        self.waf.activate("u3")
        self.assertEqual(self.waf.ctl("stop").returncode, 0)
        self.assertIsNone(stranger.poll())

    def test_an_activation_killed_at_any_moment_is_made_good_by_the_next(self):
        self.waf.activate("u1")
        chance = random.Random(4)
        for turn in range(12):
            work = subprocess.Popen(self.waf.command("activate", chance.choice(("u3", "broken"))),
                                    start_new_session=True, stderr=subprocess.DEVNULL, **AS_NOBODY)
            time.sleep(chance.uniform(0, 0.25))
            os.killpg(work.pid, signal.SIGKILL)
            work.wait()
            if turn % 3 == 2:
                os.kill(self.waf.master(), signal.SIGKILL)
            self.waf.activate("u1")
            self.runs("u1")

    def test_two_activations_at_once_end_on_one_of_them(self):
        self.waf.activate("u1")
        work = [subprocess.Popen(self.waf.command("activate", content), **AS_NOBODY)
                for content in ("u1", "u3", "u1", "u3")]
        self.assertEqual([one.wait() for one in work], [0] * 4)
        self.runs("u3" if self.waf.loaded() == DIGEST["u3"] else "u1")
        self.assertEqual(len(nginx_of(self.waf.run)), 2)

    def test_start_does_not_touch_what_runs(self):
        self.waf.activate("u1")
        self.assertEqual(self.waf.ctl("start", "u3").returncode, 1)
        self.runs("u1")

    def test_status_names_what_runs(self):
        self.waf.activate("u3")
        said = self.waf.ctl("status")
        self.assertEqual(said.returncode, 0)
        self.assertEqual(said.stdout, f"pid {self.waf.master()}, port {self.waf.port}, "
                                      f"release {DIGEST['u3']}\n")

    def test_wrong_use_is_named_and_changes_nothing(self):
        ctl = WAF / "waf-ctl"
        slot = WORK / "slots" / "u1"
        for wrong, said in (
                ([], "usage"),
                (["reload"], "unknown verb 'reload'"),
                (["stop"], "--run is missing"),
                (["stop", "--run", "here"], "--run 'here'"),
                (["stop", "--run", "/tmp/a;b"], "/tmp/a;b"),
                (["stop", "--run"], "--run needs a value"),
                (["start", "--run", self.waf.run, "--port", "80"], "--slot is missing"),
                (["start", "--run", self.waf.run, "--slot", slot, "--port", "70000"], "70000"),
                (["start", "--run", self.waf.run, "--slot", slot, "--wait", "0"], "--wait '0'"),
                (["start", "--verbose", "yes"], "unknown option '--verbose'")):
            done = run(ctl, *wrong, **AS_NOBODY)
            self.assertEqual(done.returncode, 2, wrong)
            self.assertIn(said, done.stderr)
        self.assertFalse(self.waf.run.exists())

    def test_a_slot_without_a_digest_is_refused(self):
        slot = WORK / "slots" / "unnamed"
        slot.mkdir()
        (slot / "payload").symlink_to(WORK / "content" / "u1")
        (slot / "digest").write_text("latest\n")
        refused = self.waf.ctl("start", "unnamed")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("'latest'", refused.stderr)

    def owners(self):
        return [pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name
                for pid in nginx_of(self.waf.run)]

    def by_root(self, verb, content=None, **options):
        done = run(*self.waf.command(verb, content), **options)
        self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipUnless(ROOT, "only root can give root away")
    def test_called_by_root_it_becomes_nobody(self):
        for content in ("u1", "u3"):
            self.by_root("activate", content, umask=0o077)
            self.runs(content)
            self.assertEqual(self.owners(), ["nobody", "nobody"])
        self.by_root("stop")
        self.assertEqual(self.owners(), [])

    @unittest.skipUnless(ROOT, "only root can give root away")
    def test_called_by_root_it_becomes_the_owner_of_its_folder(self):
        self.waf.run.mkdir()
        shutil.chown(self.waf.run, "www-data", "www-data")
        self.by_root("activate", "u3")
        self.runs("u3")
        self.assertEqual(self.owners(), ["www-data", "www-data"])

    @unittest.skipUnless(ROOT, "only root has folders that are closed to nobody")
    def test_slots_that_only_root_can_read_are_read_by_a_master_with_an_unprivileged_worker(self):
        closed = WORK / "slots" / "closed"
        closed.mkdir(mode=0o700)
        self.addCleanup(shutil.rmtree, closed)
        for content in ("u1", "u3", "broken"):
            shutil.copytree(WORK / "slots" / content, closed / content)
        for content in ("u1", "u3"):
            self.by_root("activate", f"closed/{content}", umask=0o077)
            self.runs(content)
            self.assertEqual(sorted(self.owners()), ["nobody", "root"])
        self.assertEqual(run(*self.waf.command("activate", "closed/broken")).returncode, 1)
        self.runs("u3")
        os.kill(self.waf.master(), signal.SIGKILL)
        self.by_root("activate", "closed/u1")
        self.runs("u1")
        self.by_root("stop")
        self.assertEqual(self.owners(), [])


class Lab(WafTest):
    def lab(self, step, content, **options):
        scratch = pathlib.Path(tempfile.mkdtemp(dir=WORK / "devices"))
        if ROOT:
            shutil.chown(scratch, "nobody", "nogroup")
        return run(WAF / "waf-lab", step, WORK / "content" / content, scratch, **options), scratch

    def verdicts(self, content):
        seen = []
        for step in ("validate", "load"):
            done, scratch = self.lab(step, content, **AS_NOBODY)
            seen.append(done.returncode == 0)
            self.assertTrue(until(lambda: not nginx_of(scratch / "run")), "it cleans up")
        return seen

    def test_good_rules_pass(self):
        self.assertEqual(self.verdicts("u1"), [True, True])
        self.assertEqual(self.verdicts("u3"), [True, True])

    def test_unparsable_rules_fail_both_steps(self):
        self.assertEqual(self.verdicts("broken"), [False, False])

    def test_an_invalid_expression_is_found_only_by_running_it(self):
        self.assertEqual(self.verdicts("bad-regex"), [True, False])

    def test_what_the_corpus_does_not_hold_passes(self):
        self.assertEqual(self.verdicts("blocks-visitors"), [True, True])

    def test_the_reason_is_said(self):
        done, _ = self.lab("load", "bad-regex", **AS_NOBODY)
        self.assertIn("was answered 200: 403 was expected", done.stderr)

    def test_a_killed_lab_leaves_no_nginx(self):
        scratch = pathlib.Path(tempfile.mkdtemp(dir=WORK / "devices"))
        if ROOT:
            shutil.chown(scratch, "nobody", "nogroup")
        work = subprocess.Popen([WAF / "waf-lab", "load", WORK / "content" / "u3", scratch],
                                start_new_session=True, **AS_NOBODY)
        self.assertTrue(until(lambda: nginx_of(scratch / "run")))
        os.killpg(work.pid, signal.SIGKILL)
        work.wait()
        self.assertTrue(until(lambda: not nginx_of(scratch / "run")))

    @unittest.skipUnless(ROOT, "only root has folders that are closed to nobody")
    def test_root_can_try_rules_in_a_folder_of_its_own(self):
        scratch = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, scratch)
        done = run(WAF / "waf-lab", "load", WORK / "content" / "u3", scratch)
        self.assertEqual(done.returncode, 0, done.stderr)


class Content(unittest.TestCase):
    def test_a_changed_rule_is_noticed(self):
        copy = WORK / "changed"
        shutil.copytree(WAF, copy)
        with open(copy / "crs/common/rules/sql-errors.data", "a") as rules:
            rules.write("# tuned\n")
        done = run(copy / "build-content", WORK / "changed-content")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("sql-errors.data", done.stderr + done.stdout)

    def test_the_bad_contents_differ_from_the_update_by_one_file(self):
        for content in CONTENTS[2:]:
            done = run("diff", "-rq", WORK / "content/u3", WORK / "content" / content)
            self.assertEqual(done.stdout, f"Only in {WORK}/content/{content}/rules: "
                                          "REQUEST-900-OWN-RULES.conf\n")

    def test_the_manifests_differ_only_in_what_names_the_release(self):
        def rest(content):
            return [line for line in (WAF / f"manifest-{content}.yaml").read_text().splitlines()
                    if not line.startswith(("#", "version:", "sequence:", "description:"))]

        for content in CONTENTS:
            self.assertEqual(rest(content), rest("u3"))
        text = "\n".join(rest("u3"))
        for needed in (FIREFOX, INJECTION, "${run_dir}/nginx.pid", "/.maeslant/release"):
            self.assertIn(needed, text)


def setUpModule():
    global WORK, WAF
    WORK = pathlib.Path(tempfile.mkdtemp(prefix="maeslant-waf-", dir="/tmp"))
    WORK.chmod(0o755)
    unittest.addModuleCleanup(shutil.rmtree, WORK)
    WAF = WORK / "waf"
    shutil.copytree(SOURCE, WAF, ignore=shutil.ignore_patterns("__pycache__"))
    run("chmod", "-R", "a+rX", WAF, check=True)
    run(WAF / "build-content", WORK / "content", check=True)
    for content in CONTENTS:
        slot = WORK / "slots" / content
        slot.mkdir(parents=True)
        (slot / "payload").symlink_to(WORK / "content" / content)
        (slot / "digest").write_text(DIGEST[content] + "\n")
    (WORK / "devices").mkdir()
    if ROOT:
        shutil.chown(WORK / "devices", "nobody", "nogroup")


if __name__ == "__main__":
    unittest.main(verbosity=2)
