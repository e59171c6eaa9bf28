#include "check-support.h"

#include "agent/prober.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

/* A manifest with nothing but probes, on the heap as manifest_free wants it. */
static struct manifest make_manifest(size_t count)
{
    struct manifest manifest = {.probe_count = count};

    manifest.probes = xcalloc(count, sizeof(*manifest.probes));
    for (size_t i = 0; i < count; i++)
        manifest.probes[i] = (struct check){
            .name = xasprintf("probe-%zu", i), .interval = 0.05, .timeout = 30, .failures = 3};
    return manifest;
}

static void be_exec(struct check *check, const char *script)
{
    check->kind = CHECK_EXEC;
    check->command = xcalloc(4, sizeof(char *));
    check->command[0] = xstrdup("/bin/sh");
    check->command[1] = xstrdup("-c");
    check->command[2] = xstrdup(script);
}

static int new_wake(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        abort();
    return fd;
}

static void await(int wake)
{
    struct pollfd fd = {.fd = wake, .events = POLLIN};
    uint64_t value;

    if (poll(&fd, 1, 10000) != 1)
        fail_msg("nothing happened within 10 s");
    if (read(wake, &value, sizeof(value)) < 0)
        abort();
}

static struct prober *start(struct manifest *manifest, double pace, double longest, int wake)
{
    struct check_vars vars = {0};

    return prober_start(manifest, &vars, pace, longest, 3, clock_ms(CLOCK_REALTIME), wake);
}

static void every_probe_runs_three_times_before_that_is_told(void **state)
{
    struct manifest manifest = make_manifest(2);
    struct prober_view view;
    struct prober *prober;
    int wake = new_wake();

    be_exec(&manifest.probes[0], "true");
    be_exec(&manifest.probes[1], "true");
    manifest.probes[1].interval = 0.3;
    prober = start(&manifest, 0, 0, wake);
    await(wake);
    prober_look(prober, &view);
    assert_false(view.failed);
    assert_true(view.runs >= 3);
    assert_true(view.seconds >= 0.5); /* the slower one sets the pace */
    prober_stop(prober);
    (void)close(wake);
}

static void long_intervals_are_cut_to_fit_into_a_short_soak(void **state)
{
    struct manifest manifest = make_manifest(1);
    struct prober_view view;
    struct prober *prober;
    int wake = new_wake();
    double started = clock_now(CLOCK_MONOTONIC);

    be_exec(&manifest.probes[0], "true");
    manifest.probes[0].interval = 600;
    prober = start(&manifest, 0, 0.2, wake);
    await(wake);
    prober_look(prober, &view);
    assert_int_equal(view.runs, 3);
    assert_within(started, 0.3, 1.5);
    prober_stop(prober);
    (void)close(wake);
}

static void three_failures_in_a_row_fail_and_a_pass_between_starts_anew(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *script = xasprintf(
        "n=$(cat %s/n 2>/dev/null || echo 0); echo $((n+1)) > %s/n; test $n = 2 -o $n = 5", dir,
        dir);
    struct manifest manifest = make_manifest(1);
    struct prober_view view;
    struct prober *prober;
    int wake = new_wake();

    /* F F pass F F pass F F F: the ninth run is the third in a row. */
    be_exec(&manifest.probes[0], script);
    prober = start(&manifest, 0, 0, wake);
    do {
        await(wake);
        prober_look(prober, &view);
    } while (!view.failed);
    assert_int_equal(view.runs, 9);
    assert_string_equal(view.probe, "probe-0");
    assert_int_equal(view.exit_status, 1);
    prober_stop(prober);
    (void)close(wake);
}

static void failures_within_the_grace_do_not_count(void **state)
{
    struct manifest manifest = make_manifest(1);
    struct prober_view view;
    struct prober *prober;
    int wake = new_wake();
    double started = clock_now(CLOCK_MONOTONIC);

    be_exec(&manifest.probes[0], "false");
    manifest.probes[0].grace = 0.6;
    prober = start(&manifest, 0, 0, wake);
    do {
        await(wake);
        prober_look(prober, &view);
    } while (!view.failed);
    assert_within(started, 0.6, 2);
    assert_true(view.runs > 5);
    prober_stop(prober);
    (void)close(wake);
}

static void a_probe_that_hangs_holds_up_no_other_and_ends_with_the_prober(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *script = xasprintf("echo $$ > %s/pid; exec sleep 60", dir);
    _cleanup_free_ char *pid_file = path_join(dir, "pid");
    _cleanup_free_ char *text = NULL;
    struct manifest manifest = make_manifest(2);
    struct prober_view view;
    struct prober *prober;
    int wake = new_wake();
    double started;

    be_exec(&manifest.probes[0], script);
    be_exec(&manifest.probes[1], "echo no room; exit 4");
    prober = start(&manifest, 0, 0, wake);
    await(wake);
    prober_look(prober, &view);
    assert_true(view.failed);
    assert_string_equal(view.probe, "probe-1");
    assert_string_equal(view.tail, "no room\n");
    assert_int_equal(view.runs, 0);
    started = clock_now(CLOCK_MONOTONIC);
    prober_stop(prober);
    assert_within(started, 0, 0.1);
    text = scratch_read(pid_file, NULL);
    for (int i = 0; i < 20 && kill((pid_t)strtol(text, NULL, 10), 0) == 0; i++)
        clock_sleep(0.01);
    assert_int_equal(kill((pid_t)strtol(text, NULL, 10), 0), -1);
    (void)close(wake);
}

