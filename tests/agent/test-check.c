#include "check-support.h"

#include <errno.h>
#include <signal.h>

static char sh[] = "/bin/sh", dash_c[] = "-c";

static struct check exec_of(char **argv, const char *script, double timeout)
{
    argv[0] = sh;
    argv[1] = dash_c;
    argv[2] = (char *)(uintptr_t)script;
    argv[3] = NULL;
    return (struct check){.name = (char *)(uintptr_t) "e",
                          .kind = CHECK_EXEC,
                          .timeout = timeout,
                          .failures = 3,
                          .command = argv};
}

static void a_command_passes_with_the_expected_exit_and_fails_with_another(void **state)
{
    char *argv[4];
    struct check check = exec_of(argv, "exit 3", 5);
    struct check_result result = run_check(&check, NULL, 0, NULL, -1);

    assert_false(result.passed);
    assert_int_equal(result.exit_status, 3);
    assert_contains(result.text, "exit 3: expected exit 0");
    check.expect_exit = 3;
    result = run_check(&check, NULL, 0, NULL, -1);
    assert_true(result.passed);
    assert_false(result.fatal);
}

static void a_command_that_dies_of_a_signal_fails_but_is_not_the_product(void **state)
{
    char *argv[4];
    struct check check = exec_of(argv, "kill -SEGV $$", 5);
    struct check_result result = run_check(&check, NULL, 0, NULL, -1);

    assert_false(result.passed);
    assert_false(result.fatal);
    assert_int_equal(result.signal, SIGSEGV);
    assert_int_equal(result.exit_status, -1);
    assert_contains(result.text, "SIGSEGV");
}

static void a_command_that_hangs_ends_at_its_timeout_with_all_its_children(void **state)
{
    char *argv[4];
    struct check check = exec_of(argv, "sleep 30 & sleep 30", 0.3);
    double started = clock_now(CLOCK_MONOTONIC);
    struct check_result result = run_check(&check, NULL, 0, NULL, -1);

    assert_within(started, 0.3, 0.8);
    assert_false(result.passed);
    assert_int_equal(result.signal, 0);
    assert_int_equal(result.exit_status, -1);
    assert_contains(result.text, "no answer within");
}

static void a_cancelled_command_ends_at_once(void **state)
{
    char *argv[4];
    struct check check = exec_of(argv, "trap '' TERM; sleep 30", 20);
    struct bell bell;
    double started;
    struct check_result result;

    bell_set(&bell, 0.2);
    started = clock_now(CLOCK_MONOTONIC);
    result = run_check(&check, NULL, 0, NULL, bell.fd);
    assert_within(started, 0.15, 0.4);
    assert_false(result.passed);
    bell_end(&bell);
}

static void variables_are_filled_in_and_unknown_ones_are_named(void **state)
{
    const struct pair_text pairs[] = {{(char *)(uintptr_t) "digest", (char *)(uintptr_t) "abc"}};
    char *argv[4];
    struct check check = exec_of(argv, "test ${digest} = abc", 5);
    struct check_result result = run_check(&check, pairs, 1, NULL, -1);

    assert_true(result.passed);
    check = exec_of(argv, "test ${slot} = abc", 5);
    result = run_check(&check, pairs, 1, NULL, -1);
    assert_false(result.passed);
    assert_contains(result.text, "slot");
}

static void the_last_line_of_a_failed_command_is_told_and_its_tail_is_kept(void **state)
{
    char *argv[4];
    struct check check = exec_of(argv, "echo first; echo cannot bind: in use; echo; exit 1", 5);
    struct check_result result = run_check(&check, NULL, 0, NULL, -1);

    assert_contains(result.text, "it said: cannot bind: in use");
    assert_string_equal(result.tail, "first\ncannot bind: in use\n\n");
}

