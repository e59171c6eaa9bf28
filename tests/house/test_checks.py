"""check-layers and check-pointers find what they are for. argv[1]: the sources."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv.pop(1))


class Checks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.write('meson.build', "subdir('src/base')\nsubdir('src/gate')\nsubdir('src/store')\n"
                                  "subdir('src/server')\nsubdir('src/agent')\n")
        self.write('docs/architecture.md',
                   '| `src/base` |\n| `src/gate` |\n| `src/store` |\n| `src/server` |\n'
                   '| `src/agent` |\n')
        for folder in ('base', 'gate', 'store', 'server', 'agent'):
            self.write(f'src/{folder}/{folder}.h', '#pragma once\n')

    def write(self, path, text):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run_check(self, name):
        return subprocess.run([SOURCE / 'script' / name, '--root', self.root],
                              capture_output=True, text=True)

    def refused(self, name, *words):
        done = self.run_check(name)
        self.assertEqual(done.returncode, 1, done.stdout)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_includes_upwards_pass(self):
        self.write('src/server/a.c', '#include "base/base.h"\n#include "store/store.h"\n'
                                     '#include "server/server.h"\n#include <pthread.h>\n')
        done = self.run_check('check-layers')
        self.assertEqual((done.returncode, done.stderr), (0, ''))

    def test_an_include_downwards_is_named(self):
        self.write('src/base/a.c', '\n#include "store/store.h"\n')
        self.refused('check-layers', 'src/base/a.c:2', 'store/store.h', 'stands below')

    def test_the_agent_must_not_know_the_server_although_it_stands_below(self):
        self.write('src/agent/a.c', '#include "server/server.h"\n')
        self.refused('check-layers', 'src/agent/a.c:1', 'must not know src/server')

    def test_a_pure_folder_has_no_clock(self):
        self.write('src/gate/a.c', '#include <time.h>\n')
        self.refused('check-layers', 'src/gate/a.c:1', 'pure')

    def test_a_relative_include_is_refused(self):
        self.write('src/store/a.c', '#include "store.h"\n')
        self.refused('check-layers', 'src/store/a.c:1', 'written from src')

    def test_a_folder_outside_the_order_is_refused(self):
        self.write('src/extra/a.c', '')
        self.refused('check-layers', 'src/extra', 'not in the order')

    def test_the_documents_order_is_mesons(self):
        self.write('docs/architecture.md', '| `src/gate` |\n| `src/base` |\n')
        self.refused('check-layers', 'docs/architecture.md', 'another order')

    def test_pointers_that_lead_somewhere_pass(self):
        self.write('src/base/a.c', 'static int one(void)\n{\n    return 1;\n}\n\n'
                                   'struct thing *\ntwo(int a,\n    int b)\n{\n}\n')
        self.write('docs/a.md', '`src/base/a.c:one` `src/base/a.c:two` [b](architecture.md)\n')
        done = self.run_check('check-pointers')
        self.assertEqual((done.returncode, done.stderr), (0, ''))

    def test_a_pointer_to_nowhere_is_named(self):
        self.write('src/base/a.c', 'int one(void);\n')
        self.write('docs/a.md', '`src/base/a.c:one`\n`src/base/b.c:one`\n[b](nowhere.md)\n')
        self.refused('check-pointers', 'docs/a.md:1: src/base/a.c defines no one',
                     'docs/a.md:2: there is no src/base/b.c', 'docs/a.md:3: the link leads to')


unittest.main()
