#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../scratch.h"
#include "agent/halts.h"
#include "agent/identity.h"
#include "agent/outbox.h"
#include "agent/paths.h"
#include "agent/plan.h"
#include "agent/product.h"
#include "agent/rejected.h"
#include "base/encode.h"
#include "trust/envelope.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define DAY (24 * 3600 * INT64_C(1000))
#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define PERMIT "00112233445566778899aabbccddeeff"

static void a_rejected_digest_is_never_tried_again_by_itself(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "rejected");

    assert_false(rejected_has(path, A, 0, NULL));
    assert_int_equal(rejected_add(path, A, "probe", 1000, NULL), 0);
    assert_true(rejected_has(path, A, 1000, NULL));
    assert_true(rejected_has(path, A, 400 * DAY, NULL));
    assert_false(rejected_has(path, B, 1000, NULL));
}

static void a_power_cut_or_no_answer_gets_one_more_try_after_a_day(void **state)
{
    static const char *const causes[] = {"power-cut", "unconfirmed"};

    for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
        _cleanup_scratch_ char *dir = scratch_make();
        _cleanup_free_ char *path = path_join(dir, "rejected");

        assert_int_equal(rejected_add(path, A, causes[i], 1000, NULL), 0);
        assert_int_equal(rejected_add(path, B, "halted", 1000, NULL), 0);
        assert_true(rejected_has(path, A, 1000 + DAY - 1, NULL));
        assert_false(rejected_has(path, A, 1000 + DAY, NULL));
        assert_int_equal(rejected_add(path, A, causes[i], 1000 + DAY, NULL), 0);
        assert_true(rejected_has(path, A, 1000 + 400 * DAY, NULL));
        assert_true(rejected_has(path, B, 1000 + 400 * DAY, NULL));
    }
}

static void a_list_of_rejections_that_cannot_be_read_rejects_everything(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    struct error error = ERROR_INIT;

    assert_true(rejected_has(dir, A, 0, &error)); /* a folder where the file should be */
    assert_true(error.text[0] != '\0');
}

static void put(const char *dir, const char *permit, const char *outcome, int number)
{
    _cleanup_json_ json_t *body = json_pack("{s:i}", "n", number);

    assert_int_equal(outbox_put(dir, permit, outcome, body, NULL), 0);
}

static int first(const char *dir, char **ret_name)
{
    _cleanup_json_ json_t *body = NULL;

    assert_int_equal(outbox_first(dir, ret_name, &body, NULL), 0);
    return (int)json_integer_value(json_object_get(body, "n"));
}

static void reports_leave_the_outbox_in_the_order_in_which_they_were_put(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *box = path_join(dir, "outbox");

    put(box, PERMIT, "interrupted", 1);
    put(box, PERMIT, "healthy", 2);
    put(box, PERMIT, "reverted", 3);
    put(box, PERMIT, "healthy", 4); /* again: in its old place */
    assert_int_equal(outbox_count(box), 3);
    for (int i = 0; i < 3; i++) {
        static const int expected[] = {1, 4, 3};
        _cleanup_free_ char *name = NULL;

        assert_int_equal(first(box, &name), expected[i]);
        assert_int_equal(outbox_drop(box, name, NULL), 0);
    }
    assert_int_equal(outbox_count(box), 0);
}

static void a_damaged_report_is_put_aside_and_holds_up_nobody(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *box = path_join(dir, "outbox");
    _cleanup_free_ char *damaged = path_join(box, "00000000000000000001-" PERMIT "-failed");
    _cleanup_free_ char *name = NULL;

    put(box, PERMIT, "healthy", 7);
    scratch_write(damaged, "{\"n\":", 5, 0600);
    assert_int_equal(first(box, &name), 7);
    assert_true(access(damaged, F_OK) < 0);
}

static void counter_numbers_only_grow_over_restarts_and_damage(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "counter");
    struct paths paths = {.state = dir};
    uint64_t last = 0;

    for (int restart = 0; restart < 4; restart++) {
        struct counter counter;

        if (restart == 3)
            scratch_write(path, "rubbish\n", 8, 0600);
        assert_int_equal(counter_open(&paths, &counter, &(struct error)ERROR_INIT), 0);
        for (int i = 0; i < 70; i++) {
            uint64_t number;

            assert_int_equal(counter_next(&counter, &number, NULL), 0);
            assert_true(number > last);
            last = number;
        }
        counter_close(&counter);
    }
}

static char *halts_text(const struct secret_key *key, int number, const char *release)
{
    _cleanup_json_ json_t *value = json_pack(
        "{s:i, s:[{s:i, s:s, s:s, s:i, s:b}]}", "number", number, "halts", "number", number,
        "release", release, "on_halt", "revert", "revert_spread_ms", 5000, "now", 0);

    return envelope_seal(key, CONTEXT_HALTS, value);
}

