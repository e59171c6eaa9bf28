"""The manual pages are well-formed and say what the programs say.

argv: maeslant, maeslant-agent, the source tree.
"""
import pathlib
import re
import subprocess
import sys
import unittest

MAESLANT, AGENT, SOURCE = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
del sys.argv[1:]
PAGES = SOURCE / 'docs/man'
OPTION = re.compile(r'(?<![\w-])--[a-z][a-z-]+')


def rendered(page):
    done = subprocess.run(['mandoc', '-Tutf8', '-O', 'width=200', PAGES / page],
                          capture_output=True, text=True, check=True)
    return re.sub('.\b', '', done.stdout)


def help_of(*command):
    done = subprocess.run([*command, '--help'], capture_output=True, text=True)
    assert done.returncode == 0, f'{command}: --help ends with {done.returncode}'
    return done.stdout


def helps(program):
    """{subcommand words: help text}, found by walking through the tables that --help prints."""
    found, left = {}, [()]
    while left:
        words = left.pop()
        text = help_of(program, *words)
        found[words] = text
        if re.match(r'usage: [\w -]+ SUBCOMMAND', text):
            left += [(*words, name) for name in re.findall(r'^  ([a-z-]+)  ', text, re.M)]
    return found


def keys_in(path, pattern):
    """Every name that a `known[]` table of a parser lists, or that `pattern` finds."""
    return {key for table in re.findall(pattern, path.read_text(), re.S)
            for key in re.findall(r'"([a-z_]+)"', table)}


class Manual(unittest.TestCase):
    def test_every_page_is_well_formed(self):
        for page in sorted(PAGES.glob('*.[1-8]')):
            with self.subTest(page=page.name):
                done = subprocess.run(['mandoc', '-Tlint', '-Wwarning', page],
                                      capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stdout), (0, ''))

    def test_pages_refer_to_pages_that_are_there(self):
        names = {page.name for page in PAGES.glob('*.[1-8]')}
        for page in sorted(names):
            for name, section in re.findall(r'(maeslant[\w.-]*)\(([1-8])\)', rendered(page)):
                self.assertIn(f'{name}.{section}', names, f'{page} refers to it')
        self.assertEqual(names, set(re.findall(r"'([\w.-]+)'", (PAGES / 'meson.build').read_text())))

    def test_every_subcommand_and_option_of_maeslant_is_in_its_page(self):
        page = rendered('maeslant.1')
        spoken = helps(MAESLANT)
        self.assertGreater(len(spoken), 20)
        for words, text in spoken.items():
            with self.subTest(command=' '.join(words)):
                if words:
                    self.assertRegex(page, rf'(?m)^ +{" ".join(words)}\b')
                for option in sorted(set(OPTION.findall(text))):
                    self.assertRegex(page, rf'(?m)^ +.*{option}\b')
                for name in re.findall(r'\$(MAESLANT_\w+)', text):
                    self.assertIn(name, page)

    def test_the_page_promises_no_option_that_is_not_there(self):
        said = {option for text in helps(MAESLANT).values() for option in OPTION.findall(text)}
        self.assertEqual(set(OPTION.findall(rendered('maeslant.1'))) - said,
                         {'--version', '--help'} - said)

    def test_every_option_of_the_agent_is_in_its_page(self):
        page = rendered('maeslant-agent.8')
        commands = re.findall(r'^  ([a-z-]+)  ', help_of(AGENT), re.M)
        self.assertIn('snooze', commands)
        for command in commands:
            self.assertIn(command, page)
            if command != 'version':
                for option in set(OPTION.findall(help_of(AGENT, command))) - {'--help'}:
                    self.assertIn(option, page, command)

    def test_every_key_is_in_its_page(self):
        known = r'known\[\] = \{(.*?)NULL\}'
        for source, pattern, page in (
                ('src/rollout/policy.c', known, 'maeslant-policy.5'),
                ('src/server/serve-config.c', known, 'maeslant-server.yaml.5'),
                ('src/agent/config.c', known, 'maeslant-agent.yaml.5'),
                ('src/agent/journal.c', r'next_\w+\((reader, "\w+")', 'maeslant-journal.5')):
            text = (PAGES / page).read_text()
            keys = keys_in(SOURCE / source, pattern)
            self.assertGreater(len(keys), 4, source)
            for key in sorted(keys):
                self.assertRegex(text, rf'(?m)^\.(It|B|BR|Ic)\b.*(?<!\w){key}\b',
                                 f'{page} is silent on {key} of {source}')

    def test_every_problem_of_the_server_is_in_the_protocol(self):
        protocol = (SOURCE / 'docs/protocol.md').read_text()
        pattern = r'(?:answer_refuse|http_problem)\(\s*\w+,\s*\d+,\s*"([a-z-]+)"'
        codes = {code for folder in ('http', 'server')
                 for path in (SOURCE / 'src' / folder).glob('*.c')
                 for code in re.findall(pattern, path.read_text())}
        self.assertGreater(len(codes), 40)
        self.assertEqual({code for code in codes if f'`{code}`' not in protocol}, set())


unittest.main()
