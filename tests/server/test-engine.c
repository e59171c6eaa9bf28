/* The engine's calls, one sentence a test. */
#include "engine-rig.h"

#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define POLICY                                                                                     \
    "{\"class\":\"routine\",\"harm_budget\":4,\"soak\":0.2,\"deadline\":2,"                        \
    "\"organisation_share\":1}"
#define POLICY_ALONE                                                                               \
    "{\"class\":\"routine\",\"harm_budget\":4,\"soak\":0.2,\"deadline\":2,\"placebo\":\"none\","   \
    "\"organisation_share\":1}"

#define NONCE "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct rig rig;
static struct rig_device devices[RIG_DEVICES];
static char release[65], rollout[129];

static int set_up(void **state)
{
    rig_new(&rig);
    assert_int_equal(rig_open(&rig), 0);
    return 0;
}

static int tear_down(void **state)
{
    for (size_t i = 0; i < RIG_DEVICES; i++)
        rig_device_free(&devices[i]);
    rig_free(&rig);
    return 0;
}

static void running(size_t count, const char *policy)
{
    rig_fleet(&rig, devices, count, "acme");
    rig_release(&rig, 1, "payload one", release);
    rig_start(&rig, release, policy, rollout);
}

#define assert_refused(reply, want_status, want_code)                                              \
    do {                                                                                           \
        if ((reply).status != (want_status) || strcmp((reply).code, (want_code)) != 0)             \
            fail_msg("%u %s: %s, expected %u %s", (reply).status, (reply).code, (reply).detail,    \
                     (unsigned)(want_status), (want_code));                                        \
        reply_free(&(reply));                                                                      \
    } while (0)

#define assert_answer(reply, name, want)                                                           \
    do {                                                                                           \
        if ((reply).status != 200 || strcmp(reply_text(&(reply), (name)), (want)) != 0)            \
            fail_msg("%u %s %s: %s is '%s', expected '%s'", (reply).status, (reply).code,          \
                     (reply).detail, (name), reply_text(&(reply), (name)), (want));                \
        reply_free(&(reply));                                                                      \
    } while (0)

static void a_device_enrols_and_its_certificate_is_signed(void **state)
{
    struct reply token = rig_admin(&rig, CALL_TOKEN_NEW,
                                   json_pack("{s:s, s:s}", "organisation", "acme", "ring", "two"));
    struct reply reply, again;
    struct error error;
    json_t *certificate;

    rig_device_new(&devices[0]);
    reply = rig_enroll(&rig, &devices[0], reply_text(&token, "token"));
    assert_int_equal(reply.status, 200);
    assert_int_equal(envelope_open_json(&rig.enrolment.public, CONTEXT_CERTIFICATE,
                                        json_object_get(reply.value, "certificate"), &certificate,
                                        &error),
                     0);
    assert_string_equal(json_string_value(json_object_get(certificate, "organisation")), "acme");
    assert_string_equal(json_string_value(json_object_get(certificate, "ring")), "two");
    again = rig_send_again(&rig, &devices[0]);
    assert_string_equal(again.text, reply.text);
    reply_free(&again);
    reply_free(&reply);
    json_decref(certificate);

    rig_device_new(&devices[1]);
    reply = rig_enroll(&rig, &devices[1], reply_text(&token, "token"));
    assert_refused(reply, 403, "token-used-up");
    reply = rig_enroll(&rig, &devices[1], "nonsense");
    assert_refused(reply, 403, "token-unknown");
    reply_free(&token);

    token = rig_admin(&rig, CALL_TOKEN_NEW,
                      json_pack("{s:s, s:i}", "organisation", "acme", "expires_ms", 1000));
    rig_wall_offset = 10;
    reply = rig_enroll(&rig, &devices[1], reply_text(&token, "token"));
    assert_refused(reply, 403, "token-expired");
    rig_wall_offset = 0;
    memset(devices[0].machine, 'a', 64);
    reply = rig_enroll(&rig, &devices[0], reply_text(&token, "token"));
    assert_refused(reply, 409, "machine-mismatch");
    reply_free(&token);
}

