#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../scratch.h"
#include "agent/journal.h"
#include "base/encode.h"

#include <errno.h>
#include <stdio.h>

static struct journal sample(void)
{
    struct journal journal;

    journal_reset(&journal);
    journal.state = STATE_SOAKING;
    journal.arm = TRIAL_RELEASE;
    memset(journal.release, 'a', 64);
    memset(journal.previous, 'b', 64);
    memset(journal.permit, 'c', 32);
    memset(journal.nonce, 'd', 64);
    memcpy(journal.boot, "0a1b-2c", 8);
    journal.boots = 2;
    journal.interruptions = 1;
    journal.soak_ms = 600000;
    journal.soaked_ms = 12000;
    journal.clock = 7;
    journal.permit_at = 1795572000000;
    journal.confirm_by = 1795658400000;
    memcpy(journal.outcome, "failed", 7);
    memcpy(journal.reason, "probe", 6);
    memcpy(journal.probe, "benign", 7);
    journal.exit_status = 0;
    journal.signal = 11;
    journal.changed_at = 1795572000001;
    return journal;
}

static void same_journal(const struct journal *a, const struct journal *b)
{
    _cleanup_buf_ struct buf one = BUF_INIT;
    _cleanup_buf_ struct buf two = BUF_INIT;

    journal_text(a, &one);
    journal_text(b, &two);
    assert_string_equal(one.data, two.data);
}

static void what_is_written_reads_back_the_same_in_every_state(void **state)
{
    for (int i = STATE_IDLE; i <= STATE_REJECTED; i++) {
        _cleanup_buf_ struct buf text = BUF_INIT;
        struct journal journal = sample();
        struct journal again;

        journal.state = (enum trial_state)i;
        journal_text(&journal, &text);
        assert_true(text.len <= JOURNAL_MAX);
        assert_int_equal(journal_parse(text.data, text.len, &again, NULL), 0);
        assert_int_equal(again.state, i);
        same_journal(&journal, &again);
    }
}

static void an_empty_record_has_a_dash_for_everything_that_is_not_there(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct journal journal, again;

    journal_reset(&journal);
    journal_text(&journal, &text);
    assert_non_null(strstr(text.data, "\nrelease -\n"));
    assert_non_null(strstr(text.data, "\nexit -\n"));
    assert_int_equal(journal_parse(text.data, text.len, &again, NULL), 0);
    same_journal(&journal, &again);
}

static void a_record_torn_at_any_byte_is_damaged(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct journal journal = sample();
    struct journal again;

    journal_text(&journal, &text);
    for (size_t len = 0; len < text.len; len++) {
        struct error error = ERROR_INIT;

        assert_int_equal(journal_parse(text.data, len, &again, &error), -EBADMSG);
        assert_true(error.text[0] != '\0');
        assert_int_equal(again.state, STATE_IDLE);
    }
}

static void a_record_with_any_bit_turned_is_damaged(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct journal journal = sample();
    struct journal again;

    journal_text(&journal, &text);
    for (size_t i = 0; i < text.len * 8; i++) {
        text.data[i / 8] = (char)(text.data[i / 8] ^ (1 << (i % 8)));
        assert_int_equal(journal_parse(text.data, text.len, &again, NULL), -EBADMSG);
        text.data[i / 8] = (char)(text.data[i / 8] ^ (1 << (i % 8)));
    }
}

static void bytes_behind_the_sum_are_damage(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct journal journal = sample();

    journal_text(&journal, &text);
    buf_add_str(&text, "x\n");
    assert_int_equal(journal_parse(text.data, text.len, &journal, NULL), -EBADMSG);
}

static void a_sum_that_fits_does_not_save_a_value_that_does_not(void **state)
{
    static const char *const wrong[][2] = {{"state soaking", "state sleeping"},
                                           {"boots 2", "boots -2"},
                                           {"signal 11", "signal 999"},
                                           {"reason probe", "reason pro be"},
                                           {"arm release", "arm both"}};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        _cleanup_buf_ struct buf text = BUF_INIT;
        _cleanup_buf_ struct buf changed = BUF_INIT;
        struct error error = ERROR_INIT;
        struct journal journal = sample();
        char sum[SHA256_HEX_SIZE];
        const char *at;

        journal_text(&journal, &text);
        text.len -= 69; /* without its sum */
        text.data[text.len] = '\0';
        at = strstr(text.data, wrong[i][0]);
        assert_non_null(at);
        buf_add(&changed, text.data, (size_t)(at - text.data));
        buf_add_str(&changed, wrong[i][1]);
        buf_add_str(&changed, at + strlen(wrong[i][0]));
        sha256_hex(changed.data, changed.len, sum);
        buf_addf(&changed, "sum %s\n", sum);
        assert_int_equal(journal_parse(changed.data, changed.len, &journal, &error), -EBADMSG);
        assert_non_null(strstr(error.text, "line"));
    }
}

static int fail_after;

static int fault(const char *call, const char *path)
{
    return fail_after-- == 0 ? -EIO : 0;
}

static void a_write_that_fails_at_any_call_leaves_the_old_record_or_the_new_one(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "journal");
    struct journal journal = sample();
    struct journal found;
    int r;

    journal.state = STATE_MARKED;
    assert_int_equal(journal_save(path, &journal, "boot", NULL), 0);
    for (int i = 0;; i++) {
        struct error error = ERROR_INIT;

        journal.state = STATE_ACTIVE;
        fail_after = i;
        file_set_fault(fault);
        r = journal_save(path, &journal, "boot", &error);
        file_set_fault(NULL);
        assert_int_equal(journal_load(path, &found, NULL), 0);
        if (r == 0)
            break;
        assert_true(error.text[0] != '\0');
        assert_true(found.state == STATE_MARKED || found.state == STATE_ACTIVE);
    }
    assert_int_equal(found.state, STATE_ACTIVE);
}

static void no_file_is_no_journal_and_a_huge_one_is_damage(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "journal");
    _cleanup_free_ char *huge = xcalloc(1, JOURNAL_MAX + 1);
    struct journal journal;

    assert_int_equal(journal_load(path, &journal, NULL), -ENOENT);
    scratch_write(path, huge, JOURNAL_MAX + 1, 0600);
    assert_int_equal(journal_load(path, &journal, NULL), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back_the_same_in_every_state),
        cmocka_unit_test(an_empty_record_has_a_dash_for_everything_that_is_not_there),
        cmocka_unit_test(a_record_torn_at_any_byte_is_damaged),
        cmocka_unit_test(a_record_with_any_bit_turned_is_damaged),
        cmocka_unit_test(bytes_behind_the_sum_are_damage),
        cmocka_unit_test(a_sum_that_fits_does_not_save_a_value_that_does_not),
        cmocka_unit_test(a_write_that_fails_at_any_call_leaves_the_old_record_or_the_new_one),
        cmocka_unit_test(no_file_is_no_journal_and_a_huge_one_is_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
