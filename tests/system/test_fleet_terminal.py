"""The two programs as a person types them: the live view in a terminal, help, wrong use, JSON."""
import json
import os
import pty
import re
import select
import subprocess
import time

from fleet_support import (PRODUCT, World, at_least_three_probes, expect, main, settle, up,
                           wait_until)

ESCAPE = '\x1b'


def screen_of(text, rows=60, columns=120):
    """What a terminal shows after these bytes: cursor up, erase below, colours; nothing else."""
    lines, row, column = [''], 0, 0
    for part in re.split(r'(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)', text):
        if part in ('', '\r'):
            column = 0 if part == '\r' else column
        elif part == '\n':
            row, column = row + 1, 0
            while len(lines) <= row:
                lines.append('')
        elif part.startswith(ESCAPE):
            code, number = part[-1], part[2:-1]
            if code == 'A':
                row, column = row - int(number or 1), 0
                expect(row >= 0, 'the cursor left the top of the screen')
            elif code == 'J':
                lines = lines[:row] + [lines[row][:column]]
            elif code == 'K':
                lines[row] = '' if number == '2' else lines[row][:column]
            else:
                expect(code == 'm', 'an escape code that is not known here:', repr(part))
        else:
            lines[row] = lines[row][:column].ljust(column) + part
            column += len(part)
            expect(len(lines[row]) <= columns, 'wider than the terminal:', lines[row])
    expect(len(lines) <= rows, f'{len(lines)} lines')
    return '\n'.join(lines)