static void a_good_release_reaches_everybody(void **state)
{
    size_t left = 8;
    bool through[8] = {false};
    json_t *view;

    running(8, POLICY);
    for (int round = 0; round < 200 && left > 0; round++) {
        for (size_t i = 0; i < 8; i++) {
            struct reply reply;
            char permit[33], arm[16];

            if (through[i])
                continue;
            reply = rig_send(&rig, &devices[i], CALL_BEGIN, begin_body(release, NULL));
            assert_int_equal(reply.status, 200);
            if (strcmp(reply_text(&reply, "answer"), "permit") != 0) {
                reply_free(&reply);
                continue;
            }
            snprintf(permit, sizeof permit, "%s", reply_text(&reply, "permit"));
            snprintf(arm, sizeof arm, "%s", reply_text(&reply, "arm"));
            reply_free(&reply);
            reply = rig_send(&rig, &devices[i], CALL_REPORT,
                             report_body(release, permit, "healthy", NULL));
            assert_answer(reply, "answer", "confirm");
            if (strcmp(arm, "release") == 0) {
                through[i] = true;
                left--;
            }
        }
    }
    assert_int_equal(left, 0);
    view = rig_show(&rig, rollout);
    assert_string_equal(json_string_value(json_object_get(view, "state")), "done");
    assert_int_equal(count_of(view, "healthy"), 8);
    assert_int_equal(count_of(view, "failed"), 0);
    json_decref(view);
}

static void the_same_nonce_gets_the_same_answer(void **state)
{
    struct reply first, again;

    running(2, POLICY);
    first = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NONCE));
    assert_string_equal(reply_text(&first, "answer"), "permit");
    again = rig_send_again(&rig, &devices[0]);
    assert_string_equal(again.text, first.text);
    reply_free(&again);
    again = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NONCE));
    assert_string_equal(again.text, first.text);
    reply_free(&again);

    rig_close(&rig);
    assert_int_equal(rig_open(&rig), 0);
    again = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NONCE));
    assert_string_equal(again.text, first.text);
    reply_free(&again);
    reply_free(&first);
    again = rig_send(&rig, &devices[1], CALL_BEGIN, begin_body(release, NONCE));
    assert_refused(again, 409, "nonce-of-another");
    again = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NULL));
    assert_refused(again, 409, "open-permit");
}

static void a_seq_that_goes_back_is_refused(void **state)
{
    struct reply reply;
    char permit[33], arm[16];

    running(2, POLICY);
    devices[0].seq = 10;
    rig_begin(&rig, &devices[0], release, permit, arm);
    reply =
        rig_send_with_seq(&rig, &devices[0], CALL_STATUS, 5,
                          json_pack("{s:s, s:[], s:{}}", "boot", "b", "products", "attributes"));
    assert_refused(reply, 409, "seq-replayed");
    /* nothing changed: a good one still goes through */
    reply = rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "healthy", NULL));
    assert_answer(reply, "answer", "confirm");
}

static void a_clone_is_quarantined_with_its_original(void **state)
{
    struct reply reply, token;
    char permit[33], arm[16];
    struct public_key key;

    running(2, POLICY);
    rig_begin(&rig, &devices[0], release, permit, arm);
    reply = rig_send_with_seq(
        &rig, &devices[0], CALL_STATUS, devices[0].seq,
        json_pack("{s:s, s:[], s:{}}", "boot", "other", "products", "attributes"));
    assert_refused(reply, 409, "clone");
    assert_int_equal(engine_device_key(rig.engine, devices[0].id, &key), STANDING_QUARANTINED);
    reply = rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "healthy", NULL));
    assert_refused(reply, 403, "quarantined");
    rig_close(&rig);
    assert_int_equal(rig_open(&rig), 0);
    assert_int_equal(engine_device_key(rig.engine, devices[0].id, &key), STANDING_QUARANTINED);

    token = rig_admin(&rig, CALL_TOKEN_NEW, json_pack("{s:s}", "organisation", "acme"));
    reply = rig_enroll(&rig, &devices[0], reply_text(&token, "token"));
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    reply_free(&token);
    assert_int_equal(engine_device_key(rig.engine, devices[0].id, &key), STANDING_GOOD);
}

