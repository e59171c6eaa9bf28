#include "support.h"

#include "base/clock.h"
#include "base/process.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const struct process_limits plain = {.timeout = 20, .output = 65536};

static void free_result(struct process_result *result)
{
    process_result_free(result);
}
#define _cleanup_result_ __attribute__((cleanup(free_result)))

/* Runs `script` in a shell with our limits and fails the test when it didn't run. */
static void run(const char *script, const struct process_limits *limits, struct process_result *ret)
{
    char *const argv[] = {(char *)"sh", (char *)"-c", (char *)(uintptr_t)script, NULL};
    struct error error = ERROR_INIT;

    if (process_run(argv, NULL, NULL, NULL, limits, -1, ret, &error) < 0)
        fail_msg("%s", error.text);
}

static void the_exit_status_and_both_outputs_come_back(void **state)
{
    _cleanup_result_ struct process_result result;
    char text[64];

    run("echo out; echo err >&2; exit 3", &plain, &result);
    assert_int_equal(result.exit_status, 3);
    assert_int_equal(result.signal, 0);
    assert_false(result.timed_out || result.output_exceeded);
    assert_string_equal(result.output.data, "out\nerr\n");
    assert_true(result.seconds >= 0 && result.seconds < 20);
    assert_true(result.max_rss > 0);
    process_describe(&result, text, sizeof(text));
    assert_string_equal(text, "exit 3");
}

static void the_environment_is_only_what_is_given(void **state)
{
    char *const argv[] = {(char *)"env", NULL};
    char *const env[] = {(char *)"A=1", NULL};
    _cleanup_result_ struct process_result by_default, given;
    struct error error = ERROR_INIT;

    assert_int_equal(setenv("SECRET", "x", 1), 0);
    assert_int_equal(process_run(argv, NULL, NULL, NULL, &plain, -1, &by_default, &error), 0);
    assert_string_equal(by_default.output.data,
                        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
                        "LANG=C.UTF-8\nHOME=/nonexistent\n");
    assert_int_equal(process_run(argv, env, NULL, NULL, &plain, -1, &given, &error), 0);
    assert_string_equal(given.output.data, "A=1\n");
}

static void input_and_folder_arrive(void **state)
{
    char *const argv[] = {(char *)"sh", (char *)"-c", (char *)"pwd; cat", NULL};
    _cleanup_result_ struct process_result result, silent;
    struct error error = ERROR_INIT;

    assert_int_equal(process_run(argv, NULL, "/usr", "a line", &plain, -1, &result, &error), 0);
    assert_string_equal(result.output.data, "/usr\na line");
    assert_int_equal(process_run(argv, NULL, "/", NULL, &plain, -1, &silent, &error), 0);
    assert_string_equal(silent.output.data, "/\n");
}

static void much_input_that_nobody_reads_does_not_block(void **state)
{
    char *const argv[] = {(char *)"true", NULL};
    size_t len = 4 << 20;
    _cleanup_free_ char *input = xmalloc(len + 1);
    _cleanup_result_ struct process_result result;
    struct error error = ERROR_INIT;

    memset(input, 'x', len);
    input[len] = '\0';
    assert_int_equal(process_run(argv, NULL, NULL, input, &plain, -1, &result, &error), 0);
    assert_int_equal(result.exit_status, 0);
}

static void no_descriptor_and_no_signal_setting_is_inherited(void **state)
{
    _cleanup_result_ struct process_result result;
    int leaked = dup(STDERR_FILENO); /* without CLOEXEC */
    sigset_t blocked, old;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &blocked, &old);
    run("ls /proc/self/fd; grep -E '^Sig(Blk|Ign)|^NoNewPrivs' /proc/self/status", &plain, &result);
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)close(leaked);
    /* 3 is ls's own. */
    assert_string_equal(result.output.data, "0\n1\n2\n3\nSigBlk:\t0000000000000000\n"
                                            "SigIgn:\t0000000000000000\nNoNewPrivs:\t1\n");
}

