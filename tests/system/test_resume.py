"""A halt stays a halt; `rollout resume --exclude` prepares a release that leaves a slice out."""
import json
import subprocess

from support import World, expect, main


def run(world, *arguments):
    return subprocess.run([world.programs.maeslant, *arguments, '--dir', str(world.plane.folder)],
                          capture_output=True, text=True, timeout=60)


def after_a_halt_a_release_without_the_slice_is_prepared_and_the_halt_stays(programs):
    with World(programs) as world:
        folder, name = world.build()
        world.plane.publish(folder)
        rollout = world.start(name)
        output = world.folder / 'without'
        resume = ['rollout', 'resume', rollout, '--exclude', 'kernel=6.8', '--release',
                  str(folder), '--output', str(output)]
        early = run(world, *resume)
        expect(early.returncode != 0 and 'halted' in early.stderr, early)
        expect(not output.exists())
        halted = run(world, 'rollout', 'halt', rollout, '--reason', 'kernel 6.8 crashes')
        expect(halted.returncode == 0, halted)

        for wrong in ('kernel', 'kernel=', '=6.8', 'kernel="'):
            refused = run(world, *[wrong if each == 'kernel=6.8' else each for each in resume])
            expect(refused.returncode != 0 and 'ATTRIBUTE=VALUE' in refused.stderr, refused)
        prepared = run(world, *resume)
        expect(prepared.returncode == 0, prepared)
        again = run(world, *resume)
        expect(again.returncode != 0 and 'is there already' in again.stderr, again)
        expect(world.admin.rollout(rollout)['state'] == 'halted')

        text = (output / 'manifest.yaml').read_text()
        expect('exclude:\n  - {kernel: "6.8"}\n' in text and 'sequence: 2\n' in text, text)
        expect((output / 'payload.tar.zst').read_bytes() ==
               (folder / 'payload.tar.zst').read_bytes())
        key = next(world.plane.folder.rglob('release.key'))
        signed = subprocess.run([programs.maeslant, 'release', 'sign', str(output), '--key',
                                 str(key)], capture_output=True, text=True, timeout=60)
        expect(signed.returncode == 0, signed)
        # The payload was halted, so it needs a reason.
        expect(run(world, 'release', 'publish', str(output)).returncode != 0)
        published = run(world, 'release', 'publish', str(output), '--acknowledge-halted-payload',
                        'without kernel 6.8', '--json')
        expect(published.returncode == 0, published)
        expect(json.loads(published.stdout)['release'] == prepared.stdout.strip(),
               published, prepared)


if __name__ == '__main__':
    main([after_a_halt_a_release_without_the_slice_is_prepared_and_the_halt_stays])