static void a_retired_device_is_refused(void **state)
{
    struct reply reply;
    struct public_key key;

    running(2, POLICY);
    reply = rig_admin(&rig, CALL_DEVICE_RETIRE,
                      json_pack("{s:s, s:s}", "device", devices[0].id, "reason", "sold"));
    assert_answer(reply, "standing", "retired");
    assert_int_equal(engine_device_key(rig.engine, devices[0].id, &key), STANDING_RETIRED);
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NULL));
    assert_refused(reply, 403, "device-retired");
}

static void reports_are_idempotent_by_permit_and_outcome(void **state)
{
    struct reply first, again;
    char permit[33], arm[16];

    running(3, POLICY);
    rig_begin(&rig, &devices[0], release, permit, arm);
    first = rig_send(&rig, &devices[1], CALL_REPORT, report_body(release, permit, "healthy", NULL));
    assert_refused(first, 403, "permit-of-another");
    first = rig_send(&rig, &devices[0], CALL_REPORT,
                     report_body(release, "00000000000000000000000000000000", "healthy", NULL));
    assert_refused(first, 404, "permit-unknown");
    first = rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "failed", NULL));
    assert_refused(first, 400, "member-missing");
    first = rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "healthy", NULL));
    assert_int_equal(first.status, 200);
    again = rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "healthy", NULL));
    assert_string_equal(first.text, again.text);
    reply_free(&first);
    reply_free(&again);
    again =
        rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "failed", "probe"));
    assert_refused(again, 409, "outcome-settled");
}

static void invariant_3_silence_is_failure_and_a_late_report_changes_no_evidence(void **state)
{
    struct reply reply;
    char permit[33], arm[16];
    json_t *view;

    running(2, POLICY_ALONE);
    rig_begin(&rig, &devices[0], release, permit, arm);
    rig_mono_offset = rig_mono_offset + 1.5;
    clock_sleep(1.2);
    view = rig_show(&rig, rollout);
    assert_int_equal(count_of(view, "silent"), 1);
    assert_int_equal(count_of(view, "failed"), 1);
    json_decref(view);
    reply = rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "healthy", NULL));
    assert_answer(reply, "answer", "confirm");
    view = rig_show(&rig, rollout);
    assert_int_equal(count_of(view, "failed"), 1);
    assert_int_equal(count_of(view, "late"), 1);
    json_decref(view);
}

static void invariant_3_a_wall_clock_that_jumps_moves_no_deadline(void **state)
{
    char permit[33], arm[16];
    json_t *view;

    running(2, POLICY_ALONE);
    rig_begin(&rig, &devices[0], release, permit, arm);
    rig_wall_offset = 366 * 86400.0;
    clock_sleep(0.3);
    view = rig_show(&rig, rollout);
    assert_int_equal(count_of(view, "silent"), 0);
    json_decref(view);
    rig_wall_offset = -366 * 86400.0;
    clock_sleep(0.3);
    view = rig_show(&rig, rollout);
    assert_int_equal(count_of(view, "silent"), 0);
    json_decref(view);

    /* not even over a restart with the clock a year back */
    rig_close(&rig);
    assert_int_equal(rig_open(&rig), 0);
    view = rig_show(&rig, rollout);
    assert_int_equal(count_of(view, "silent"), 0);
    assert_int_equal(count_of(view, "in_flight"), 1);
    json_decref(view);
}

