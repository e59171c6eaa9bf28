#include "check-support.h"

#include "agent/check-process.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

struct fixture {
    char *dir, *pid_file, *exit_file;
    struct check check;
    struct check_memory memory;
};

static void setup(struct fixture *fixture)
{
    *fixture = (struct fixture){.dir = scratch_make()};
    fixture->pid_file = path_join(fixture->dir, "pid");
    fixture->exit_file = path_join(fixture->dir, "exit");
    fixture->check = (struct check){.name = (char *)(uintptr_t) "p",
                                    .kind = CHECK_PROCESS,
                                    .timeout = 1,
                                    .failures = 3,
                                    .pid_file = fixture->pid_file,
                                    .exit_file = fixture->exit_file};
}

static void teardown(struct fixture *fixture)
{
    free(fixture->pid_file);
    free(fixture->exit_file);
    scratch_remove(&fixture->dir);
}

static struct check_result look(struct fixture *fixture)
{
    struct check_vars vars = {0};
    struct check_result result;

    check_run(&fixture->check, &vars, &fixture->memory, -1, &result);
    return result;
}

static void a_running_process_passes_and_its_end_fails(void **state)
{
    struct fixture f;
    struct check_result result;
    pid_t pid;

    setup(&f);
    pid = sleeper_start(f.pid_file);
    assert_true(look(&f).passed);
    assert_int_equal(f.memory.pid, pid);
    assert_true(look(&f).passed);
    sleeper_kill(pid, SIGKILL);
    result = look(&f);
    assert_false(result.passed);
    assert_false(result.fatal);
    assert_contains(result.text, "is gone");
    teardown(&f);
}

static void a_zombie_is_gone(void **state)
{
    struct fixture f;
    char text[32];
    pid_t pid;

    setup(&f);
    pid = fork();
    if (pid == 0)
        _exit(0);
    clock_sleep(0.1);
    (void)snprintf(text, sizeof(text), "%d", (int)pid);
    write_text(f.dir, "pid", text);
    assert_contains(look(&f).text, "is gone");
    sleeper_kill(pid, SIGKILL);
    teardown(&f);
}

static void another_process_in_its_place_fails(void **state)
{
    struct fixture f;
    struct check_result result;
    pid_t first, second;

    setup(&f);
    first = sleeper_start(f.pid_file);
    assert_true(look(&f).passed);
    second = sleeper_start(f.pid_file);
    result = look(&f);
    assert_false(result.passed);
    assert_contains(result.text, "has taken the place of");
    sleeper_kill(first, SIGKILL);
    sleeper_kill(second, SIGKILL);
    teardown(&f);
}

static void the_same_number_with_another_start_time_is_another_process(void **state)
{
    struct fixture f;
    struct check_result result;
    pid_t pid;

    setup(&f);
    pid = sleeper_start(f.pid_file);
    assert_true(look(&f).passed);
    f.memory.start--;
    result = look(&f);
    assert_false(result.passed);
    assert_contains(result.text, "another one than after the activation");
    sleeper_kill(pid, SIGKILL);
    teardown(&f);
}

static void a_death_of_a_signal_is_fatal_at_once(void **state)
{
    struct fixture f;
    struct check_result result;
    pid_t pid;

    setup(&f);
    f.memory.since_ms = clock_ms(CLOCK_REALTIME) - 1000;
    pid = sleeper_start(f.pid_file);
    assert_true(look(&f).passed);
    sleeper_kill(pid, SIGSEGV);
    write_text(f.dir, "exit", "signal 11\n");
    result = look(&f);
    assert_false(result.passed);
    assert_true(result.fatal);
    assert_int_equal(result.signal, SIGSEGV);
    assert_contains(result.text, "died of signal 11 (SIGSEGV)");
    teardown(&f);
}

static void an_exit_is_told_but_may_be_tried_again(void **state)
{
    struct fixture f;
    struct check_result result;
    pid_t pid;

    setup(&f);
    pid = sleeper_start(f.pid_file);
    assert_true(look(&f).passed);
    sleeper_kill(pid, SIGKILL);
    write_text(f.dir, "exit", "exit 7\n");
    result = look(&f);
    assert_false(result.passed);
    assert_false(result.fatal);
    assert_int_equal(result.exit_status, 7);
    teardown(&f);
}

