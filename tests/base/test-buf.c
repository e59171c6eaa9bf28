#include "support.h"

#include <sys/wait.h>

static void text_and_bytes_are_appended_and_stay_terminated(void **state)
{
    _cleanup_buf_ struct buf buf = BUF_INIT;

    assert_null(buf.data);
    buf_add_str(&buf, "ab");
    buf_add(&buf, "\0c", 2);
    buf_addf(&buf, "%d-%s", 42, "x");
    assert_int_equal(buf.len, 8);
    assert_memory_equal(buf.data, "ab\0c42-x", 9);
    buf_clear(&buf);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
}

static void a_long_format_does_not_lose_its_end(void **state)
{
    _cleanup_buf_ struct buf buf = BUF_INIT;

    for (int i = 1; i < 300; i++) {
        size_t before = buf.len;

        buf_addf(&buf, "%*d", i, i);
        assert_int_equal(buf.len - before, i);
    }
    assert_int_equal(strlen(buf.data), buf.len);
}

static void taking_the_text_leaves_an_empty_buffer_and_is_never_null(void **state)
{
    struct buf buf = BUF_INIT;
    _cleanup_free_ char *nothing = buf_take(&buf), *text = NULL;

    assert_string_equal(nothing, "");
    buf_add_str(&buf, "x");
    text = buf_take(&buf);
    assert_string_equal(text, "x");
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
}

static void aborts(void (*act)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        act();
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void reserve_everything(void)
{
    struct buf buf = BUF_INIT;

    buf_add_str(&buf, "x");
    buf_reserve(&buf, SIZE_MAX - 1);
}

static void resize_with_overflow(void)
{
    free(xrealloc(NULL, SIZE_MAX / 2, 4));
}

static void an_overflowing_size_aborts_instead_of_wrapping(void **state)
{
    aborts(reserve_everything);
    aborts(resize_with_overflow);
}

static void copies_stop_at_the_length_given(void **state)
{
    _cleanup_free_ char *part = xstrndup("abcdef", 3);
    _cleanup_free_ char *whole = xstrndup("ab", 30);
    _cleanup_free_ char *empty = xmemdup(NULL, 0);

    assert_string_equal(part, "abc");
    assert_string_equal(whole, "ab");
    assert_non_null(empty);
}

static void closing_keeps_errno(void **state)
{
    int fd = -1;

    errno = ENOENT;
    cleanup_fd(&fd);
    fd = dup(STDERR_FILENO);
    errno = ENOENT;
    cleanup_fd(&fd);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_and_bytes_are_appended_and_stay_terminated),
        cmocka_unit_test(a_long_format_does_not_lose_its_end),
        cmocka_unit_test(taking_the_text_leaves_an_empty_buffer_and_is_never_null),
        cmocka_unit_test(an_overflowing_size_aborts_instead_of_wrapping),
        cmocka_unit_test(copies_stop_at_the_length_given),
        cmocka_unit_test(closing_keeps_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