static void invariant_3_the_servers_own_downtime_is_nobodys_failure(void **state)
{
    struct reply reply;
    char permit[33], arm[16];
    json_t *view;

    running(2, POLICY_ALONE);
    rig_begin(&rig, &devices[0], release, permit, arm);
    rig_close(&rig);
    rig_wall_offset = 86400;
    assert_int_equal(rig_open(&rig), 0);
    view = rig_show(&rig, rollout);
    assert_int_equal(count_of(view, "silent"), 0);
    json_decref(view);
    reply = rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "healthy", NULL));
    assert_answer(reply, "answer", "confirm");
    view = rig_show(&rig, rollout);
    assert_int_equal(count_of(view, "healthy"), 1);
    assert_int_equal(count_of(view, "late"), 0);
    json_decref(view);
}

static void invariant_2_a_bad_release_harms_no_more_than_the_budget(void **state)
{
    int64_t begun = 0;
    json_t *view;
    const char *first;

    running(40, POLICY);
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < 40; i++) {
            char permit[33];
            bool harmed;
            struct reply reply = rig_send(&rig, &devices[i], CALL_BEGIN, begin_body(release, NULL));

            if (strcmp(reply_text(&reply, "answer"), "permit") != 0) {
                reply_free(&reply);
                continue;
            }
            harmed = strcmp(reply_text(&reply, "arm"), "release") == 0;
            begun += harmed;
            snprintf(permit, sizeof permit, "%s", reply_text(&reply, "permit"));
            reply_free(&reply);
            reply = rig_send(&rig, &devices[i], CALL_REPORT,
                             report_body(release, permit, harmed ? "failed" : "healthy",
                                         harmed ? "probe" : NULL));
            assert_int_equal(reply.status, 200);
            reply_free(&reply);
        }
    view = rig_show(&rig, rollout);
    assert_string_equal(json_string_value(json_object_get(view, "state")), "halted");
    assert_true(begun >= 1 && begun <= 5);
    first = json_string_value(json_array_get(json_object_get(view, "explain"), 0));
    assert_non_null(strstr(first, "Halted at "));
    json_decref(view);
}

static void halt(const char *name)
{
    struct reply reply = rig_admin(&rig, CALL_ROLLOUT_HALT,
                                   json_pack("{s:s, s:s}", "rollout", name, "reason", "a drill"));

    assert_answer(reply, "state", "halted");
}

struct held {
    _Atomic int calls;
    _Atomic bool with_halts;
};

static void leash_done(void *user, struct http_blob *halts)
{
    struct held *held = user;

    held->with_halts = halts != NULL;
    held->calls++;
}

static void invariant_4_after_a_halt_nothing_of_the_release_is_given(void **state)
{
    struct held held = {0};
    struct reply reply;
    char permit[33], arm[16], name[129], other[65];
    struct http_blob *halts;

    running(6, POLICY_ALONE);
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NONCE));
    snprintf(permit, sizeof permit, "%s", reply_text(&reply, "permit"));
    reply_free(&reply);
    assert_int_equal(engine_leash(rig.engine, permit, leash_done, &held), 0);
    assert_int_equal(engine_leash(rig.engine, "00", leash_done, &held), -ENOENT);
    halt(rollout);
    clock_sleep(0.05);
    assert_int_equal(held.calls, 1);
    assert_true(held.with_halts);
    assert_int_equal(engine_leash(rig.engine, permit, leash_done, &held), -EEXIST);
    halts = engine_halts(rig.engine);
    assert_non_null(halts);
    http_blob_unref(halts);

    for (int restarted = 0; restarted < 2; restarted++) {
        reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NONCE));
        assert_answer(reply, "answer", "no");
        reply = rig_send(&rig, &devices[1], CALL_BEGIN, begin_body(release, NULL));
        assert_answer(reply, "reason", "halted");
        reply = rig_admin(
            &rig, CALL_ROLLOUT_START,
            json_pack("{s:s, s:o}", "release", release, "policy", json_loads(POLICY, 0, NULL)));
        assert_refused(reply, 409, "release-halted");
        reply = rig_publish(&rig, 1, "payload one", NULL, NULL);
        assert_refused(reply, 409, "release-halted");
        reply = rig_publish(&rig, 2, "payload one", NULL, NULL);
        assert_refused(reply, 409, "payload-halted");
        rig_close(&rig);
        assert_int_equal(rig_open(&rig), 0);
    }
    /* a trial obeys; that is no failure */
    reply = rig_send(&rig, &devices[0], CALL_REPORT,
                     report_body(release, permit, "reverted", "halted"));
    assert_answer(reply, "answer", "revert");
    json_t *view = rig_show(&rig, rollout);
    assert_int_equal(count_of(view, "failed"), 0);
    assert_int_equal(count_of(view, "obeyed_halt"), 1);
    json_decref(view);

    reply = rig_publish(&rig, 2, "payload one", NULL,
                        json_pack("{s:s, s:s}", "skipped", "drill", "acknowledge_halted_payload",
                                  "the demo shows it again"));
    assert_int_equal(reply.status, 200);
    snprintf(other, sizeof other, "%s", reply_text(&reply, "release"));
    reply_free(&reply);
    rig_start(&rig, other, POLICY_ALONE, name);
    rig_begin(&rig, &devices[2], other, permit, arm);
}