class Terminal:
    """A command in a pseudo-terminal."""

    def __init__(self, world, *arguments):
        self.text = ''
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, 'TERM': 'xterm', 'MAESLANT_DIR': str(world.plane.folder)}
            environment.pop('NO_COLOR', None)
            os.execve(world.plane.maeslant, [world.plane.maeslant, *arguments], environment)
        import fcntl
        import struct
        import termios
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('HHHH', 60, 120, 0, 0))

    def read(self, seconds):
        """Reads for so long, or until it ends; True when it ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not select.select([self.fd], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return True
            if not data:
                return True
            self.text += data.decode()
        return False

    def status(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def watch_in_a_terminal_shows_a_rollout_and_ends_by_itself(programs):
    with World(programs) as world:
        devices = up([world.device() for _ in range(4)])
        rollout = world.rollout(world.release(probes=at_least_three_probes()), soak='4s',
                                placebo='pairs')
        terminal = Terminal(world, 'rollout', 'watch', rollout)
        expect(not terminal.read(2.5), 'it ended before the rollout:', terminal.text)
        shown = screen_of(terminal.text).lower()
        for word in ('stage', 'window', 'pairs', 'in flight', 'settled', 'failed', 'proven harm',
                     'evidence', 'left'):
            expect(word in shown, f'no "{word}" in\n{shown}')
        expect(rollout in shown and 'running' in shown, shown)
        expect(ESCAPE in terminal.text, 'nothing was drawn again')
        expect(terminal.read(60), 'it does not end')
        expect(terminal.status() == 0, 'the status of a rollout that is done')
        shown = screen_of(terminal.text).lower()
        expect('done' in shown and shown.count('proven harm') == 1, 'drawn once:', shown)

        # A halt: it says so, and its status too.
        for device in devices:
            wait_until('at rest', lambda d=device: d.state(PRODUCT) in ('confirmed', 'staged'), 30)
        rollout = world.rollout(world.release(probes=at_least_three_probes()), soak='60s',
                                deadline='100s')
        terminal = Terminal(world, 'rollout', 'watch', rollout)
        settle(devices[0], 'soaking')
        terminal.read(1)
        world.halt(rollout)
        expect(terminal.read(15), 'it does not end')
        expect(terminal.status() == 1, 'the status of a halted rollout')
        expect('halted' in screen_of(terminal.text).lower(), terminal.text)

        # Interrupted with the keyboard it ends at once and leaves the terminal as it was.
        rollout = world.rollout(world.release(probes=at_least_three_probes()), soak='60s',
                                deadline='100s')
        terminal = Terminal(world, 'rollout', 'watch', rollout)
        terminal.read(1)
        os.write(terminal.fd, b'\x03')
        expect(terminal.read(5), 'it does not end')
        expect('\x1b[?25l' not in terminal.text or '\x1b[?25h' in terminal.text, 'a hidden cursor')
        terminal.status()


COMMANDS = (
    ('init',), ('serve',), ('release',), ('release', 'build'), ('release', 'sign'),
    ('release', 'publish'), ('release', 'list'), ('release', 'show'), ('rollout',),
    ('rollout', 'start'), ('rollout', 'status'), ('rollout', 'watch'), ('rollout', 'pause'),
    ('rollout', 'resume'), ('rollout', 'halt'), ('rollout', 'approve'), ('rollout', 'hold'),
    ('rollout', 'explain'), ('rollout', 'list'), ('device',), ('device', 'enroll'),
    ('device', 'list'), ('device', 'show'), ('device', 'retire'), ('log',))
AGENT_COMMANDS = (('run',), ('enroll',), ('status',), ('doctor',), ('snooze',),
                  ('support-bundle',))


def run(program, *arguments, **options):
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30,
                          stdin=subprocess.DEVNULL, check=False, **options)


def every_subcommand_helps_and_refuses_what_it_does_not_know(programs):
    for program, commands in ((programs['maeslant'], COMMANDS),
                              (programs['maeslant-agent'], AGENT_COMMANDS)):
        for command in ((), *commands):
            name = ' '.join((os.path.basename(program), *command))
            for word in ('--help',) if command else ('--help', 'help'):
                result = run(program, *command, word)
                expect(result.returncode == 0, name, word, 'ended with', result.returncode)
                expect('usage: ' in result.stdout and not result.stderr, name, result)
                expect(ESCAPE not in result.stdout, name, 'has escape codes in a pipe')
                expect(max(map(len, result.stdout.splitlines())) <= 110, name, 'has long lines')
            for wrong in (['--no-such-option'], ['--no-such-option', 'operand']):
                result = run(program, *command, *wrong)
                expect(result.returncode == 2, name, wrong, 'ended with', result.returncode)
                expect('--no-such-option' in result.stderr and not result.stdout, name, result)
        result = run(program, 'no-such-command')
        expect(result.returncode == 2 and 'no-such-command' in result.stderr, result)
        result = run(program)
        expect(result.returncode == 2 and 'usage' in result.stderr, result)
        result = run(program, '--version')
        expect(result.returncode == 0 and os.path.basename(program) in result.stdout, result)


def json_parses_everywhere_and_pipes_have_no_escape_codes(programs):
    with World(programs) as world:
        device = up([world.device()])[0]
        plane = world.plane
        release = world.release(probes=at_least_three_probes())
        rollout = world.rollout(release, soak='3s')
        settle(device, 'soaking')
        name = device.status()['device']
        folder = world.folder / 'again'
        source = world.folder / f'release-{world.sequence}'
        manifest = (source / 'manifest.yaml').read_text().replace('"1.1"', '"1.2"')
        (world.folder / 'again.yaml').write_text(manifest.replace('sequence: 2', 'sequence: 7'))
        calls = [
            ('release', 'build', str(world.folder / 'again.yaml'), '--payload',
             str(source / 'content'), '--output', str(folder)),
            ('release', 'sign', str(folder), '--key', plane.release_key),
            ('release', 'publish', str(folder), '--skip-lab', 'a test'),
            ('release', 'list'), ('release', 'show', release),
            ('rollout', 'list'), ('rollout', 'status', rollout), ('rollout', 'explain', rollout),
            ('rollout', 'watch', rollout, '--once'), ('device', 'list'), ('device', 'show', name),
            ('device', 'enroll', '--organisation', 'acme'), ('log',),
            ('rollout', 'pause', rollout, '--reason', 'a test'),
            ('rollout', 'resume', rollout, '--reason', 'a test'),
            ('rollout', 'hold', rollout, '--organisation', 'acme', '--reason', 'a test'),
            ('rollout', 'hold', rollout, '--organisation', 'acme', '--lift', '--reason', 'a test'),
            ('rollout', 'watch', rollout),
            ('device', 'retire', name, '--reason', 'a test'),
        ]
        for call in calls:
            result = plane.run(*call, '--json')
            texts = [result.stdout] if call[0] != 'log' and call[:2] != ('rollout', 'watch') else \
                result.stdout.splitlines()
            expect(texts and texts[0], call, 'printed nothing')
            for text in texts:
                json.loads(text)
        for call in calls[3:12]:
            result = plane.run(*call)
            expect(ESCAPE not in result.stdout + result.stderr, call, 'has escape codes')
            expect(result.stdout.strip(), call, 'prints nothing for people')
        refused = plane.run('rollout', 'status', 'no-such-rollout', '--json', check=False)
        expect(refused.returncode == 1 and 'no-such-rollout' in refused.stderr, refused)
        for command in (('status',), ('doctor',)):
            result = run(device.agent, *command, '--json', '--root', str(device.root),
                         env=device.environment())
            json.loads(result.stdout)
            result = run(device.agent, *command, '--root', str(device.root),
                         env=device.environment())
            expect(ESCAPE not in result.stdout and result.stdout, command, 'has escape codes')
        # Nothing to reach is a status of its own, and the address is named.
        away = run(plane.maeslant, 'rollout', 'list', '--server', 'http://127.0.0.1:1',
                   '--token-file', str(plane.folder / 'admin.token'))
        expect(away.returncode == 3 and '127.0.0.1:1' in away.stderr, away)


TESTS = (watch_in_a_terminal_shows_a_rollout_and_ends_by_itself,
         every_subcommand_helps_and_refuses_what_it_does_not_know,
         json_parses_everywhere_and_pipes_have_no_escape_codes)

if __name__ == '__main__':
    main(TESTS)
