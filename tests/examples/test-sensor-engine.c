#include "engine.h"
#include "event.h"
#include "table.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Builds a table and reads it back. */
static void make_table(unsigned fields, const char *last_value, struct table *ret)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT;
    struct error error = ERROR_INIT;

    table_build(fields, last_value, &bytes);
    assert_int_equal(table_parse(bytes.data, bytes.len, ret, &error), 0);
}

/* Evaluates the table's last template against a heartbeat in a process of its own; its wait
 * status. */
static int evaluate_in_child(unsigned version, const struct table *table)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        const struct event_source source = {.engine = version, .cycle = 1};
        struct engine engine = {0};
        struct event event = {0};

        signal(SIGSEGV, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        if (engine_open(version, &engine, NULL) < 0)
            _exit(100);
        event_heartbeat(&source, &event);
        _exit(-engine_match(&engine, &table->templates[table->count - 1], &event));
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void a_value_in_the_21st_field_kills_engine_1_every_time(void **state)
{
    _cleanup_table_ struct table table = {0};

    make_table(21, "anything", &table);
    for (int i = 0; i < 20; i++) {
        int status = evaluate_in_child(1, &table);

        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSEGV);
    }
}

static void a_wildcard_in_the_21st_field_harms_nobody(void **state)
{
    _cleanup_table_ struct table table = {0};
    int status;

    make_table(21, NULL, &table);
    status = evaluate_in_child(1, &table);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_value_in_the_20th_field_is_read_and_compared(void **state)
{
    _cleanup_table_ struct table table = {0};
    int status;

    make_table(20, "anything", &table);
    status = evaluate_in_child(1, &table);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void engine_2_refuses_21_fields_at_both_places(void **state)
{
    _cleanup_table_ struct table table = {0};
    _cleanup_engine_ struct engine engine = {0};
    struct error error = ERROR_INIT;
    int status;

    make_table(21, "anything", &table);
    assert_int_equal(engine_open(2, &engine, &error), 0);
    assert_int_equal(engine_check(&engine, &table, &error), -ERANGE);
    assert_non_null(strstr(error.text, "template 291 declares 21 fields; engine 2 supplies 20"));
    status = evaluate_in_child(2, &table);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ERANGE);
}

static void a_template_matches_when_each_of_its_values_is_the_events(void **state)
{
    const struct event_source source = {.engine = 2, .cycle = 7};
    _cleanup_table_ struct table table = {0};
    _cleanup_engine_ struct engine engine = {0};
    _cleanup_event_ struct event pipe = {0}, text = {0};
    struct stat st = {.st_mode = S_IFREG | 0644};

    make_table(20, NULL, &table);
    assert_int_equal(engine_open(2, &engine, NULL), 0);
    event_of_file(&source, "/watched/a.pipe", &st, "", &pipe);
    event_of_file(&source, "/watched/a.txt", &st, "", &text);
    assert_int_equal(engine_match(&engine, &table.templates[1], &pipe), 1);
    assert_int_equal(engine_match(&engine, &table.templates[1], &text), 0);
    assert_int_equal(engine_match(&engine, &table.templates[0], &pipe), 0);
}

static void a_table_cut_off_anywhere_is_refused_with_a_reason(void **state)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT;

    table_build(21, "anything", &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        _cleanup_free_ char *cut = xmemdup(bytes.data, len);
        struct error error = ERROR_INIT;
        struct table table = {0};

        assert_true(table_parse(cut, len, &table, &error) < 0);
        assert_true(error.text[0] != '\0');
        assert_null(table.templates);
    }
}

/* The size in the header corrected as well, so that the cut is found further in. */
static void a_table_cut_off_with_a_matching_header_is_refused(void **state)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT;

    table_build(21, "anything", &bytes);
    for (size_t len = 20; len < bytes.len; len++) {
        _cleanup_free_ char *cut = xmemdup(bytes.data, len);
        struct error error = ERROR_INIT;
        struct table table = {0};

        cut[16] = (char)len;
        cut[17] = cut[18] = cut[19] = 0;
        assert_int_equal(table_parse(cut, len, &table, &error), -ENODATA);
        assert_non_null(strstr(error.text, "the table ends"));
    }
}

static void bytes_behind_the_table_are_refused(void **state)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT;
    struct error error = ERROR_INIT;
    struct table table = {0};

    table_build(20, NULL, &bytes);
    buf_add(&bytes, "x", 1);
    assert_int_equal(table_parse(bytes.data, bytes.len, &table, &error), -EBADMSG);
    assert_non_null(strstr(error.text, "added to"));
    bytes.data[16]++;
    assert_int_equal(table_parse(bytes.data, bytes.len, &table, &error), -EBADMSG);
    assert_non_null(strstr(error.text, "1 bytes follow"));
}

static void impossible_headers_are_refused(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        int code;
    } cases[] = {
        {0, 'x', -EINVAL},   /* magic */
        {8, 2, -EPROTO},     /* version */
        {10, 1, -EPROTO},    /* flags */
        {14, 1, -E2BIG},     /* 65538 templates */
        {12, 3, -ENODATA},   /* one template more than there are */
        {12, 1, -EBADMSG},   /* one less */
        {24, 0, -E2BIG},     /* no fields */
        {24, 65, -E2BIG},    /* too many */
        {26, 2, -EINVAL},    /* neither wildcard nor value */
        {28, 2, -E2BIG},     /* a value of 516 bytes */
        {29, '\0', -EINVAL}, /* NUL in a value */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        _cleanup_buf_ struct buf bytes = BUF_INIT;
        struct error error = ERROR_INIT;
        struct table table = {0};

        table_build(20, NULL, &bytes);
        bytes.data[cases[i].at] = (char)cases[i].value;
        assert_int_equal(table_parse(bytes.data, bytes.len, &table, &error), cases[i].code);
        assert_true(error.text[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_in_the_21st_field_kills_engine_1_every_time),
        cmocka_unit_test(a_wildcard_in_the_21st_field_harms_nobody),
        cmocka_unit_test(a_value_in_the_20th_field_is_read_and_compared),
        cmocka_unit_test(engine_2_refuses_21_fields_at_both_places),
        cmocka_unit_test(a_template_matches_when_each_of_its_values_is_the_events),
        cmocka_unit_test(a_table_cut_off_anywhere_is_refused_with_a_reason),
        cmocka_unit_test(a_table_cut_off_with_a_matching_header_is_refused),
        cmocka_unit_test(bytes_behind_the_table_are_refused),
        cmocka_unit_test(impossible_headers_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
