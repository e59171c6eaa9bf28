"""The demo's parts a to f: what each does, and what must come of it."""
import time

from fleet import Failed, wait_until

H = 4
DEADLINE = 20


class Line:
    """One row of the final table."""

    def __init__(self, part, title):
        self.part, self.title = part, title
        self.exposed = self.harmed = None
        self.to_halt = self.to_reverted = None
        self.result, self.problems = '', []
        self.seconds = 0.0

    def need(self, true, problem):
        if not true:
            self.problems.append(problem)


def settle(plane, name, states, timeout, line, fleet=None):
    """Waits until the rollout's state is one of `states`; returns its view."""
    def look():
        view = plane.rollout(name)
        return view if view['state'] in states else None
    try:
        return wait_until(f'rollout {name} is {" or ".join(states)}', look, timeout, 0.3)
    except Failed as failed:
        line.problems.append(str(failed))
        return plane.rollout(name)


def note(line, view):
    """Copies the figures of a rollout into the table's row."""
    line.exposed = view['permits']
    first, halted, back = (view.get(key) for key in
                           ('first_failure_at', 'halted_at', 'last_reverted_at'))
    if first and halted:
        line.to_halt = max(0.0, (halted - first) / 1000)
    if halted and back:
        line.to_reverted = max(0.0, (back - halted) / 1000)


def need_bounded_harm(line):
    line.need(line.harmed is not None and 1 <= line.harmed <= H,
              f'{line.harmed} devices were harmed; between 1 and {H} had to be')
    line.need(line.exposed is not None and line.exposed <= H,
              f'{line.exposed} devices were exposed; at most {H} may be before there is evidence')


def everybody(line, devices, what, check, timeout=60):
    """Every device must pass `check` in the end: nobody is left behind."""
    left = list(devices)
    end = time.monotonic() + timeout
    while left and time.monotonic() < end:
        left = [device for device in left if not check(device)]
        if left:
            time.sleep(0.3)
    line.need(not left, f'{len(left)} of {len(devices)} {what}: '
                        f'{", ".join(device.name for device in left[:4])}')


def part_a(world):
    line = Line('a', 'the real rule-set update goes to everybody')
    plane, wafs = world.plane, world.wafs
    release = world.release('waf', 'u3')
    plane.publish(world.folder / 'releases/waf-u3', '--lab-dir', world.kinds / 'waf')
    name = world.begin(line, plane, release)
    view = settle(plane, name, ('done', 'halted'), 180, line)
    note(line, view)
    line.harmed = view['failed']
    line.need(view['state'] == 'done', f'the rollout is {view["state"]}, not done')
    line.need(line.harmed == 0, f'{line.harmed} devices failed with a good release')
    line.need(line.exposed == len(wafs), f'{line.exposed} of {len(wafs)} devices got it')
    everybody(line, wafs, 'do not run the new rules', lambda w: w.version() == 'u3' and w.serves())
    everybody(line, wafs, 'have not confirmed', lambda w: w.current(w.product) == release)
    line.result = 'done: every firewall runs the new rules'
    world.good_waf = release
    return line


def part_c(world):
    line = Line('c', 'a rule that blocks benign visitors')
    plane, wafs = world.plane, world.wafs
    release = world.release('waf', 'blocks-visitors')
    plane.publish(world.folder / 'releases/waf-blocks-visitors', '--lab-dir', world.kinds / 'waf')
    name = world.begin(line, plane, release)
    view = settle(plane, name, ('done', 'halted'), 90, line)
    everybody(line, wafs, 'are not back on the rules before',
              lambda w: w.current(w.product) == world.good_waf and w.version() == 'u3'
              and w.serves(), 30)
    view = world.reverted(plane, name, view)
    note(line, view)
    line.harmed = view['failed']
    line.need(view['state'] == 'halted', f'the rollout is {view["state"]}, not halted')
    need_bounded_harm(line)
    line.result = 'halted by probes, everybody back'
    return line


def crash(world, plane, sensors, line, directory, options):
    """Publishes the 21-field content and rolls it out; returns the last view."""
    plane.publish(directory, *options)
    release = world.name_of(directory)
    before = {sensor: sensor.current(sensor.product) for sensor in sensors}
    name = world.begin(line, plane, release)
    return name, release, before


def part_b(world):
    line = Line('b', '21 fields, by a manifest that says 20')
    plane, sensors = world.plane, world.sensors
    directory = world.folder / 'releases/sensor-v3-21-fields'
    world.release('sensor', 'v3-21-fields', 'v3-lying')
    name, _, before = crash(world, plane, sensors, line, directory,
                            ('--skip-lab', 'the validator had passed it before'))
    view = settle(plane, name, ('done', 'halted'), 90, line)
    everybody(line, sensors, 'are not back on the content before',
              lambda s: s.current(s.product) == before[s] and s.running() == before[s], 30)
    view = world.reverted(plane, name, view)
    note(line, view)
    line.harmed = view['failed']
    line.need(view['state'] == 'halted', f'the rollout is {view["state"]}, not halted')
    reasons = [failure.get('why') or '' for failure in view.get('failures', [])]
    line.need(any('signal 11' in reason for reason in reasons),
              f'no sensor is reported as dead of signal 11 (reported: {reasons})')
    need_bounded_harm(line)
    line.result = 'halted, everybody back by itself'
    return line