static void confirmed_devices_go_back_with_revert_permits(void **state)
{
    struct reply reply;
    char permit[33], arm[16];
    json_t *body;

    running(4, POLICY_ALONE);
    rig_begin(&rig, &devices[0], release, permit, arm);
    reply = rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "healthy", NULL));
    assert_answer(reply, "answer", "confirm");
    body = begin_body(release, NULL);
    json_object_set_new(body, "purpose", json_string("revert"));
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, body);
    assert_answer(reply, "reason", "not-halted");
    halt(rollout);
    body = begin_body(release, NULL);
    json_object_set_new(body, "purpose", json_string("revert"));
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, body);
    assert_string_equal(reply_text(&reply, "arm"), "revert");
    snprintf(permit, sizeof permit, "%s", reply_text(&reply, "permit"));
    reply_free(&reply);
    reply =
        rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "reverted", NULL));
    assert_answer(reply, "answer", "revert");
    json_t *view = rig_show(&rig, rollout);
    assert_int_equal(count_of(json_object_get(view, "devices"), "reverted"), 1);
    json_decref(view);
}

static void pause_stops_permits_and_resume_gives_them_again(void **state)
{
    struct reply reply;
    char permit[33], arm[16];

    running(4, POLICY_ALONE);
    reply = rig_admin(&rig, CALL_ROLLOUT_PAUSE,
                      json_pack("{s:s, s:s}", "rollout", rollout, "reason", "lunch"));
    assert_answer(reply, "state", "paused");
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NONCE));
    assert_true(reply.retry_after > 0);
    assert_answer(reply, "reason", "paused");
    reply = rig_admin(&rig, CALL_ROLLOUT_RESUME,
                      json_pack("{s:s, s:s}", "rollout", rollout, "reason", "back"));
    assert_answer(reply, "state", "running");
    /* the nonce that was told to wait is good for another begin */
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NONCE));
    assert_answer(reply, "answer", "permit");
    reply = rig_admin(&rig, CALL_ROLLOUT_RESUME,
                      json_pack("{s:s, s:s}", "rollout", rollout, "reason", "again"));
    assert_refused(reply, 409, "rollout-not-paused");
    rig_begin(&rig, &devices[1], release, permit, arm);
}

static struct reply interrupted(const char *permit, const char *boot)
{
    json_t *body = report_body(release, permit, "interrupted", NULL);

    json_object_set_new(body, "boot", json_string(boot));
    return rig_send(&rig, &devices[0], CALL_REPORT, body);
}

