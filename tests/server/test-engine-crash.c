/* What a crash, a full disk, a locked or damaged database must not do. */
#include "engine-rig.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "server/engine-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define POLICY                                                                                     \
    "{\"class\":\"routine\",\"harm_budget\":4,\"soak\":1,\"deadline\":600,"                        \
    "\"organisation_share\":1}"
#define POLICY_SHORT                                                                               \
    "{\"class\":\"routine\",\"harm_budget\":4,\"soak\":0.5,\"deadline\":2,"                        \
    "\"organisation_share\":1}"
#define DEVICES 40

static struct rig rig;
static struct rig_device devices[DEVICES];
static char release[65], rollout[129];

static int set_up(void **state)
{
    rig_new(&rig);
    assert_int_equal(rig_open(&rig), 0);
    rig_fleet(&rig, devices, DEVICES, "acme");
    rig_release(&rig, 1, "payload one", release);
    rig_start(&rig, release, POLICY, rollout);
    return 0;
}

static int tear_down(void **state)
{
    for (size_t i = 0; i < DEVICES; i++)
        rig_device_free(&devices[i]);
    rig_free(&rig);
    return 0;
}

static void fingerprint(uint8_t ret[static 32])
{
    rollout_fingerprint(fold_rollout(rig.engine, rollout)->fold, ret);
}

/* One line a device's answered call, written only after the answer came: "<device> <seq>\n". */
static void acknowledged(int fd, size_t device, uint64_t seq)
{
    char line[64];
    int len = snprintf(line, sizeof line, "%zu %llu\n", device, (unsigned long long)seq);

    if (write(fd, line, (size_t)len) != len)
        abort();
}

/* Devices begin and report, for ever. */
static void child(int fd)
{
    char permits[DEVICES][33] = {{0}};

    if (rig_open(&rig) < 0) {
        fprintf(stderr, "%s\n", rig.error.text);
        _exit(1);
    }
    for (size_t round = 0;; round++) {
        size_t i = round % DEVICES;
        struct reply reply;

        if (permits[i][0]) {
            reply = rig_send(&rig, &devices[i], CALL_REPORT,
                             report_body(release, permits[i], "healthy", NULL));
            permits[i][0] = '\0';
        } else {
            reply = rig_send(&rig, &devices[i], CALL_BEGIN, begin_body(release, NULL));
            snprintf(permits[i], 33, "%s", reply_text(&reply, "permit"));
        }
        if (reply.status == 200)
            acknowledged(fd, i, devices[i].seq);
        reply_free(&reply);
    }
}

static int found(void *user, const struct store_evidence *row)
{
    return 0;
}

static void check_acknowledged(const char *path)
{
    FILE *file = fopen(path, "re");
    unsigned long long seq;
    size_t device, lines = 0;
    struct error error;

    assert_non_null(file);
    while (fscanf(file, "%zu %llu\n", &device, &seq) == 2) {
        const struct device *known = device_find(rig.engine, devices[device].id);

        assert_non_null(known);
        assert_int_equal(rig.engine->store->does->evidence(rig.engine->store,
                                                           (int64_t)known->index + 1, seq, found,
                                                           NULL, &error),
                         0);
        if (devices[device].seq < seq)
            devices[device].seq = seq;
        lines++;
    }
    assert_true(lines > 0);
    fclose(file);
}

static void after_sigkill_every_acknowledged_body_is_there_and_the_state_is_its_fold(void **state)
{
    _cleanup_free_ char *path = path_join(rig.directory, "acknowledged");

    rig_close(&rig);
    for (int round = 0; round < 8; round++) {
        uint8_t one[32], two[32];
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
            child(fd);
        clock_sleep(0.15 + 0.01 * round);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        close(fd);
        assert_int_equal(rig_open(&rig), 0);
        check_acknowledged(path);
        assert_null(fold_rollout(rig.engine, rollout)->mismatch);
        fingerprint(one);
        rig_close(&rig);
        /* With clocks that stand still behind it there is no outage, so nothing new happens. */
        rig_frozen = 1000;
        assert_int_equal(rig_open(&rig), 0);
        assert_null(fold_rollout(rig.engine, rollout)->mismatch);
        fingerprint(two);
        assert_memory_equal(one, two, sizeof one);
        rig_close(&rig);
        rig_frozen = 0;
        for (size_t i = 0; i < DEVICES; i++)
            devices[i].seq += 1000; /* the child's counter may be ahead of the file */
    }
    assert_int_equal(rig_open(&rig), 0);
}