def part_b_ungated(world):
    line = Line('b\u2032', 'the same with the gate switched off')
    plane, sensors = world.open_plane, world.open_sensors
    directory = world.folder / 'releases/sensor-v3-21-fields-open'
    world.release('sensor', 'v3-21-fields', 'v3-lying', plane, directory)
    name, _, before = crash(world, plane, sensors, line, directory,
                            ('--skip-lab', 'the validator had passed it before'))
    wait_until('every sensor has crashed', lambda: plane.rollout(name)['failed'] == len(sensors),
               90, 0.3)
    view = plane.rollout(name)
    note(line, view)
    line.to_halt = line.to_reverted = None
    line.harmed = view['failed']
    line.need(line.harmed == len(sensors), f'{line.harmed} of {len(sensors)} crashed')
    everybody(line, sensors, 'are not back', lambda s: s.current(s.product) == before[s], 60)
    line.result = f'all {line.harmed} crashed; nothing halted it'
    return line


def part_d(world):
    line = Line('d', 'content after which the machine goes dark')
    plane, sensors = world.plane, world.sensors
    release = world.release('sensor', 'dark')
    plane.publish(world.folder / 'releases/sensor-dark', '--lab-dir', world.sensor_content)
    before = {sensor: sensor.current(sensor.product) for sensor in sensors}
    name = world.begin(line, plane, release)
    dark = {}
    end = time.monotonic() + 120
    view = plane.rollout(name)
    while view['state'] not in ('halted', 'done') and time.monotonic() < end:
        for sensor in sensors:
            if sensor not in dark and sensor.panicked():
                sensor.go_dark()
                dark[sensor] = time.monotonic()
        time.sleep(0.1)
        view = plane.rollout(name)
    line.need(view['state'] == 'halted', f'the rollout is {view["state"]}, not halted')
    for sensor in sensors:
        if sensor not in dark and sensor.panicked():
            sensor.go_dark()
            dark[sensor] = time.monotonic()
    line.need(dark, 'no machine went dark')
    # They come back without a network, and go back to the old content before anybody tells them.
    for sensor in dark:
        world.relay.cut(sensor.name)
        sensor.reboot()
    everybody(line, list(dark), 'did not go back by themselves',
              lambda s: s.current(s.product) == before[s] and s.running() == before[s], 30)
    for sensor in dark:
        world.relay.mend(sensor.name)
    everybody(line, sensors, 'are not well', lambda s: s.alive() and s.running() == before[s]
              and s.state(s.product) in ('idle', 'rejected', 'confirmed'), 60)
    view = plane.rollout(name)
    note(line, view)
    line.to_reverted = None
    line.harmed = view['failed']
    need_bounded_harm(line)
    line.result = f'silence is failure: halted; {len(dark)} came back and reverted alone'
    return line


def part_e(world):
    line = Line('e', 'the same 21 fields, nothing skipped')
    plane, sensors = world.plane, world.sensors
    directory = world.folder / 'releases/sensor-v3-honest'
    release = world.release('sensor', 'v3-21-fields', 'v3-honest', directory=directory)
    refused = plane.publish(directory, '--lab-dir', world.sensor_content, check=False)
    line.need(refused.returncode != 0, 'the lab let it pass')
    line.need('SIGSEGV' in refused.stderr, f'the lab did not name the crash: {refused.stderr}')
    plane.publish(directory, '--skip-lab', 'to show what the contract does',
                  '--acknowledge-halted-payload', 'to show what the contract does')
    name = world.begin(line, plane, release)
    everybody(line, sensors, 'do not say that the contract does not fit',
              lambda s: s.blocked(s.product) == 'contract', 30)
    view = plane.rollout(name)
    note(line, view)
    line.harmed = view['failed']
    line.need(view['permits'] == 0 and view['placebos'] == 0,
              f'{view["permits"]} permits and {view["placebos"]} placebos were given')
    plane.run('rollout', 'halt', name, '--reason', 'the demo has seen enough')
    line.result = 'the lab refuses it; forced, no engine\u2019s contract fits'
    return line


def part_f(world):
    line = Line('f', 'a harmless release while a third drops off')
    plane, sensors = world.plane, world.sensors
    release = world.release('sensor', 'v4')
    plane.publish(world.folder / 'releases/sensor-v4', '--lab-dir', world.sensor_content)
    name = world.begin(line, plane, release)
    dropped, seen, paused = {}, set(), False
    end = time.monotonic() + 240
    view = plane.rollout(name)
    while view['state'] not in ('done', 'halted') and time.monotonic() < end:
        now = time.monotonic()
        for sensor in sensors:
            permit = sensor.journal(sensor.product).get('permit', '-')
            if sensor.state(sensor.product) == 'soaking' and permit not in seen:
                seen.add(permit)
                # Which arm the device has plays no part: a third of the permits' names.
                if int(permit, 16) % 3 == 0:
                    world.relay.cut(sensor.name)
                    dropped[sensor] = now
            elif sensor in dropped and now - dropped[sensor] > DEADLINE + 3:
                world.relay.mend(sensor.name)
                dropped.pop(sensor)
        paused = paused or view['state'] == 'paused'
        time.sleep(0.2)
        view = plane.rollout(name)
    for sensor in sensors:
        world.relay.mend(sensor.name)
    note(line, view)
    line.harmed = 0
    line.need(view['state'] == 'done', f'the rollout is {view["state"]}, not done')
    everybody(line, sensors, 'do not run the new content',
              lambda s: s.current(s.product) == release and s.running() == release, 60)
    silent = view['silent']
    line.need(silent > 0, 'nobody dropped off')
    line.result = (f'{"paused, then " if paused else ""}done; {silent} silent, '
                   f'{view["k_release"]}:{view["k_placebo"]} by the coin')
    return line
