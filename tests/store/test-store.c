/* The SQLite backend: rows come back as they went in, and what was not committed never was. */
#include "../scratch.h"
#include "base/buf.h"
#include "store/store.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ID "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct fixture {
    char *directory, *path;
    struct store *store;
};

static struct store *open_store(const char *path)
{
    struct store *store;
    struct error error;

    if (store_open_sqlite(path, &store, &error) < 0)
        fail_msg("%s", error.text);
    return store;
}

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);

    f->directory = scratch_make();
    f->path = path_join(f->directory, "store.db");
    f->store = open_store(f->path);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    if (f->store)
        f->store->does->close(f->store);
    scratch_remove(&f->directory);
    free(f->path);
    free(f);
    return 0;
}

static void ok(int r, const struct error *error)
{
    if (r < 0)
        fail_msg("%d: %s", r, error->text);
}

static const struct store_device device = {
    .number = 1,
    .id = ID,
    .public_key = {1, 2, 3},
    .organisation = "acme",
    .ring = "default",
    .machine = ID,
    .attributes = "{\"os\":\"linux\"}",
    .boots = 3,
    .standing = 1,
    .enrolled_ms = 5,
    .seen_ms = 6,
};

static void put_device(struct store *store)
{
    struct error error = ERROR_INIT;

    ok(store->does->begin(store, &error), &error);
    ok(store->does->device_put(store, &device, &error), &error);
    ok(store->does->evidence_add(store,
                                 &(struct store_evidence){.device = 1,
                                                          .seq = 7,
                                                          .call = "begin",
                                                          .body = "b\0dy",
                                                          .body_len = 4,
                                                          .signature = ID,
                                                          .answer = "answer"},
                                 &error),
       &error);
    ok(store->does->commit(store, &error), &error);
}

static int check_device(void *user, const struct store_device *row, uint64_t last_seq)
{
    assert_string_equal(row->id, ID);
    assert_memory_equal(row->public_key, device.public_key, 32);
    assert_null(row->group);
    assert_string_equal(row->attributes, device.attributes);
    assert_int_equal(row->boots, 3);
    assert_int_equal(last_seq, 7);
    (*(int *)user)++;
    return 0;
}

static int check_evidence(void *user, const struct store_evidence *row)
{
    assert_int_equal(row->body_len, 4);
    assert_memory_equal(row->body, "b\0dy", 4);
    assert_string_equal(row->answer, "answer");
    return 0;
}

static void rows_come_back_as_they_went_in_over_a_reopen(void **state)
{
    struct fixture *f = *state;
    struct error error = ERROR_INIT;
    int seen = 0;

    put_device(f->store);
    f->store->does->close(f->store);
    f->store = open_store(f->path);
    ok(f->store->does->devices(f->store, check_device, &seen, &error), &error);
    assert_int_equal(seen, 1);
    ok(f->store->does->evidence(f->store, 1, 7, check_evidence, NULL, &error), &error);
    assert_int_equal(f->store->does->evidence(f->store, 1, 8, check_evidence, NULL, &error),
                     -ENOENT);
}

static int count_event(void *user, const struct store_event *row)
{
    (*(int *)user)++;
    return 0;
}

static void add_event(struct store *store, double t)
{
    struct error error = ERROR_INIT;

    ok(store->does->event_add(store, &(struct store_event){.rollout = "r", .t = t, .json = "{}"},
                              &error),
       &error);
}

static void what_was_rolled_back_never_was(void **state)
{
    struct fixture *f = *state;
    struct error error = ERROR_INIT;
    int seen = 0;

    ok(f->store->does->begin(f->store, &error), &error);
    add_event(f->store, 1);
    f->store->does->rollback(f->store);
    f->store->does->rollback(f->store); /* twice does no harm */
    ok(f->store->does->events(f->store, "r", 0, 0, count_event, &seen, &error), &error);
    assert_int_equal(seen, 0);
    ok(f->store->does->begin(f->store, &error), &error);
    add_event(f->store, 1);
    add_event(f->store, 2);
    ok(f->store->does->commit(f->store, &error), &error);
    ok(f->store->does->events(f->store, "r", 0, 1, count_event, &seen, &error), &error);
    assert_int_equal(seen, 1);
    ok(f->store->does->events(f->store, "other", 0, 0, count_event, &seen, &error), &error);
    assert_int_equal(seen, 1);
}