static void a_parent_without_standard_streams_can_still_run_things(void **state)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        char *const argv[] = {(char *)"sh", (char *)"-c", (char *)"cat; echo e >&2", NULL};
        struct process_result result;
        struct error error = ERROR_INIT;

        for (int fd = 0; fd < 10; fd++)
            (void)close(fd);
        if (process_run(argv, NULL, NULL, "in ", &plain, -1, &result, &error) < 0)
            _exit(2);
        _exit(strcmp(result.output.data, "in e\n") == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void at_the_timeout_the_whole_group_is_killed(void **state)
{
    const struct process_limits limits = {.timeout = 0.3, .output = 4096};
    _cleanup_result_ struct process_result result;
    double before = clock_now(CLOCK_MONOTONIC);
    char text[64];
    pid_t grandchild;

    run("trap '' TERM INT HUP; sleep 600 & echo $!; wait; wait", &limits, &result);
    assert_true(clock_now(CLOCK_MONOTONIC) - before < 10);
    assert_true(result.timed_out);
    assert_int_equal(result.exit_status, -1);
    assert_int_equal(result.signal, SIGKILL);
    process_describe(&result, text, sizeof(text));
    assert_string_equal(text, "no answer within 300ms");
    grandchild = (pid_t)strtol(result.output.data, NULL, 10);
    assert_true(grandchild > 1);
    for (int i = 0; i < 200; i++) {
        _cleanup_buf_ struct buf stat = BUF_INIT;
        _cleanup_free_ char *path = xasprintf("/proc/%d/stat", (int)grandchild);

        if (file_read(AT_FDCWD, path, 4096, &stat, NULL) < 0 || strstr(stat.data, ") Z "))
            return; /* gone, or a zombie that nobody has reaped yet */
        clock_sleep(0.01);
    }
    fail_msg("the grandchild still runs");
}

static void a_child_left_behind_does_not_hold_us_by_the_pipe(void **state)
{
    _cleanup_result_ struct process_result result;
    double before = clock_now(CLOCK_MONOTONIC);

    run("sleep 600 & echo started", &plain, &result);
    assert_true(clock_now(CLOCK_MONOTONIC) - before < 10);
    assert_int_equal(result.exit_status, 0);
    assert_string_equal(result.output.data, "started\n");
}

static void one_that_fled_its_group_does_not_hold_us_either(void **state)
{
    _cleanup_result_ struct process_result result;
    double before = clock_now(CLOCK_MONOTONIC);

    run("setsid sh -c 'end=$(($(date +%s)+3)); while [ $(date +%s) -lt $end ]; do echo y; done' & "
        "sleep 0.2; echo done",
        &plain, &result);
    assert_true(clock_now(CLOCK_MONOTONIC) - before < 2.5);
    assert_int_equal(result.exit_status, 0);
}

static void closing_its_output_does_not_end_the_wait_or_burn_the_processor(void **state)
{
    _cleanup_result_ struct process_result result;
    struct rusage before, after;

    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    run("exec >&- 2>&-; sleep 0.5; exit 4", &plain, &result);
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    assert_int_equal(result.exit_status, 4);
    assert_true((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
                    (after.ru_utime.tv_usec - before.ru_utime.tv_usec) <
                200000);
}

static void output_beyond_the_limit_is_dropped_or_kills(void **state)
{
    struct process_limits limits = {.timeout = 20, .output = 1000};
    _cleanup_result_ struct process_result lax, strict;
    char text[64];

    run("i=0; while [ $i -lt 3000 ]; do echo 0123456789; i=$((i+1)); done; exit 5", &limits, &lax);
    assert_int_equal(lax.exit_status, 5);
    assert_true(lax.output_exceeded);
    assert_int_equal(lax.output.len, 1000);
    limits.strict_output = true;
    run("while :; do echo 0123456789; done", &limits, &strict);
    assert_int_equal(strict.signal, SIGKILL);
    assert_true(strict.output_exceeded && !strict.timed_out);
    assert_int_equal(strict.output.len, 1000);
    process_describe(&strict, text, sizeof(text));
    assert_string_equal(text, "killed: more than 1000 bytes of output");
}

static void a_signal_is_named(void **state)
{
    _cleanup_result_ struct process_result result;
    char text[64];

    run("kill -SEGV $$", &plain, &result);
    assert_int_equal(result.exit_status, -1);
    process_describe(&result, text, sizeof(text));
    assert_string_equal(text, "signal 11 (SIGSEGV)");
}

static void the_limits_hold(void **state)
{
    const struct process_limits cpu = {.timeout = 20, .cpu = 1, .output = 4096};
    const struct process_limits size = {.timeout = 20, .file_size = 1000, .output = 4096};
    const struct process_limits all = {.timeout = 20,
                                       .memory = 300 << 20,
                                       .file_size = 5 << 20,
                                       .cpu = 7,
                                       .processes = 99,
                                       .output = 4096};
    _cleanup_free_ char *path = path_join(*state, "f");
    _cleanup_free_ char *fill = xasprintf("head -c 5000 /dev/zero > %s", path);
    _cleanup_result_ struct process_result busy, large, shown;

    run("while :; do :; done", &cpu, &busy);
    assert_int_equal(busy.signal, SIGXCPU);
    run(fill, &size, &large);
    assert_true(large.exit_status != 0);
    run("ulimit -v; ulimit -f; ulimit -t; ulimit -c; grep processes /proc/self/limits", &all,
        &shown);
    assert_memory_equal(shown.output.data, "307200\n10240\n7\n0\n", 17);
    assert_contains(shown.output.data, "99");
}

static void without_network_even_the_loopback_is_down(void **state)
{
    const struct process_limits limits = {.timeout = 20, .output = 4096, .no_network = true};
    char *const argv[] = {(char *)"sh", (char *)"-c",
                          (char *)"tail -n +3 /proc/net/dev | wc -l; id -u; "
                                  "cat /sys/class/net/lo/flags 2>/dev/null; true",
                          NULL};
    _cleanup_result_ struct process_result result;
    struct error error = ERROR_INIT;

    assert_int_equal(process_run(argv, NULL, NULL, NULL, &limits, -1, &result, &error), 0);
    if (error.text[0] != '\0') {
        assert_contains(error.text, "ran with the network");
        skip();
    }
    {
        _cleanup_free_ char *expected = xasprintf("1\n%u\n", geteuid());

        assert_memory_equal(result.output.data, expected, strlen(expected));
    }
}

static void a_program_that_cannot_start_is_an_error_with_its_reason(void **state)
{
    _cleanup_free_ char *path = path_join(*state, "f");
    char *missing[] = {(char *)"no-such-program", NULL};
    char *relative[] = {(char *)"bin/x", NULL};
    char *empty[] = {(char *)"", NULL};
    char *absent[] = {(char *)"/nonexistent/x", NULL};
    char *unfit[] = {path, NULL};
    char *fine[] = {(char *)"true", NULL};
    struct process_result result;
    struct error error = ERROR_INIT;

    assert_int_equal(process_run(missing, NULL, NULL, NULL, &plain, -1, &result, &error), -ENOENT);
    assert_contains(error.text, "\"no-such-program\"");
    assert_int_equal(process_run(relative, NULL, NULL, NULL, &plain, -1, &result, &error), -EINVAL);
    assert_int_equal(process_run(empty, NULL, NULL, NULL, &plain, -1, &result, &error), -EINVAL);
    assert_int_equal(process_run(absent, NULL, NULL, NULL, &plain, -1, &result, &error), -ENOENT);
    assert_contains(error.text, "cannot execute the program: No such file");
    assert_int_equal(file_write(AT_FDCWD, path,
                                "\x7f"
                                "ELF",
                                4, 0755, &error),
                     0);
    assert_int_equal(process_run(unfit, NULL, NULL, NULL, &plain, -1, &result, &error), -ENOEXEC);
    assert_int_equal(process_run(fine, NULL, "/nonexistent", NULL, &plain, -1, &result, &error),
                     -ENOENT);
    assert_contains(error.text, "cannot enter its folder /nonexistent");
    process_result_free(&result);
}

static void a_readable_cancel_descriptor_kills_at_once(void **state)
{
    char *const argv[] = {(char *)"sleep", (char *)"600", NULL};
    struct process_result result;
    struct error error = ERROR_INIT;
    double before = clock_now(CLOCK_MONOTONIC);
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(process_run(argv, NULL, NULL, NULL, &plain, ends[0], &result, &error),
                     -ECANCELED);
    assert_false(result.timed_out);
    assert_int_equal(result.signal, SIGKILL);
    assert_true(clock_now(CLOCK_MONOTONIC) - before < 10);
    process_result_free(&result);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void the_child_dies_with_its_parent(void **state)
{
    _cleanup_free_ char *path = path_join(*state, "pid");
    _cleanup_free_ char *script = xasprintf("echo $$ > %s; exec sleep 600", path);
    pid_t parent = fork(), child = 0;
    int status;

    if (parent == 0) {
        char *const argv[] = {(char *)"sh", (char *)"-c", script, NULL};
        struct process_result result;

        (void)process_run(argv, NULL, NULL, NULL, &plain, -1, &result, NULL);
        _exit(0);
    }
    for (int i = 0; i < 1000 && child <= 1; i++) {
        _cleanup_buf_ struct buf text = BUF_INIT;

        clock_sleep(0.01);
        if (file_read(AT_FDCWD, path, 64, &text, NULL) == 0 && text.len > 0)
            child = (pid_t)strtol(text.data, NULL, 10);
    }
    assert_true(child > 1);
    assert_int_equal(kill(parent, SIGKILL), 0);
    assert_int_equal(waitpid(parent, &status, 0), parent);
    for (int i = 0; i < 500; i++) {
        _cleanup_buf_ struct buf stat = BUF_INIT;
        _cleanup_free_ char *stat_path = xasprintf("/proc/%d/stat", (int)child);

        if (file_read(AT_FDCWD, stat_path, 4096, &stat, NULL) < 0 || strstr(stat.data, ") Z "))
            return;
        clock_sleep(0.01);
    }
    fail_msg("the child outlived its parent");
}

static void no_descriptor_leaks_over_many_runs(void **state)
{
    int before = dup(STDERR_FILENO), after;

    (void)close(before);
    for (int i = 0; i < 20; i++) {
        _cleanup_result_ struct process_result result;

        run("true", &plain, &result);
    }
    after = dup(STDERR_FILENO);
    (void)close(after);
    assert_int_equal(after, before);
}

static void *run_many(void *arg)
{
    for (int i = 0; i < 10; i++) {
        _cleanup_result_ struct process_result result;
        _cleanup_free_ char *script = xasprintf("echo %s-%d; exit 7", (const char *)arg, i);
        _cleanup_free_ char *expected = xasprintf("%s-%d\n", (const char *)arg, i);
        char *const argv[] = {(char *)"sh", (char *)"-c", script, NULL};

        if (process_run(argv, NULL, NULL, NULL, &plain, -1, &result, NULL) < 0 ||
            result.exit_status != 7 || strcmp(result.output.data, expected) != 0)
            return arg;
    }
    return NULL;
}

static void threads_run_children_side_by_side(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    pthread_t threads[ARRAY_SIZE(names)];

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, (void *)(uintptr_t)names[i]),
                         0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        void *failed = NULL;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exit_status_and_both_outputs_come_back),
        cmocka_unit_test(the_environment_is_only_what_is_given),
        cmocka_unit_test(input_and_folder_arrive),
        cmocka_unit_test(much_input_that_nobody_reads_does_not_block),
        cmocka_unit_test(no_descriptor_and_no_signal_setting_is_inherited),
        cmocka_unit_test(a_parent_without_standard_streams_can_still_run_things),
        cmocka_unit_test(at_the_timeout_the_whole_group_is_killed),
        cmocka_unit_test(a_child_left_behind_does_not_hold_us_by_the_pipe),
        cmocka_unit_test(one_that_fled_its_group_does_not_hold_us_either),
        cmocka_unit_test(closing_its_output_does_not_end_the_wait_or_burn_the_processor),
        cmocka_unit_test(output_beyond_the_limit_is_dropped_or_kills),
        cmocka_unit_test(a_signal_is_named),
        in_folder(the_limits_hold),
        cmocka_unit_test(without_network_even_the_loopback_is_down),
        in_folder(a_program_that_cannot_start_is_an_error_with_its_reason),
        cmocka_unit_test(a_readable_cancel_descriptor_kills_at_once),
        in_folder(the_child_dies_with_its_parent),
        cmocka_unit_test(no_descriptor_leaks_over_many_runs),
        cmocka_unit_test(threads_run_children_side_by_side),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