static void invariant_1_no_permit_is_answered_before_it_is_stored(void **state)
{
    char permit[33], arm[16];
    struct permit *stored;

    rig_begin(&rig, &devices[0], release, permit, arm);
    rig_close(&rig);
    assert_int_equal(rig_open(&rig), 0);
    stored = permit_find(rig.engine, permit);
    assert_non_null(stored);
    assert_int_equal(stored->state, PERMIT_OPEN);
    free(stored);
}

static void invariant_8_the_state_equals_the_fold_of_its_own_events(void **state)
{
    uint8_t before[32], after[32];

    for (size_t i = 0; i < DEVICES; i++) {
        struct reply reply = rig_send(&rig, &devices[i], CALL_BEGIN, begin_body(release, NULL));
        char permit[33];

        snprintf(permit, sizeof permit, "%s", reply_text(&reply, "permit"));
        reply_free(&reply);
        if (!permit[0])
            continue;
        reply = rig_send(&rig, &devices[i], CALL_REPORT,
                         report_body(release, permit, i % 3 ? "healthy" : "declined", "busy"));
        assert_int_equal(reply.status, 200);
        reply_free(&reply);
    }
    struct reply halt = rig_admin(&rig, CALL_ROLLOUT_HALT,
                                  json_pack("{s:s, s:s}", "rollout", rollout, "reason", "drill"));
    assert_int_equal(halt.status, 200);
    reply_free(&halt);
    fingerprint(before);
    rig_close(&rig);
    assert_int_equal(rig_open(&rig), 0); /* halted: no outage is written for it */
    assert_null(fold_rollout(rig.engine, rollout)->mismatch);
    fingerprint(after);
    assert_memory_equal(before, after, 32);
}

static void sql(const char *text)
{
    _cleanup_free_ char *path = path_join(rig.directory, "store.db");
    sqlite3 *database;
    char *why = NULL;

    assert_int_equal(sqlite3_open(path, &database), SQLITE_OK);
    sqlite3_busy_timeout(database, 2000);
    if (sqlite3_exec(database, text, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", text, why);
    sqlite3_close(database);
}

static void a_decision_that_the_events_do_not_yield_pauses_the_rollout(void **state)
{
    char permit[33], arm[16];
    json_t *view;

    rig_begin(&rig, &devices[0], release, permit, arm);
    rig_close(&rig);
    sql("UPDATE events SET json = replace(json, '\"pair\":1', '\"pair\":7') WHERE decision = 1");
    assert_int_equal(rig_open(&rig), 0);
    view = rig_show(&rig, rollout);
    assert_string_equal(json_string_value(json_object_get(view, "state")), "paused");
    assert_non_null(json_object_get(view, "mismatch"));
    json_decref(view);
}

static void a_locked_database_refuses_and_loses_nothing(void **state)
{
    _cleanup_free_ char *path = path_join(rig.directory, "store.db");
    sqlite3 *other;
    struct reply reply;
    char permit[33], arm[16];
    uint8_t before[32], after[32];

    rig_begin(&rig, &devices[0], release, permit, arm);
    fingerprint(before);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    reply = rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "healthy", NULL));
    assert_int_equal(reply.status, 503);
    assert_string_equal(reply.code, "storage");
    assert_true(reply.retry_after > 0);
    assert_non_null(strstr(reply.detail, "another process"));
    reply_free(&reply);
    sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(other);
    fingerprint(after);
    assert_memory_equal(before, after, 32);
    clock_sleep(1.2);
    reply = rig_send_again(&rig, &devices[0]);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
}

static void another_server_is_told_that_the_folder_is_held(void **state)
{
    struct rig second = rig;

    second.engine = NULL;
    assert_int_equal(rig_open(&second), -EBUSY);
    assert_non_null(strstr(second.error.text, "another server"));
}

static void a_damaged_database_is_named_with_the_way_out(void **state)
{
    _cleanup_free_ char *path = path_join(rig.directory, "store.db");
    uint8_t junk[512];
    int fd;

    rig_close(&rig);
    sql("PRAGMA wal_checkpoint(TRUNCATE)");
    memset(junk, 0xa5, sizeof junk);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (off_t at = 4096; at < 4096 * 12; at += 4096)
        assert_int_equal(pwrite(fd, junk, sizeof junk, at), sizeof junk);
    close(fd);
    assert_int_equal(rig_open(&rig), -EUCLEAN);
    assert_non_null(strstr(rig.error.text, "damaged"));
    assert_non_null(strstr(rig.error.text, "backup"));
    assert_null(rig.engine);
}