static void a_halts_list_never_goes_back_and_is_believed_by_its_signature_only(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "halts.json");
    struct secret_key key, other;
    struct halts halts;
    struct halt halt;
    bool newer;

    key_generate(&key);
    key_generate(&other);
    halts_open(&halts, path, &key.public);
    for (int number = 3; number >= 2; number--) {
        _cleanup_free_ char *text = halts_text(&key, number, number == 3 ? A : B);
        _cleanup_free_ char *forged = halts_text(&other, 9, B);

        assert_int_equal(halts_accept(&halts, &key.public, text, strlen(text), &newer, NULL),
                         number == 3 ? 0 : -ESTALE);
        assert_int_equal(newer, number == 3);
        assert_int_equal(halts_accept(&halts, &key.public, forged, strlen(forged), &newer, NULL),
                         -EBADMSG);
    }
    halts_close(&halts);
    halts_open(&halts, path, &key.public); /* it was kept */
    assert_int_equal(halts_number(&halts), 3);
    assert_true(halts_find(&halts, A, &halt));
    assert_true(halt.revert && !halt.now && halt.spread > 4.9 && halt.spread < 5.1);
    assert_false(halts_find(&halts, B, &halt));
    assert_false(halts_find(&halts, "", &halt));
    halts_close(&halts);
}

static void nothing_is_made_outside_the_root_though_a_link_leads_there(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *root = path_join(dir, "root");
    _cleanup_free_ char *outside = path_join(dir, "outside");
    _cleanup_free_ char *var = path_join(root, "var");
    _cleanup_free_ char *inside = path_join(root, "outside");
    struct paths paths;

    assert_int_equal(dir_make(AT_FDCWD, root, 0755, NULL), 0);
    assert_int_equal(dir_make(AT_FDCWD, outside, 0755, NULL), 0);
    assert_int_equal(dir_make(AT_FDCWD, inside, 0755, NULL), 0);
    assert_int_equal(symlink("../../../outside", var), 0); /* stays in the root, as chroot has it */
    assert_int_equal(paths_open(root, &paths, NULL), 0);
    assert_int_equal(strncmp(paths.state, inside, strlen(inside)), 0);
    paths_free(&paths);
    _cleanup_free_ char *lib = path_join(outside, "lib");
    assert_true(access(lib, F_OK) < 0);
}

static void a_device_has_the_place_that_the_protocol_gives_it(void **state)
{
    double place = plan_place(A, B, "salt");
    uint8_t sum[32];
    uint64_t expected = 0;
    const char *text = A "\n" B "\nsalt\n";

    sha256(text, strlen(text), sum);
    for (int i = 0; i < 8; i++)
        expected = expected << 8 | sum[i];
    assert_true(place >= 0 && place < 1);
    assert_true(place * 18446744073709551616.0 <= (double)expected + 4096 &&
                place * 18446744073709551616.0 >= (double)expected - 4096);
}

static void one_product_at_a_time_holds_the_devices_trial(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    struct config_product names[] = {{.name = (char *)"one"}, {.name = (char *)"two"}};
    struct agent agent = {.trial_path = path_join(dir, "trial")};
    struct product one = {.agent = &agent, .config = &names[0]};
    struct product two = {.agent = &agent, .config = &names[1]};
    struct error error = ERROR_INIT;

    (void)pthread_mutex_init(&agent.trial_lock, NULL);
    assert_int_equal(trial_take(&one, &error), 0);
    assert_int_equal(trial_take(&two, &error), -EBUSY);
    assert_non_null(strstr(error.text, "one holds the device's one trial"));
    assert_int_equal(trial_take(&one, &error), 0);
    trial_drop(&two); /* what it does not hold */
    assert_int_equal(trial_take(&two, &error), -EBUSY);
    trial_drop(&one);
    assert_int_equal(trial_take(&two, &error), 0);
    (void)pthread_mutex_destroy(&agent.trial_lock);
    free(agent.trial_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rejected_digest_is_never_tried_again_by_itself),
        cmocka_unit_test(a_power_cut_or_no_answer_gets_one_more_try_after_a_day),
        cmocka_unit_test(a_list_of_rejections_that_cannot_be_read_rejects_everything),
        cmocka_unit_test(reports_leave_the_outbox_in_the_order_in_which_they_were_put),
        cmocka_unit_test(a_damaged_report_is_put_aside_and_holds_up_nobody),
        cmocka_unit_test(counter_numbers_only_grow_over_restarts_and_damage),
        cmocka_unit_test(a_halts_list_never_goes_back_and_is_believed_by_its_signature_only),
        cmocka_unit_test(nothing_is_made_outside_the_root_though_a_link_leads_there),
        cmocka_unit_test(a_device_has_the_place_that_the_protocol_gives_it),
        cmocka_unit_test(one_product_at_a_time_holds_the_devices_trial),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