static void an_orderly_shutdown_is_no_failure_but_a_third_one_is(void **state)
{
    static const struct {
        const char *boot;
        int64_t counted, silent;
    } steps[] = {
        {"a", 1, 0},              /* before the first shutdown */
        {"a", 1, 0},              /* a retry */
        {"b", 1, 0},              /* after it: may I go on? */
        {"b", 2, 0}, {"c", 2, 0}, /* the second */
        {"c", 3, 1},              /* the third is one too many */
    };
    struct reply reply;
    char permit[33], arm[16];
    json_t *view;

    running(2, POLICY_ALONE);
    rig_begin(&rig, &devices[0], release, permit, arm);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        reply = interrupted(permit, steps[i].boot);
        assert_answer(reply, "answer", "wait");
        view = rig_show(&rig, rollout);
        assert_int_equal(count_of(view, "interrupted"), steps[i].counted);
        assert_int_equal(count_of(view, "silent"), steps[i].silent);
        json_decref(view);
        if (i == 2) {
            /* its deadline was for two seconds */
            rig_mono_offset = rig_mono_offset + 1.8;
            clock_sleep(0.5);
        }
    }
}

static void two_of_an_availability_group_never_try_at_once(void **state)
{
    struct reply reply;
    json_t *body;

    running(3, POLICY_ALONE);
    for (int i = 0; i < 2; i++) {
        body = begin_body(release, NULL);
        json_object_set_new(body, "group", json_string("pair-1"));
        reply = rig_send(&rig, &devices[i], CALL_BEGIN, body);
        if (i == 0)
            assert_answer(reply, "answer", "permit");
        else
            assert_answer(reply, "reason", "group");
    }
}

static void a_newer_rollout_can_take_the_place_of_one_that_is_not_done(void **state)
{
    struct reply reply;
    char second[65];

    running(3, POLICY_ALONE);
    rig_release(&rig, 2, "payload two", second);
    reply = rig_admin(
        &rig, CALL_ROLLOUT_START,
        json_pack("{s:s, s:o}", "release", second, "policy", json_loads(POLICY, 0, NULL)));
    assert_refused(reply, 409, "rollout-running");
    reply = rig_admin(&rig, CALL_ROLLOUT_START,
                      json_pack("{s:s, s:o, s:b}", "release", second, "policy",
                                json_loads(POLICY_ALONE, 0, NULL), "supersede", true));
    assert_answer(reply, "state", "running");
    for (int restarted = 0; restarted < 2; restarted++) {
        reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NULL));
        assert_answer(reply, "reason", "paused");
        reply = rig_admin(&rig, CALL_ROLLOUT_RESUME,
                          json_pack("{s:s, s:s}", "rollout", rollout, "reason", "no"));
        assert_refused(reply, 409, "rollout-superseded");
        rig_close(&rig);
        assert_int_equal(rig_open(&rig), 0);
    }
}

static void an_organisations_hold_binds_its_own_devices_only(void **state)
{
    struct reply reply;
    char permit[33], arm[16];

    running(2, POLICY_ALONE);
    rig_fleet(&rig, devices + 2, 2, "other");
    reply = rig_admin(&rig, CALL_HOLD,
                      json_pack("{s:s, s:s, s:s}", "rollout", rollout, "organisation", "acme",
                                "reason", "quarter's end"));
    assert_answer(reply, "state", "running");
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NULL));
    assert_answer(reply, "reason", "hold");
    rig_begin(&rig, &devices[2], release, permit, arm);
    reply = rig_admin(&rig, CALL_HOLD,
                      json_pack("{s:s, s:s, s:b, s:s}", "rollout", rollout, "organisation", "acme",
                                "lift", true, "reason", "over"));
    assert_answer(reply, "state", "running");
    rig_begin(&rig, &devices[0], release, permit, arm);
}

static void an_excluded_device_is_told_no(void **state)
{
    struct reply reply;

    rig_fleet(&rig, devices, 1, "acme");
    reply = rig_publish(&rig, 1, "p", "exclude: [{os: linux}]\n", NULL);
    assert_int_equal(reply.status, 200);
    snprintf(release, sizeof release, "%s", reply_text(&reply, "release"));
    reply_free(&reply);
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NULL));
    assert_answer(reply, "reason", "not-offered");
    rig_start(&rig, release, POLICY, rollout);
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NULL));
    assert_answer(reply, "reason", "excluded");
}

