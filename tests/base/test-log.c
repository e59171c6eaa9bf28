#include "support.h"

#include "base/log.h"

#include <pthread.h>

/* stderr goes into a file while a test logs; returns what came. */
static int saved_stderr;

static void begin_capture(const char *path)
{
    _cleanup_fd_ int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);

    saved_stderr = dup(STDERR_FILENO);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
}

static void end_capture(const char *path, struct buf *ret)
{
    struct error error = ERROR_INIT;

    assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
    (void)close(saved_stderr);
    assert_int_equal(file_read(AT_FDCWD, path, 64 << 20, ret, &error), 0);
}

static void under_systemd_lines_carry_its_level_and_no_time(void **state)
{
    _cleanup_free_ char *path = path_join(*state, "log");
    _cleanup_buf_ struct buf text = BUF_INIT;

    assert_int_equal(setenv("JOURNAL_STREAM", "8:1", 1), 0);
    begin_capture(path);
    log_init("maeslant-agent", LOG_LEVEL_INFO);
    log_error("trial-reverted", "release=%s", "abc");
    log_warning("w", "x");
    log_notice("n", "x");
    log_info("i", "x");
    log_debug("d", "must not be there");
    end_capture(path, &text);
    assert_string_equal(text.data, "<3>trial-reverted: release=abc\n<4>w: x\n<5>n: x\n<6>i: x\n");
}

static void elsewhere_lines_have_time_level_and_program_without_colour(void **state)
{
    _cleanup_free_ char *path = path_join(*state, "log");
    _cleanup_buf_ struct buf text = BUF_INIT;

    assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
    begin_capture(path);
    log_init("maeslant-agent", LOG_LEVEL_INFO);
    log_error("trial-reverted", "release=%s", "abc");
    end_capture(path, &text);
    assert_int_equal(text.data[10], 'T');
    assert_string_equal(text.data + 23, "Z error maeslant-agent trial-reverted: release=abc\n");
}

static void a_hostile_value_cannot_forge_a_second_line(void **state)
{
    _cleanup_free_ char *path = path_join(*state, "log");
    _cleanup_buf_ struct buf text = BUF_INIT;

    assert_int_equal(setenv("JOURNAL_STREAM", "8:1", 1), 0);
    begin_capture(path);
    log_init("x", LOG_LEVEL_INFO);
    log_info("i", "name=%s", "a\n<3>forged: \x1b[31m\xff");
    end_capture(path, &text);
    assert_string_equal(text.data, "<6>i: name=a\\x0a<3>forged: \\x1b[31m\\xff\n");
}

static void an_endless_text_is_one_line_with_an_ellipsis(void **state)
{
    _cleanup_free_ char *path = path_join(*state, "log"), *endless = xmalloc(100001);
    _cleanup_buf_ struct buf text = BUF_INIT;

    memset(endless, 'a', 100000);
    endless[100000] = '\0';
    begin_capture(path);
    log_init("x", LOG_LEVEL_INFO);
    errno = ENOENT;
    log_info("i", "%s", endless);
    assert_int_equal(errno, ENOENT);
    end_capture(path, &text);
    assert_true(text.len < 4096);
    assert_ptr_equal(strchr(text.data, '\n'), text.data + text.len - 1);
    assert_string_equal(text.data + text.len - 4, "…\n");
}

static void *log_much(void *arg)
{
    for (int i = 0; i < 500; i++)
        log_info("thread", "%s%s%s", (const char *)arg, (const char *)arg, (const char *)arg);
    return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state)
{
    _cleanup_free_ char *path = path_join(*state, "log");
    _cleanup_buf_ struct buf text = BUF_INIT;
    char words[4][101];
    pthread_t threads[4];
    unsigned count = 0;

    assert_int_equal(setenv("JOURNAL_STREAM", "8:1", 1), 0);
    begin_capture(path);
    log_init("x", LOG_LEVEL_INFO);
    for (size_t i = 0; i < 4; i++) {
        memset(words[i], 'a' + (int)i, 100);
        words[i][100] = '\0';
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, words[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    end_capture(path, &text);
    for (char *line = text.data, *end; (end = strchr(line, '\n')); line = end + 1, count++) {
        assert_memory_equal(line, "<6>thread: ", 11);
        for (char *p = line + 11; p < end; p++)
            assert_int_equal(*p, line[11]);
        assert_int_equal(end - line, 311);
    }
    assert_int_equal(count, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_folder(under_systemd_lines_carry_its_level_and_no_time),
        in_folder(elsewhere_lines_have_time_level_and_program_without_colour),
        in_folder(a_hostile_value_cannot_forge_a_second_line),
        in_folder(an_endless_text_is_one_line_with_an_ellipsis),
        in_folder(lines_of_several_threads_do_not_mix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