static void an_exit_file_of_an_earlier_run_tells_nothing(void **state)
{
    struct timespec old[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    struct fixture f;
    struct check_result result;

    setup(&f);
    write_text(f.dir, "exit", "signal 11\n");
    assert_int_equal(utimensat(AT_FDCWD, f.exit_file, old, 0), 0);
    f.memory.since_ms = clock_ms(CLOCK_REALTIME) - 1000;
    result = look(&f);
    assert_false(result.passed);
    assert_false(result.fatal);
    teardown(&f);
}

static void nonsense_in_the_files_is_a_plain_failure(void **state)
{
    static const char *const pids[] = {"", "0", "-1", "12x", "1 2", "99999999999", "one", "\n"};
    static const char *const exits[] = {"",         "signal", "signal 0",  "signal 65", "signal -1",
                                        "exit 256", "exit",   "SIGNAL 11", "signal 11x"};
    struct fixture f;

    setup(&f);
    for (size_t i = 0; i < ARRAY_SIZE(exits); i++) {
        write_text(f.dir, "pid", pids[i % ARRAY_SIZE(pids)]);
        write_text(f.dir, "exit", exits[i]);
        struct check_result result = look(&f);

        assert_false(result.passed);
        assert_false(result.fatal);
        assert_int_equal(result.signal, 0);
        assert_int_equal(result.exit_status, -1);
    }
    teardown(&f);
}

static void a_pid_file_that_is_a_pipe_does_not_block(void **state)
{
    struct fixture f;
    double started = clock_now(CLOCK_MONOTONIC);

    setup(&f);
    assert_int_equal(mkfifo(f.pid_file, 0600), 0);
    assert_false(look(&f).passed);
    assert_within(started, 0, 0.2);
    teardown(&f);
}

/* The product died after all was well, and its supervisor had started it again before anybody
 * looked. */
static void a_death_before_the_first_look_is_seen(void **state)
{
    struct fixture f;
    struct check_result result;
    pid_t pid;

    setup(&f);
    f.memory.since_ms = f.memory.settled_ms = clock_ms(CLOCK_REALTIME) - 1000;
    write_text(f.dir, "exit", "signal 6\n");
    clock_sleep(0.1);
    pid = sleeper_start(f.pid_file);
    result = look(&f);
    assert_false(result.passed);
    assert_true(result.fatal);
    assert_int_equal(result.signal, SIGABRT);
    assert_contains(result.text, "was started again");
    sleeper_kill(pid, SIGKILL);
    teardown(&f);
}

/* A restart by the adapter kills the old process; its supervisor may write that late. */
static void the_old_process_that_a_restart_killed_is_no_death(void **state)
{
    struct fixture f;
    pid_t pid;

    setup(&f);
    f.memory.since_ms = clock_ms(CLOCK_REALTIME) - 1000;
    pid = sleeper_start(f.pid_file);
    clock_sleep(0.1);
    f.memory.settled_ms = clock_ms(CLOCK_REALTIME) - 20;
    write_text(f.dir, "exit", "signal 9\n");
    assert_true(look(&f).passed);
    sleeper_kill(pid, SIGKILL);
    teardown(&f);
}

static void memory_and_time_of_a_process_and_its_children_are_added_up(void **state)
{
    struct check_memory memory = {.pid = getpid()};
    struct check_usage alone, both;
    struct fixture f;
    pid_t pid;

    setup(&f);
    pid = sleeper_start(f.pid_file);
    assert_true(look(&f).passed);
    assert_int_equal(check_usage(&f.memory, &alone), 0);
    assert_true(alone.rss_bytes > 0);
    assert_int_equal(check_usage(&memory, &both), -ESRCH); /* the start time is not ours */
    memory = f.memory;
    memory.pid = 0;
    assert_int_equal(check_usage(&memory, &both), -ESRCH);
    f.memory = (struct check_memory){0};
    {
        char text[32];

        (void)snprintf(text, sizeof(text), "%d", (int)getpid());
        write_text(f.dir, "pid", text);
    }
    assert_true(look(&f).passed);
    assert_int_equal(check_usage(&f.memory, &both), 0);
    assert_true(both.rss_bytes > alone.rss_bytes);
    sleeper_kill(pid, SIGKILL);
    assert_int_equal(check_usage(&f.memory, &both), 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_running_process_passes_and_its_end_fails),
        cmocka_unit_test(a_zombie_is_gone),
        cmocka_unit_test(another_process_in_its_place_fails),
        cmocka_unit_test(the_same_number_with_another_start_time_is_another_process),
        cmocka_unit_test(a_death_of_a_signal_is_fatal_at_once),
        cmocka_unit_test(an_exit_is_told_but_may_be_tried_again),
        cmocka_unit_test(an_exit_file_of_an_earlier_run_tells_nothing),
        cmocka_unit_test(nonsense_in_the_files_is_a_plain_failure),
        cmocka_unit_test(a_pid_file_that_is_a_pipe_does_not_block),
        cmocka_unit_test(a_death_before_the_first_look_is_seen),
        cmocka_unit_test(the_old_process_that_a_restart_killed_is_no_death),
        cmocka_unit_test(memory_and_time_of_a_process_and_its_children_are_added_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