static void of_endless_output_the_last_eight_kibibytes_are_kept(void **state)
{
    char *argv[4];
    struct check check =
        exec_of(argv, "yes 0123456789abcde | head -c 1000000; printf END; exit 1", 10);
    struct check_result result = run_check(&check, NULL, 0, NULL, -1);
    size_t len = strlen(result.tail);

    assert_int_equal(result.exit_status, 1);
    assert_int_equal(len, CHECK_TAIL);
    assert_string_equal(result.tail + len - 3, "END");
}

static void output_that_is_no_text_becomes_text(void **state)
{
    char *argv[4];
    struct check check =
        exec_of(argv, "printf 'a\\000b\\377c\\033[31m \\303\\251 \\r\\nx\\303'; exit 1", 5);
    struct check_result result = run_check(&check, NULL, 0, NULL, -1);

    assert_string_equal(result.tail, "a?b?c?[31m \xc3\xa9 \nx?");
}

static void a_program_that_is_not_there_is_named(void **state)
{
    char *argv[] = {(char *)(uintptr_t) "/nonexistent/probe", NULL};
    struct check check = {.kind = CHECK_EXEC, .timeout = 1, .failures = 3, .command = argv};
    struct check_result result = run_check(&check, NULL, 0, NULL, -1);

    assert_false(result.passed);
    assert_contains(result.text, "/nonexistent/probe");
}

static void a_port_is_reached_when_somebody_listens(void **state)
{
    struct site site;
    struct check check = {.kind = CHECK_TCP, .timeout = 2};
    struct check_result result;

    site_start(&site, SITE_SILENT, NULL);
    check.port = site.port_text;
    assert_true(run_check(&check, NULL, 0, NULL, -1).passed);
    check.host = (char *)(uintptr_t) "localhost";
    assert_true(run_check(&check, NULL, 0, NULL, -1).passed);
    site_stop(&site);
    result = run_check(&check, NULL, 0, NULL, -1);
    assert_false(result.passed);
    assert_contains(result.text, "refused");
}

static void a_socket_that_connects_to_itself_is_no_service(void **state)
{
    char port[8];
    struct check check = {.kind = CHECK_TCP, .timeout = 1, .port = port};

    /* Sooner or later the kernel gives the probe the very port that it asks for: connect is given
     * even ones. */
    (void)snprintf(port, sizeof(port), "%u", (closed_port() + 1U) & ~1U);
    for (int i = 0; i < 30000; i++)
        assert_false(run_check(&check, NULL, 0, NULL, -1).passed);
}

static void only_loopback_and_allowed_hosts_are_asked(void **state)
{
    char *const allowed[] = {(char *)(uintptr_t) "nowhere.invalid", NULL};
    static const char *const refused[] = {"192.0.2.1",   "example.org", "127.0.0.1.example.org",
                                          "2130706433",  "127.1",       "0.0.0.0",
                                          "127.0.0.256", "::2",         ""};
    struct check check = {.kind = CHECK_TCP, .timeout = 5, .port = (char *)(uintptr_t) "80"};
    struct check_result result;

    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        check.host = (char *)(uintptr_t)refused[i];
        result = run_check(&check, NULL, 0, allowed, -1);
        assert_false(result.passed);
        assert_contains(result.text, "probe_hosts");
    }
    check.host = (char *)(uintptr_t) "nowhere.invalid";
    result = run_check(&check, NULL, 0, allowed, -1);
    assert_false(result.passed);
    assert_null(strstr(result.text, "probe_hosts"));
}