static void a_second_body_with_one_seq_is_refused(void **state)
{
    struct fixture *f = *state;
    struct error error = ERROR_INIT;

    put_device(f->store);
    ok(f->store->does->begin(f->store, &error), &error);
    assert_int_equal(f->store->does->evidence_add(f->store,
                                                  &(struct store_evidence){.device = 1,
                                                                           .seq = 7,
                                                                           .call = "begin",
                                                                           .body = "x",
                                                                           .body_len = 1,
                                                                           .signature = ID,
                                                                           .answer = ""},
                                                  &error),
                     -EEXIST);
    f->store->does->rollback(f->store);
}

static int check_permit(void *user, const struct store_permit *row)
{
    *(int64_t *)user = row->state;
    assert_string_equal(row->outcome, "healthy");
    return 0;
}

static void a_permit_is_found_by_id_and_by_nonce_and_can_be_settled(void **state)
{
    struct fixture *f = *state;
    struct error error = ERROR_INIT;
    struct store_permit permit = {
        .id = "p", .nonce = "n", .device = 1, .rollout = "r", .arm = "release", .begin_seq = 1};
    int64_t found = -1;

    ok(f->store->does->begin(f->store, &error), &error);
    ok(f->store->does->permit_put(f->store, &permit, &error), &error);
    permit.state = PERMIT_SETTLED;
    permit.outcome = "healthy";
    ok(f->store->does->permit_put(f->store, &permit, &error), &error);
    ok(f->store->does->commit(f->store, &error), &error);
    ok(f->store->does->permit(f->store, "p", NULL, check_permit, &found, &error), &error);
    assert_int_equal(found, PERMIT_SETTLED);
    ok(f->store->does->permit(f->store, NULL, "n", check_permit, &found, &error), &error);
    assert_int_equal(f->store->does->permit(f->store, "q", NULL, check_permit, &found, &error),
                     -ENOENT);
    ok(f->store->does->open_permits(f->store, check_permit, &found, &error), &error);
}

static void a_newer_database_is_refused_by_version(void **state)
{
    struct fixture *f = *state;
    struct error error = ERROR_INIT;
    sqlite3 *database;

    f->store->does->close(f->store);
    f->store = NULL;
    assert_int_equal(sqlite3_open(f->path, &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database, "PRAGMA user_version=9", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(database);
    assert_int_equal(store_open_sqlite(f->path, &f->store, &error), -EUCLEAN);
    assert_non_null(strstr(error.text, "version 9"));
    f->store = NULL;
}

static void a_file_that_is_no_database_is_damaged(void **state)
{
    struct fixture *f = *state;
    struct error error = ERROR_INIT;
    char junk[4096];

    f->store->does->close(f->store);
    f->store = NULL;
    memset(junk, 'x', sizeof junk);
    scratch_write(f->path, junk, sizeof junk, 0600);
    assert_int_equal(store_open_sqlite(f->path, &f->store, &error), -EUCLEAN);
    assert_non_null(strstr(error.text, "damaged"));
    f->store = NULL;
}

/* A file that may not grow stands for a disk that is full. */
static void a_write_that_does_not_fit_fails_and_the_commits_before_it_stay(void **state)
{
    struct fixture *f = *state;
    struct error error = ERROR_INIT;
    int status, seen = 0;
    pid_t pid;

    f->store->does->close(f->store);
    f->store = NULL;
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {256 * 1024, 256 * 1024};
        struct store *store = open_store(f->path);
        int r = 0;

        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        while (r == 0) {
            r = store->does->begin(store, &error);
            for (int i = 0; i < 20 && r == 0; i++)
                r = store->does->event_add(
                    store, &(struct store_event){.rollout = "r", .t = 1, .json = ID}, &error);
            if (r == 0)
                r = store->does->commit(store, &error);
        }
        _exit(r == -EIO || r == -ENOSPC ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    f->store = open_store(f->path);
    ok(f->store->does->events(f->store, "r", 0, 0, count_event, &seen, &error), &error);
    assert_true(seen > 0 && seen % 20 == 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(rows_come_back_as_they_went_in_over_a_reopen),
        T(what_was_rolled_back_never_was),
        T(a_second_body_with_one_seq_is_refused),
        T(a_permit_is_found_by_id_and_by_nonce_and_can_be_settled),
        T(a_newer_database_is_refused_by_version),
        T(a_file_that_is_no_database_is_damaged),
        T(a_write_that_does_not_fit_fails_and_the_commits_before_it_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
