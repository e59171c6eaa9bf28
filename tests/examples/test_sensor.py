"""The sensor as its users meet it: the program, its run folder, its socket.

Usage: test_sensor.py SENSOR BUILD_CONTENT"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

SENSOR, BUILD_CONTENT = sys.argv[1:3]
MARKER = b"MAESLANT-SENSOR-HARMLESS-TEST-MARKER\n"


def until(condition, what, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what}: not within {seconds} s")


class Sensor(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.top = pathlib.Path(tempfile.mkdtemp(prefix="sensor-test-"))
        cls.content = cls.top / "content"
        subprocess.run([BUILD_CONTENT, cls.content, SENSOR], check=True)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.top)

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=self.top))
        self.run_dir, self.watch = self.dir / "run", self.dir / "watch"
        self.watch.mkdir()
        self.addCleanup(self.sensor, "stop", "--run", self.run_dir)

    def sensor(self, *words, expect=0):
        done = subprocess.run([SENSOR, *words], capture_output=True, text=True, timeout=30)
        if expect is not None:
            self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done

    def activate(self, name, *more, expect=0):
        return self.sensor("activate", "--slot", self.slot(name), "--watch", self.watch, "--run",
                           self.run_dir, *more, expect=expect)

    def query(self, *words, expect=0):
        return self.sensor("query", "--run", self.run_dir, *words, expect=expect)

    def slot(self, name):
        return name if isinstance(name, pathlib.Path) else self.content / name

    def digest(self, name):
        return (self.slot(name) / "digest").read_text().strip()

    def pid(self):
        return int((self.run_dir / "sensor.pid").read_text())

    def status(self):
        return json.loads(self.query("status").stdout)

    def end(self):
        return until(lambda: self.text("sensor.exit"), "the worker's end")

    def text(self, name):
        path = self.run_dir / name
        return path.read_text() if path.exists() else None

    def copy(self, name):
        """A slot of its own, to spoil."""
        to = self.dir / f"slot-{name}"
        shutil.copytree(self.slot(name), to)
        (to / "digest").write_text("ab" * 32 + "\n")
        return to

    def spoil_table(self, last):
        slot = self.copy("v1")
        self.sensor("make-table", "--fields", "21", "--last", last, "-o",
                    slot / "payload/templates.bin")
        return slot

    # The defect

    def test_21_fields_kill_a_running_sensor_with_signal_11_and_the_exit_file_says_so(self):
        self.activate("v1")
        self.activate("v3-21-fields")
        self.assertEqual(self.end(), "signal 11\n")

    def test_21_fields_kill_a_sensor_that_starts_with_them(self):
        self.activate("v3-21-fields")
        self.assertEqual(self.end(), "signal 11\n")

    def test_a_wildcard_in_the_21st_field_harms_nobody(self):
        slot = self.spoil_table("wildcard")
        self.activate(slot)
        until(lambda: self.status()["cycles"] > 3, "cycles")
        self.assertIsNone(self.text("sensor.exit"))
        self.assertEqual(self.query("digest").stdout.strip(), "ab" * 32)

    def test_engine_2_refuses_21_fields_and_keeps_the_old_content(self):
        self.activate("v1", "--engine", "2")
        done = self.activate("v3-21-fields", "--engine", "2", expect=1)
        self.assertIn("declares 21 fields; engine 2 supplies 20", done.stderr)
        time.sleep(0.5)
        self.assertEqual(self.query("digest").stdout.strip(), self.digest("v1"))

    def test_the_way_back_after_the_crash_starts_the_sensor_with_the_old_content(self):
        self.activate("v1")
        self.activate("v3-21-fields")
        self.end()
        self.activate("v1")
        self.assertEqual(self.query("digest").stdout.strip(), self.digest("v1"))
        self.assertIsNone(self.text("sensor.exit"))

    def test_the_way_back_at_once_does_not_wait_for_the_crash(self):
        for _ in range(5):
            self.activate("v3-21-fields")
            self.activate("v1")
            time.sleep(0.3)
            self.assertIsNone(self.text("sensor.exit"))
            self.assertEqual(self.query("digest").stdout.strip(), self.digest("v1"))

    # The lab's two commands

    def test_the_validator_has_the_bug_that_it_had_and_accepts_21_fields(self):
        for name in ("v1", "v2", "v3-21-fields", "v4", "dark"):
            self.sensor("validate", self.content / name / "payload")

    def test_the_validator_refuses_rules_that_do_not_compile(self):
        slot = self.copy("v1")
        (slot / "payload/rules/90-broken.yar").write_text("rule broken { condition: nonsense }")
        done = self.sensor("validate", slot / "payload", expect=1)
        self.assertIn("90-broken.yar: line 1", done.stderr)

    def load(self, payload, expect):
        scratch = pathlib.Path(tempfile.mkdtemp(dir=self.dir))
        return self.sensor("load", "--corpus", self.content / "corpus", payload, scratch,
                           expect=expect)

    def test_load_passes_what_is_harmless_and_dies_of_signal_11_on_21_fields(self):
        for name in ("v1", "v2", "v4", "dark"):
            self.load(self.content / name / "payload", 0)
        self.load(self.content / "v3-21-fields/payload", -signal.SIGSEGV)

    def test_load_refuses_rules_that_flag_a_benign_file(self):
        slot = self.copy("v1")
        (slot / "payload/rules/90-all.yar").write_text("rule all_of_it { condition: true }")
        done = self.load(slot / "payload", 1)
        self.assertIn("is benign, but was detected by rule all_of_it", done.stderr)

    def test_load_refuses_rules_that_see_nothing(self):
        slot = self.copy("v1")
        (slot / "payload/rules/10-marker.yar").write_text("rule never { condition: false }")
        self.assertIn("blind", self.load(slot / "payload", 1).stderr)

    # Content

    def test_reload_with_broken_rules_keeps_the_old_content_and_says_so(self):
        self.activate("v1")
        slot = self.copy("v2")
        (slot / "payload/rules/90-broken.yar").write_text("rule broken { condition: nonsense }")
        done = self.activate(slot, expect=1)
        self.assertIn("nonsense", done.stderr)
        self.assertIn(f"the old content {self.digest('v1')} stays", done.stderr)
        self.assertEqual(self.query("digest").stdout.strip(), self.digest("v1"))

    def test_a_table_that_is_cut_off_padded_or_huge_is_refused_and_the_old_one_stays(self):
        self.activate("v1")
        for spoil in (lambda b: b[:-1], lambda b: b + b"x", lambda b: b + bytes(2 << 20),
                      lambda b: b"", lambda b: b"other" + b[5:]):
            slot = self.copy("v2")
            table = slot / "payload/templates.bin"
            table.write_bytes(spoil(table.read_bytes()))
            self.assertIn("templates.bin", self.activate(slot, expect=1).stderr)
            self.assertEqual(self.query("digest").stdout.strip(), self.digest("v1"))
            shutil.rmtree(slot)

    def test_the_digest_is_what_the_process_has_loaded_and_not_what_the_folder_says_later(self):
        slot = self.copy("v1")
        self.activate(slot)
        (slot / "digest").write_text("cd" * 32 + "\n")
        self.assertEqual(self.query("digest").stdout.strip(), "ab" * 32)
        self.activate(slot)
        self.assertEqual(self.query("digest").stdout.strip(), "cd" * 32)

    def test_a_reload_changes_the_content_and_not_the_process(self):
        self.activate("v1")
        before = self.status()
        self.activate("v2")
        after = self.status()
        self.assertEqual(before["pid"], after["pid"])
        self.assertEqual((before["rules"], after["rules"]), (2, 3))
        self.assertEqual(after["digest"], self.digest("v2"))

    def test_no_content_is_a_clear_error(self):
        empty = self.dir / "empty"
        empty.mkdir()
        self.assertIn(f"no content in {empty}", self.activate(empty, expect=1).stderr)
        done = self.sensor("run", "--content", empty, "--watch", self.watch, "--run", self.run_dir,
                           expect=1)
        self.assertIn(f"no content in {empty}", done.stderr)
        self.assertEqual(self.text("sensor.exit"), "exit 1\n")
        (empty / "digest").write_text("not a digest\n")
        self.assertIn('holds "not a digest"', self.activate(empty, expect=1).stderr)
        (empty / "digest").write_text("ab" * 32 + "\n")
        self.assertIn("payload/rules", self.activate(empty, expect=1).stderr)

    # What it is for

    def test_new_and_changed_files_are_scanned_and_others_are_left_alone(self):
        self.activate("v1")
        (self.watch / "a.txt").write_bytes(MARKER)
        until(lambda: self.status()["detections"] == 1, "the detection")
        scans = self.status()["scans"]
        time.sleep(0.5)
        self.assertEqual(self.status()["scans"], scans)
        (self.watch / "a.txt").write_bytes(b"again " + MARKER)
        until(lambda: self.status()["detections"] == 2, "the second detection")
        log = (self.run_dir / "detections.log").read_text()
        self.assertEqual(log.count("rule harmless_test_marker"), 2)

    def test_new_content_looks_at_old_files_again(self):
        (self.watch / "key.txt").write_text("-----BEGIN PRIVATE KEY-----\n")
        self.activate("v1")
        until(lambda: self.status()["scans"] == 1, "the scan")
        self.activate("v4")
        until(lambda: "private_key_in_the_open" in (self.text("detections.log") or ""),
              "the detection")

    def test_a_template_detects_too(self):
        self.activate("v1")
        (self.watch / "x.pipe").write_text("harmless\n")
        until(lambda: "template 291" in (self.text("detections.log") or ""), "the detection")

    def test_scan_tells_detected_from_clean_by_its_exit_status(self):
        self.activate("v1")
        marker, letter = self.content / "corpus/marker.txt", self.content / "corpus/letter.txt"
        self.assertEqual(self.query("scan", marker, expect=3).stdout,
                         "detected rule harmless_test_marker\n")
        self.assertEqual(self.query("scan", letter).stdout, "clean\n")
        self.assertIn("No such file", self.query("scan", "/nowhere", expect=1).stderr)
        self.assertIn("not a regular file", self.query("scan", self.watch, expect=1).stderr)

    def test_the_log_of_detections_is_bounded(self):
        self.activate("v1")
        (self.run_dir / "detections.log").write_bytes(b"x" * (256 * 1024 - 10))
        (self.watch / "a.txt").write_bytes(MARKER)
        until(lambda: (self.run_dir / "detections.log.1").exists(), "the old log")
        until(lambda: "harmless_test_marker" in (self.text("detections.log") or ""), "the line")
        self.assertLess((self.run_dir / "detections.log").stat().st_size, 1024)

    def test_provides_says_what_a_contract_is_checked_against(self):
        self.assertEqual(json.loads(self.sensor("provides").stdout),
                         {"sensor-fields": "20", "engine": "1"})

    # Processes

    def test_stop_ends_it_orderly(self):
        self.activate("v1")
        pid = self.pid()
        self.sensor("stop", "--run", self.run_dir)
        self.assertEqual(self.text("sensor.exit"), "exit 0\n")
        self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())
        self.sensor("stop", "--run", self.run_dir)

    def test_stop_over_the_socket_ends_it_too(self):
        self.activate("v1")
        self.assertEqual(self.ask(b"stop\n"), b"ok\n")
        self.assertEqual(self.end(), "exit 0\n")

    def test_run_stays_in_front_and_ends_with_its_worker(self):
        run = subprocess.Popen([SENSOR, "run", "--content", self.slot("v1"), "--watch", self.watch,
                                "--run", self.run_dir], stderr=subprocess.DEVNULL)
        until(lambda: self.query("digest", expect=None).returncode == 0, "the sensor")
        os.kill(self.pid(), signal.SIGKILL)
        self.assertEqual(run.wait(timeout=10), 128 + signal.SIGKILL)
        self.assertEqual(self.text("sensor.exit"), "signal 9\n")

    def test_the_worker_does_not_outlive_its_supervisor(self):
        run = subprocess.Popen([SENSOR, "run", "--content", self.slot("v1"), "--watch", self.watch,
                                "--run", self.run_dir], stderr=subprocess.DEVNULL)
        until(lambda: self.query("digest", expect=None).returncode == 0, "the sensor")
        pid = self.pid()
        run.kill()
        run.wait()
        until(lambda: not self.runs(pid), "the worker's end")

    def runs(self, pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def test_a_second_one_in_the_same_folder_is_refused(self):
        self.activate("v1")
        done = self.sensor("run", "--content", self.slot("v2"), "--watch", self.watch, "--run",
                           self.run_dir, expect=1)
        self.assertIn("already runs", done.stderr)
        self.assertEqual(self.query("digest").stdout.strip(), self.digest("v1"))
        self.assertIsNone(self.text("sensor.exit"))

    def test_a_stale_socket_is_told_from_a_running_sensor_and_replaced(self):
        self.run_dir.mkdir()
        self.assertIn("no socket", self.query("digest", expect=1).stderr)
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(self.run_dir / "sensor.sock"))
        stale.close()
        self.assertIn("stale", self.query("digest", expect=1).stderr)
        self.activate("v1")
        self.assertEqual(self.query("digest").stdout.strip(), self.digest("v1"))

    def test_a_sensor_that_hangs_is_replaced_within_the_adapters_time(self):
        self.activate("v1")
        hung = self.pid()
        os.kill(hung, signal.SIGSTOP)
        start = time.monotonic()
        self.activate("v2")
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(self.query("digest").stdout.strip(), self.digest("v2"))
        self.assertFalse(self.runs(hung))
        self.assertIsNone(self.text("sensor.exit"))

    def test_dark_content_leaves_a_panic_and_answers_nothing_until_it_is_killed(self):
        self.activate("v1")
        self.activate("dark")
        until(lambda: self.text("panic"), "the panic")
        self.assertIn("does not answer", self.query("digest", expect=1).stderr)
        os.kill(self.pid(), signal.SIGKILL)
        self.assertEqual(self.end(), "signal 9\n")
        self.activate("v1")
        self.assertIsNone(self.text("panic"))
        self.assertEqual(self.query("digest").stdout.strip(), self.digest("v1"))

    def test_a_run_folder_deeper_than_a_socket_address_works(self):
        self.run_dir = self.dir / ("deep" * 20) / ("deeper" * 20)
        self.addCleanup(self.sensor, "stop", "--run", self.run_dir)
        self.activate("v1")
        self.assertEqual(self.query("digest").stdout.strip(), self.digest("v1"))

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(str(self.run_dir / "sensor.sock"))
            link.sendall(request)
            answer = b""
            while part := link.recv(65536):
                answer += part
            return answer

    def test_bad_requests_are_refused_and_silent_clients_do_not_hold_it_up(self):
        self.activate("v1")
        silent = [socket.socket(socket.AF_UNIX) for _ in range(8)]
        for link in silent:
            link.connect(str(self.run_dir / "sensor.sock"))
        self.assertTrue(self.ask(b"shutdown\n").startswith(b"error unknown request"))
        self.assertTrue(self.ask(b"reload relative\n").startswith(b"error unknown request"))
        self.assertTrue(self.ask(b"x" * 5000).startswith(b"error the request has more than"))
        before = self.status()["cycles"]
        until(lambda: self.status()["cycles"] > before + 1, "cycles")
        for link in silent:
            link.close()

    def test_a_command_line_that_makes_no_sense_is_refused_with_what_would(self):
        self.assertIn("usage:", self.sensor(expect=2).stderr)
        self.assertIn("--slot is no option here", self.sensor("stop", "--slot", "x",
                                                              expect=1).stderr)
        self.assertIn("--run needs a value", self.sensor("stop", "--run", expect=1).stderr)
        self.assertIn("--engine", self.sensor("provides", "--engine", "3", expect=1).stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
