#include "check-support.h"

#include <errno.h>
#include <signal.h>

static char *argv_of(char **argv, const char *script)
{
    argv[0] = (char *)(uintptr_t) "/bin/sh";
    argv[1] = (char *)(uintptr_t) "-c";
    argv[2] = (char *)(uintptr_t)script;
    argv[3] = (char *)(uintptr_t) "sh";
    argv[4] = (char *)(uintptr_t) "${slot}";
    argv[5] = NULL;
    return argv[0];
}

static int activate(const char *script, double timeout, int cancel_fd, struct check_result *ret,
                    struct error *error)
{
    const struct pair_text pairs[] = {
        {(char *)(uintptr_t) "slot", (char *)(uintptr_t) "/slots/a b"}};
    struct check_vars vars = {(struct pair_text *)(uintptr_t)pairs, 1, NULL};
    char *argv[6];
    struct manifest manifest = {.activate = argv, .adapter_timeout = timeout};

    (void)argv_of(argv, script);
    return adapter_activate(&manifest, &vars, cancel_fd, ret, error);
}

static void an_adapter_gets_its_arguments_whole_and_succeeds(void **state)
{
    struct error error = ERROR_INIT;
    struct check_result result;

    if (activate("test \"$1\" = '/slots/a b' && echo done", 5, -1, &result, &error) < 0)
        fail_msg("%s", error.text);
    assert_true(result.passed);
    assert_string_equal(result.tail, "done\n");
}

static void a_failed_adapter_tells_how_and_what_it_said(void **state)
{
    struct error error = ERROR_INIT;
    struct check_result result;

    assert_int_equal(activate("echo line 3: unknown directive >&2; exit 2", 5, -1, &result, &error),
                     -EIO);
    assert_int_equal(result.exit_status, 2);
    assert_contains(error.text, "activate: exit 2: expected exit 0; it said: line 3: unknown");
    assert_contains(result.tail, "unknown directive");
    assert_int_equal(activate("kill -ABRT $$", 5, -1, &result, &error), -EIO);
    assert_int_equal(result.signal, SIGABRT);
    assert_contains(error.text, "SIGABRT");
}

static void an_adapter_that_hangs_ends_at_its_timeout(void **state)
{
    struct error error = ERROR_INIT;
    struct check_result result;
    double started = clock_now(CLOCK_MONOTONIC);

    assert_int_equal(activate("echo begun; sleep 60", 0.3, -1, &result, &error), -EIO);
    assert_within(started, 0.3, 0.7);
    assert_contains(error.text, "no answer within");
    assert_string_equal(result.tail, "begun\n");
}

static void a_halt_cancels_an_adapter_at_once(void **state)
{
    struct error error = ERROR_INIT;
    struct check_result result;
    struct bell bell;
    double started;

    bell_set(&bell, 0.2);
    started = clock_now(CLOCK_MONOTONIC);
    assert_int_equal(activate("sleep 60", 60, bell.fd, &result, &error), -ECANCELED);
    assert_within(started, 0.15, 0.4);
    bell_end(&bell);
}

static void without_deactivate_a_release_cannot_be_taken_away(void **state)
{
    struct manifest manifest = {.adapter_timeout = 1};
    struct check_vars vars = {0};
    struct error error = ERROR_INIT;

    assert_int_equal(adapter_deactivate(&manifest, &vars, &error), -ENOTSUP);
    assert_contains(error.text, "deactivate");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adapter_gets_its_arguments_whole_and_succeeds),
        cmocka_unit_test(a_failed_adapter_tells_how_and_what_it_said),
        cmocka_unit_test(an_adapter_that_hangs_ends_at_its_timeout),
        cmocka_unit_test(a_halt_cancels_an_adapter_at_once),
        cmocka_unit_test(without_deactivate_a_release_cannot_be_taken_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