static void a_connection_that_nobody_answers_ends_at_its_timeout_or_when_cancelled(void **state)
{
    /* RFC 5737: nobody. Where the network says so at once, that is an answer too. */
    char *const allowed[] = {(char *)(uintptr_t) "192.0.2.1", NULL};
    struct check check = {.kind = CHECK_TCP,
                          .timeout = 0.4,
                          .host = (char *)(uintptr_t) "192.0.2.1",
                          .port = (char *)(uintptr_t) "9"};
    double started = clock_now(CLOCK_MONOTONIC);
    struct bell bell;

    assert_false(run_check(&check, NULL, 0, allowed, -1).passed);
    assert_within(started, 0, 0.7);
    check.timeout = 20;
    bell_set(&bell, 0.1);
    started = clock_now(CLOCK_MONOTONIC);
    assert_false(run_check(&check, NULL, 0, allowed, bell.fd).passed);
    assert_within(started, 0, 0.4);
    bell_end(&bell);
}

static void a_release_is_active_only_by_its_whole_name(void **state)
{
    static const char name[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const char *const wrong[] = {
        "echo 0123456789abcdef",
        "echo 0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
        "echo x0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "echo 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef more",
        "echo 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef; exit 1",
        ("yes y | head -c 9000; echo; echo "
         "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
        "true"};
    struct check_vars vars = {0};
    struct error error = ERROR_INIT;
    char *argv[4], found[65];
    struct check check = exec_of(
        argv, "printf ' \\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\\r\\n'",
        5);

    if (check_active(&check, &vars, -1, found, &error) < 0)
        fail_msg("%s", error.text);
    assert_string_equal(found, name);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        check = exec_of(argv, wrong[i], 5);
        assert_true(check_active(&check, &vars, -1, found, &error) < 0);
        assert_string_equal(found, "");
        assert_contains(error.text, "active: ");
    }
}

static void waiting_for_a_release_ends_at_within_even_when_the_product_hangs(void **state)
{
    static const char name[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct check_vars vars = {0};
    struct error error = ERROR_INIT;
    struct bell bell;
    char *argv[4];
    struct check check = exec_of(argv, "sleep 30", 5);
    double started = clock_now(CLOCK_MONOTONIC);

    check.within = 0.5;
    assert_int_equal(check_active_becomes(&check, &vars, name, -1, &error), -ETIMEDOUT);
    assert_within(started, 0.5, 0.9);
    check = exec_of(argv,
                    "sed s/0/1/ <<x\n"
                    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\nx",
                    5);
    check.within = 0.4;
    assert_int_equal(check_active_becomes(&check, &vars, name, -1, &error), -ETIMEDOUT);
    assert_contains(error.text, "1123456789ab… still runs");
    check.within = 30;
    bell_set(&bell, 0.2);
    started = clock_now(CLOCK_MONOTONIC);
    assert_int_equal(check_active_becomes(&check, &vars, name, bell.fd, &error), -ECANCELED);
    assert_within(started, 0.15, 0.4);
    bell_end(&bell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_passes_with_the_expected_exit_and_fails_with_another),
        cmocka_unit_test(a_command_that_dies_of_a_signal_fails_but_is_not_the_product),
        cmocka_unit_test(a_command_that_hangs_ends_at_its_timeout_with_all_its_children),
        cmocka_unit_test(a_cancelled_command_ends_at_once),
        cmocka_unit_test(variables_are_filled_in_and_unknown_ones_are_named),
        cmocka_unit_test(the_last_line_of_a_failed_command_is_told_and_its_tail_is_kept),
        cmocka_unit_test(of_endless_output_the_last_eight_kibibytes_are_kept),
        cmocka_unit_test(output_that_is_no_text_becomes_text),
        cmocka_unit_test(a_program_that_is_not_there_is_named),
        cmocka_unit_test(a_port_is_reached_when_somebody_listens),
        cmocka_unit_test(a_socket_that_connects_to_itself_is_no_service),
        cmocka_unit_test(only_loopback_and_allowed_hosts_are_asked),
        cmocka_unit_test(a_connection_that_nobody_answers_ends_at_its_timeout_or_when_cancelled),
        cmocka_unit_test(a_release_is_active_only_by_its_whole_name),
        cmocka_unit_test(waiting_for_a_release_ends_at_within_even_when_the_product_hangs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