/* A disk of our own, where this user may mount one. */
static bool small_disk(const char *size)
{
    _cleanup_free_ char *options = xasprintf("size=%s", size);

    return mount("none", rig.directory, "tmpfs", 0, options) == 0;
}

static void fill_disk(int *ret_fd)
{
    _cleanup_free_ char *path = path_join(rig.directory, "ballast");
    char block[4096] = {0};

    *ret_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(*ret_fd, block, sizeof block) > 0)
        ;
}

static void empty_disk(int fd)
{
    _cleanup_free_ char *path = path_join(rig.directory, "ballast");

    close(fd);
    unlink(path);
}

static void a_full_disk_refuses_and_the_server_goes_on_by_itself_when_there_is_room(void **state)
{
    struct reply reply;
    char permit[33], arm[16];
    int ballast;
    size_t answered = 0;
    bool refused;
    json_t *view;

    rig_new(&rig);
    if (!small_disk("16M")) {
        rig_free(&rig);
        skip();
    }
    rig.min_free = 0;
    assert_int_equal(rig_open(&rig), 0);
    rig_fleet(&rig, devices, 8, "acme");
    rig_release(&rig, 1, "payload one", release);
    rig_start(&rig, release, POLICY_SHORT, rollout);
    rig_begin(&rig, &devices[0], release, permit, arm);
    fill_disk(&ballast);
    /* The log of the database has a little room left before it must grow. */
    for (refused = false; !refused && answered < 100000; answered++) {
        reply = rig_send(&rig, &devices[1], CALL_STATUS,
                         json_pack("{s:s, s:[], s:{}}", "boot", "b", "products", "attributes"));
        refused = reply.status == 503;
        assert_true(refused ? strstr(reply.detail, "full") != NULL : reply.status == 200);
        reply_free(&reply);
    }
    assert_true(refused);
    clock_sleep(2.5);
    empty_disk(ballast);
    clock_sleep(1.2);
    reply = rig_send(&rig, &devices[0], CALL_REPORT, report_body(release, permit, "healthy", NULL));
    if (reply.status != 200)
        fail_msg("%u %s %s", reply.status, reply.code, reply.detail);
    reply_free(&reply);
    view = rig_show(&rig, rollout);
    assert_int_equal(count_of(view, "silent"), 0);
    json_decref(view);
    rig_close(&rig);
    assert_int_equal(rig_open(&rig), 0);
    assert_null(fold_rollout(rig.engine, rollout)->mismatch);
    rig_close(&rig);
    umount(rig.directory);
    for (size_t i = 0; i < 8; i++)
        rig_device_free(&devices[i]);
    rig_free(&rig);
}

static void invariant_4_a_halt_goes_through_while_the_disk_is_too_full_for_bodies(void **state)
{
    struct reply reply;

    rig_close(&rig);
    rig.min_free = UINT64_MAX;
    assert_int_equal(rig_open(&rig), 0);
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NULL));
    assert_int_equal(reply.status, 503);
    assert_string_equal(reply.code, "storage");
    assert_non_null(strstr(reply.detail, "Free some space"));
    reply_free(&reply);
    reply = rig_admin(&rig, CALL_ROLLOUT_HALT,
                      json_pack("{s:s, s:s}", "rollout", rollout, "reason", "now"));
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    rig_close(&rig);
    rig.min_free = 0;
    assert_int_equal(rig_open(&rig), 0);
    reply = rig_send(&rig, &devices[0], CALL_BEGIN, begin_body(release, NULL));
    assert_string_equal(reply_text(&reply, "reason"), "halted");
    reply_free(&reply);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(after_sigkill_every_acknowledged_body_is_there_and_the_state_is_its_fold),
        T(invariant_1_no_permit_is_answered_before_it_is_stored),
        T(invariant_8_the_state_equals_the_fold_of_its_own_events),
        T(a_decision_that_the_events_do_not_yield_pauses_the_rollout),
        T(a_locked_database_refuses_and_loses_nothing),
        T(another_server_is_told_that_the_folder_is_held),
        T(a_damaged_database_is_named_with_the_way_out),
        cmocka_unit_test(a_full_disk_refuses_and_the_server_goes_on_by_itself_when_there_is_room),
        T(invariant_4_a_halt_goes_through_while_the_disk_is_too_full_for_bodies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