static void without_the_gate_everybody_gets_it_and_nothing_halts(void **state)
{
    char permit[33], arm[16];
    json_t *view;

    rig_close(&rig);
    rig.no_gate = true;
    assert_int_equal(rig_open(&rig), 0);
    running(24, POLICY);
    for (size_t i = 0; i < 24; i++) {
        rig_begin(&rig, &devices[i], release, permit, arm);
        assert_string_equal(arm, "release");
        struct reply reply = rig_send(&rig, &devices[i], CALL_REPORT,
                                      report_body(release, permit, "failed", "probe"));
        assert_answer(reply, "gate", "off");
    }
    view = rig_show(&rig, rollout);
    assert_string_not_equal(json_string_value(json_object_get(view, "state")), "halted");
    assert_int_equal(count_of(view, "failed"), 24);
    json_decref(view);
}

static void impossible_requests_say_why(void **state)
{
    struct reply reply;

    rig_fleet(&rig, devices, 1, "acme");
    rig_release(&rig, 3, "p", release);
    reply = rig_publish(&rig, 2, "q", NULL, NULL);
    assert_refused(reply, 409, "sequence");
    reply = rig_publish(&rig, 4, "q", NULL, json_object());
    assert_refused(reply, 400, "lab-missing");
    reply = rig_admin(&rig, CALL_ROLLOUT_START, json_pack("{s:s}", "release", release));
    assert_refused(reply, 400, "policy-missing");
    reply = rig_admin(&rig, CALL_ROLLOUT_START,
                      json_pack("{s:s, s:{s:s, s:i}}", "release", release, "policy", "class",
                                "routine", "harm_budget", 0));
    assert_refused(reply, 400, "policy");
    reply = rig_admin(&rig, CALL_ROLLOUT_SHOW, json_pack("{s:s}", "rollout", "none"));
    assert_refused(reply, 404, "rollout-unknown");
    rig_start(&rig, release, POLICY, rollout);
    reply = rig_admin(
        &rig, CALL_ROLLOUT_START,
        json_pack("{s:s, s:o}", "release", release, "policy", json_loads(POLICY, 0, NULL)));
    assert_refused(reply, 409, "rollout-exists");
}

static void the_plan_is_signed_and_names_the_running_rollout(void **state)
{
    struct http_blob *plan;

    running(2, POLICY);
    plan = engine_plan(rig.engine, "rules", "stable");
    assert_non_null(plan);
    http_blob_unref(plan);
    assert_null(engine_plan(rig.engine, "rules", "other"));
    plan = engine_state(rig.engine);
    assert_non_null(plan);
    http_blob_unref(plan);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_device_enrols_and_its_certificate_is_signed),
        T(a_good_release_reaches_everybody),
        T(the_same_nonce_gets_the_same_answer),
        T(a_seq_that_goes_back_is_refused),
        T(a_clone_is_quarantined_with_its_original),
        T(a_retired_device_is_refused),
        T(reports_are_idempotent_by_permit_and_outcome),
        T(invariant_3_silence_is_failure_and_a_late_report_changes_no_evidence),
        T(invariant_3_a_wall_clock_that_jumps_moves_no_deadline),
        T(invariant_3_the_servers_own_downtime_is_nobodys_failure),
        T(invariant_2_a_bad_release_harms_no_more_than_the_budget),
        T(invariant_4_after_a_halt_nothing_of_the_release_is_given),
        T(confirmed_devices_go_back_with_revert_permits),
        T(pause_stops_permits_and_resume_gives_them_again),
        T(an_orderly_shutdown_is_no_failure_but_a_third_one_is),
        T(two_of_an_availability_group_never_try_at_once),
        T(a_newer_rollout_can_take_the_place_of_one_that_is_not_done),
        T(an_organisations_hold_binds_its_own_devices_only),
        T(an_excluded_device_is_told_no),
        T(without_the_gate_everybody_gets_it_and_nothing_halts),
        T(impossible_requests_say_why),
        T(the_plan_is_signed_and_names_the_running_rollout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