static void a_hanging_server_does_not_keep_the_prober(void **state)
{
    struct manifest manifest = make_manifest(1);
    struct site site;
    struct prober *prober;
    int wake = new_wake();
    double started;

    site_start(&site, SITE_SILENT, NULL);
    manifest.probes[0].kind = CHECK_HTTP;
    manifest.probes[0].url = xstrdup(site.url);
    manifest.probes[0].expect_status = 200;
    prober = start(&manifest, 0, 0, wake);
    clock_sleep(0.2);
    started = clock_now(CLOCK_MONOTONIC);
    prober_stop(prober);
    assert_within(started, 0, 0.1);
    clock_sleep(0.2); /* the thread ends by itself */
    site_stop(&site);
    (void)close(wake);
}

static void a_death_of_a_signal_fails_at_once_and_usage_is_taken(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *pid_file = path_join(dir, "pid");
    struct manifest manifest = make_manifest(1);
    struct prober_view view;
    struct prober *prober;
    int wake = new_wake();
    pid_t pid = sleeper_start(pid_file);

    manifest.probes[0].kind = CHECK_PROCESS;
    manifest.probes[0].failures = 1000;
    manifest.probes[0].pid_file = xstrdup(pid_file);
    manifest.probes[0].exit_file = path_join(dir, "exit");
    prober = start(&manifest, 0, 0, wake);
    await(wake);
    prober_look(prober, &view);
    assert_false(view.failed);
    assert_true(view.usage.rss_bytes > 0);
    write_text(dir, "exit", "signal 11\n"); /* as a supervisor that is quicker than the kernel */
    sleeper_kill(pid, SIGSEGV);
    await(wake);
    prober_look(prober, &view);
    assert_true(view.failed);
    assert_int_equal(view.signal, 11);
    prober_stop(prober);
    (void)close(wake);
}

static void the_slow_pace_of_a_watch_replaces_the_intervals(void **state)
{
    struct manifest manifest = make_manifest(1);
    struct prober_view view;
    struct prober *prober;
    int wake = new_wake();

    be_exec(&manifest.probes[0], "true");
    prober = start(&manifest, 60, 0, wake);
    clock_sleep(0.5);
    prober_look(prober, &view);
    assert_int_equal(view.runs, 1);
    prober_stop(prober);
    (void)close(wake);
}

static void passing_once_is_enough_before_a_trial_and_the_failed_probe_is_named(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *once = xasprintf("test -e %s/x || { touch %s/x; exit 1; }", dir, dir);
    struct check_vars vars = {0};
    struct error error = ERROR_INIT;
    struct manifest manifest = make_manifest(2);
    struct bell bell;
    double started;

    be_exec(&manifest.probes[0], once);
    be_exec(&manifest.probes[1], "true");
    if (probes_pass(&manifest, &vars, -1, &error) < 0)
        fail_msg("%s", error.text);
    free(manifest.probes[1].command[2]);
    manifest.probes[1].command[2] = xstrdup("exit 9");
    assert_int_equal(probes_pass(&manifest, &vars, -1, &error), -EIO);
    assert_contains(error.text, "probe probe-1: exit 9");
    free(manifest.probes[1].command[2]);
    manifest.probes[1].command[2] = xstrdup("sleep 30");
    bell_set(&bell, 0.2);
    started = clock_now(CLOCK_MONOTONIC);
    assert_int_equal(probes_pass(&manifest, &vars, bell.fd, &error), -ECANCELED);
    assert_within(started, 0.1, 0.4);
    bell_end(&bell);
    manifest_free(&manifest);
}

static void many_probers_come_and_go(void **state)
{
    int wake = new_wake();

    for (int i = 0; i < 50; i++) {
        struct manifest manifest = make_manifest(3);
        struct prober *prober;

        for (size_t j = 0; j < 3; j++)
            be_exec(&manifest.probes[j], j == 1 ? "sleep 5" : "true");
        prober = start(&manifest, 0, 0, wake);
        if (i % 3 == 0)
            clock_sleep(0.01);
        prober_stop(prober);
    }
    clock_sleep(0.3);
    (void)close(wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_probe_runs_three_times_before_that_is_told),
        cmocka_unit_test(long_intervals_are_cut_to_fit_into_a_short_soak),
        cmocka_unit_test(three_failures_in_a_row_fail_and_a_pass_between_starts_anew),
        cmocka_unit_test(failures_within_the_grace_do_not_count),
        cmocka_unit_test(a_probe_that_hangs_holds_up_no_other_and_ends_with_the_prober),
        cmocka_unit_test(a_hanging_server_does_not_keep_the_prober),
        cmocka_unit_test(a_death_of_a_signal_fails_at_once_and_usage_is_taken),
        cmocka_unit_test(the_slow_pace_of_a_watch_replaces_the_intervals),
        cmocka_unit_test(passing_once_is_enough_before_a_trial_and_the_failed_probe_is_named),
        cmocka_unit_test(many_probers_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
