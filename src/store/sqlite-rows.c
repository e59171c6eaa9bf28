#include "base/buf.h"
#include "store/sqlite.h"

#include <errno.h>
#include <string.h>

static struct sqlite_store *of(struct store *store)
{
    return (struct sqlite_store *)store;
}

static void sqlite_close(struct store *store)
{
    struct sqlite_store *s = of(store);

    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(s->statements[i]);
    sqlite3_close(s->database);
    free(s->path);
    free(s);
}

static int sqlite_begin(struct store *store, struct error *error)
{
    return sqlite_do(of(store), SQL_BEGIN, error, "");
}

static int sqlite_commit(struct store *store, struct error *error)
{
    return sqlite_do(of(store), SQL_COMMIT, error, "");
}

static void sqlite_rollback(struct store *store)
{
    struct error ignored;

    /* A full disk may have ended the transaction already. */
    if (!sqlite3_get_autocommit(of(store)->database))
        sqlite_do(of(store), SQL_ROLLBACK, &ignored, "");
}

static const char *text(sqlite3_stmt *statement, int column)
{
    return (const char *)sqlite3_column_text(statement, column);
}

static int64_t integer(sqlite3_stmt *statement, int column)
{
    return sqlite3_column_int64(statement, column);
}

/* Hands each row to `read`, which calls the caller's row function. */
typedef int read_row(sqlite3_stmt *statement, void *row, void *user);

static int each(struct sqlite_store *s, sqlite3_stmt *statement, read_row *read, void *row,
                void *user, struct error *error)
{
    int r;

    while ((r = sqlite_row(s, statement, error)) > 0) {
        r = read(statement, row, user);
        if (r < 0) {
            sqlite_end(statement);
            return r;
        }
    }
    return r;
}

static int only(struct sqlite_store *s, sqlite3_stmt *statement, read_row *read, void *row,
                void *user, struct error *error)
{
    int r = sqlite_row(s, statement, error);

    if (r == 0)
        return -ENOENT;
    if (r < 0)
        return r;
    r = read(statement, row, user);
    sqlite_end(statement);
    return r;
}

/* A row function in a box, since ISO C converts no function pointer to void *. */
#define BOX(kind) (&(struct kind##_box){row})
#define DEFINE_BOX(kind)                                                                           \
    struct kind##_box {                                                                            \
        store_##kind##_row *row;                                                                   \
    }
#define ROW(kind, box) (((struct kind##_box *)(box))->row)
DEFINE_BOX(event);
DEFINE_BOX(device);
DEFINE_BOX(evidence);
DEFINE_BOX(token);
DEFINE_BOX(release);
DEFINE_BOX(rollout);
DEFINE_BOX(permit);
DEFINE_BOX(halt);
DEFINE_BOX(log);

static int sqlite_heartbeat(struct store *store, int64_t t_ms, struct error *error)
{
    return sqlite_do(of(store), SQL_HEARTBEAT_PUT, error, "i", t_ms);
}

static int sqlite_last_heartbeat(struct store *store, int64_t *ret_t_ms, struct error *error)
{
    sqlite3_stmt *statement;
    int r = sqlite_bind(of(store), SQL_HEARTBEAT, &statement, error, "");

    if (r < 0 || (r = sqlite_row(of(store), statement, error)) < 0)
        return r;
    if (r == 0)
        return -ENOENT;
    *ret_t_ms = integer(statement, 0);
    sqlite_end(statement);
    return 0;
}

static int sqlite_event_add(struct store *store, const struct store_event *row, struct error *error)
{
    return sqlite_do(of(store), SQL_EVENT_ADD, error, "sdis", row->rollout, row->t,
                     (int64_t)row->decision, row->json);
}

static int read_event(sqlite3_stmt *q, void *box, void *user)
{
    struct store_event row = {
        .number = integer(q, 0),
        .rollout = text(q, 1),
        .t = sqlite3_column_double(q, 2),
        .decision = integer(q, 3) != 0,
        .json = text(q, 4),
    };
    return ROW(event, box)(user, &row);
}

static int sqlite_events(struct store *store, const char *rollout, int64_t after, uint64_t limit,
                         store_event_row *row, void *user, struct error *error)
{
    sqlite3_stmt *q;
    int r = sqlite_bind(of(store), SQL_EVENTS, &q, error, "sii", rollout, after,
                        limit > 0 && limit < INT64_MAX ? (int64_t)limit : (int64_t)-1);

    return r < 0 ? r : each(of(store), q, read_event, BOX(event), user, error);
}

static int sqlite_device_put(struct store *store, const struct store_device *row,
                             struct error *error)
{
    return sqlite_do(of(store), SQL_DEVICE_PUT, error, "isbssssssssiiii", row->number, row->id,
                     row->public_key, sizeof row->public_key, row->organisation, row->ring,
                     row->machine, row->group, row->attributes, row->products, row->agent,
                     row->boot, row->boots, row->standing, row->enrolled_ms, row->seen_ms);
}

static int read_device(sqlite3_stmt *q, void *box, void *user)
{
    struct store_device row = {
        .number = integer(q, 0),
        .id = text(q, 1),
        .organisation = text(q, 3),
        .ring = text(q, 4),
        .machine = text(q, 5),
        .group = text(q, 6),
        .attributes = text(q, 7),
        .products = text(q, 8),
        .agent = text(q, 9),
        .boot = text(q, 10),
        .boots = integer(q, 11),
        .standing = integer(q, 12),
        .enrolled_ms = integer(q, 13),
        .seen_ms = integer(q, 14),
    };
    const void *key = sqlite3_column_blob(q, 2);

    if (!key || sqlite3_column_bytes(q, 2) != (int)sizeof row.public_key)
        return -EUCLEAN;
    memcpy(row.public_key, key, sizeof row.public_key);
    return ROW(device, box)(user, &row, (uint64_t)integer(q, 15));
}

static int sqlite_devices(struct store *store, store_device_row *row, void *user,
                          struct error *error)
{
    sqlite3_stmt *q;
    int r = sqlite_bind(of(store), SQL_DEVICES, &q, error, "");

    return r < 0 ? r : each(of(store), q, read_device, BOX(device), user, error);
}

static int sqlite_evidence_add(struct store *store, const struct store_evidence *row,
                               struct error *error)
{
    return sqlite_do(of(store), SQL_EVIDENCE_ADD, error, "iisibbs", row->device, (int64_t)row->seq,
                     row->call, row->at_ms, row->body, row->body_len, row->signature, (size_t)64,
                     row->answer);
}

static int read_evidence(sqlite3_stmt *q, void *box, void *user)
{
    struct store_evidence row = {
        .device = integer(q, 0),
        .seq = (uint64_t)integer(q, 1),
        .call = text(q, 2),
        .at_ms = integer(q, 3),
        .body = sqlite3_column_blob(q, 4),
        .body_len = (size_t)sqlite3_column_bytes(q, 4),
        .signature = sqlite3_column_blob(q, 5),
        .answer = text(q, 6),
    };
    return ROW(evidence, box)(user, &row);
}

static int sqlite_evidence(struct store *store, int64_t device, uint64_t seq,
                           store_evidence_row *row, void *user, struct error *error)
{
    sqlite3_stmt *q;
    int r = sqlite_bind(of(store), SQL_EVIDENCE, &q, error, "ii", device, (int64_t)seq);

    return r < 0 ? r : only(of(store), q, read_evidence, BOX(evidence), user, error);
}

static int sqlite_token_put(struct store *store, const struct store_token *row, struct error *error)
{
    return sqlite_do(of(store), SQL_TOKEN_PUT, error, "ssssiii", row->hash, row->organisation,
                     row->ring, row->by, row->uses, row->expires_ms, row->made_ms);
}

static int read_token(sqlite3_stmt *q, void *box, void *user)
{
    struct store_token row = {
        .hash = text(q, 0),
        .organisation = text(q, 1),
        .ring = text(q, 2),
        .by = text(q, 3),
        .uses = integer(q, 4),
        .expires_ms = integer(q, 5),
        .made_ms = integer(q, 6),
    };
    return ROW(token, box)(user, &row);
}

static int sqlite_token(struct store *store, const char *hash, store_token_row *row, void *user,
                        struct error *error)
{
    sqlite3_stmt *q;
    int r = sqlite_bind(of(store), SQL_TOKEN, &q, error, "s", hash);

    return r < 0 ? r : only(of(store), q, read_token, BOX(token), user, error);
}

static int sqlite_release_add(struct store *store, const struct store_release *row,
                              struct error *error)
{
    return sqlite_do(of(store), SQL_RELEASE_ADD, error, "sssssibsssi", row->id, row->product,
                     row->channel, row->version, row->payload, row->sequence, row->manifest,
                     row->manifest_len, row->signature, row->lab, row->by, row->at_ms);
}

static int read_release(sqlite3_stmt *q, void *box, void *user)
{
    struct store_release row = {
        .id = text(q, 0),
        .product = text(q, 1),
        .channel = text(q, 2),
        .version = text(q, 3),
        .payload = text(q, 4),
        .sequence = integer(q, 5),
        .manifest = sqlite3_column_blob(q, 6),
        .manifest_len = (size_t)sqlite3_column_bytes(q, 6),
        .signature = text(q, 7),
        .lab = text(q, 8),
        .by = text(q, 9),
        .at_ms = integer(q, 10),
    };
    return ROW(release, box)(user, &row);
}

static int sqlite_releases(struct store *store, store_release_row *row, void *user,
                           struct error *error)
{
    sqlite3_stmt *q;
    int r = sqlite_bind(of(store), SQL_RELEASES, &q, error, "");

    return r < 0 ? r : each(of(store), q, read_release, BOX(release), user, error);
}

static int sqlite_rollout_add(struct store *store, const struct store_rollout *row,
                              struct error *error)
{
    return sqlite_do(of(store), SQL_ROLLOUT_ADD, error, "sssssi", row->id, row->release,
                     row->product, row->channel, row->by, row->at_ms);
}

static int read_rollout(sqlite3_stmt *q, void *box, void *user)
{
    struct store_rollout row = {
        .id = text(q, 0),
        .release = text(q, 1),
        .product = text(q, 2),
        .channel = text(q, 3),
        .by = text(q, 4),
        .at_ms = integer(q, 5),
    };
    return ROW(rollout, box)(user, &row);
}

static int sqlite_rollouts(struct store *store, store_rollout_row *row, void *user,
                           struct error *error)
{
    sqlite3_stmt *q;
    int r = sqlite_bind(of(store), SQL_ROLLOUTS, &q, error, "");

    return r < 0 ? r : each(of(store), q, read_rollout, BOX(rollout), user, error);
}

static int sqlite_permit_put(struct store *store, const struct store_permit *row,
                             struct error *error)
{
    struct sqlite_store *s = of(store);
    /* Most puts are of a permit that is there already. */
    int r = sqlite_do(s, SQL_PERMIT_UPDATE, error, "disiiiisis", row->deadline, row->state,
                      row->outcome, (int64_t)row->outcome_seq, (int64_t)row->interrupted_seq,
                      (int64_t)row->regressed_seq, (int64_t)row->reverted_seq, row->boot,
                      (int64_t)row->asked, row->id);

    if (r < 0 || sqlite3_changes(s->database) > 0)
        return r;
    return sqlite_do(s, SQL_PERMIT_ADD, error, "ssissddiisiiiisi", row->id, row->nonce, row->device,
                     row->rollout, row->arm, row->t, row->deadline, (int64_t)row->begin_seq,
                     row->state, row->outcome, (int64_t)row->outcome_seq,
                     (int64_t)row->interrupted_seq, (int64_t)row->regressed_seq,
                     (int64_t)row->reverted_seq, row->boot, (int64_t)row->asked);
}

static int read_permit(sqlite3_stmt *q, void *box, void *user)
{
    struct store_permit row = {
        .id = text(q, 0),
        .nonce = text(q, 1),
        .device = integer(q, 2),
        .rollout = text(q, 3),
        .arm = text(q, 4),
        .t = sqlite3_column_double(q, 5),
        .deadline = sqlite3_column_double(q, 6),
        .begin_seq = (uint64_t)integer(q, 7),
        .state = integer(q, 8),
        .outcome = text(q, 9),
        .outcome_seq = (uint64_t)integer(q, 10),
        .interrupted_seq = (uint64_t)integer(q, 11),
        .regressed_seq = (uint64_t)integer(q, 12),
        .reverted_seq = (uint64_t)integer(q, 13),
        .boot = text(q, 14),
        .asked = integer(q, 15) != 0,
    };
    return ROW(permit, box)(user, &row);
}

static int sqlite_permit(struct store *store, const char *id, const char *nonce,
                         store_permit_row *row, void *user, struct error *error)
{
    sqlite3_stmt *q;
    int r = sqlite_bind(of(store), id ? SQL_PERMIT : SQL_PERMIT_BY_NONCE, &q, error, "s",
                        id ? id : nonce);

    return r < 0 ? r : only(of(store), q, read_permit, BOX(permit), user, error);
}

static int sqlite_open_permits(struct store *store, store_permit_row *row, void *user,
                               struct error *error)
{
    sqlite3_stmt *q;
    int r = sqlite_bind(of(store), SQL_PERMITS_OPEN, &q, error, "");

    return r < 0 ? r : each(of(store), q, read_permit, BOX(permit), user, error);
}

static int sqlite_halt_add(struct store *store, const struct store_halt *row, struct error *error)
{
    return sqlite_do(of(store), SQL_HALT_ADD, error, "isssssiiii", row->number, row->release,
                     row->rollout, row->product, row->channel, row->reason, row->at_ms,
                     row->spread_ms, (int64_t)row->revert, (int64_t)row->now);
}

static int read_halt(sqlite3_stmt *q, void *box, void *user)
{
    struct store_halt row = {
        .number = integer(q, 0),
        .release = text(q, 1),
        .rollout = text(q, 2),
        .product = text(q, 3),
        .channel = text(q, 4),
        .reason = text(q, 5),
        .at_ms = integer(q, 6),
        .spread_ms = integer(q, 7),
        .revert = integer(q, 8) != 0,
        .now = integer(q, 9) != 0,
    };
    return ROW(halt, box)(user, &row);
}

static int sqlite_halts(struct store *store, store_halt_row *row, void *user, struct error *error)
{
    sqlite3_stmt *q;
    int r = sqlite_bind(of(store), SQL_HALTS, &q, error, "");

    return r < 0 ? r : each(of(store), q, read_halt, BOX(halt), user, error);
}

static int sqlite_log_add(struct store *store, const struct store_log *row, struct error *error)
{
    return sqlite_do(of(store), SQL_LOG_ADD, error, "isssss", row->at_ms, row->code, row->by,
                     row->rollout, row->device, row->text);
}

static int read_log(sqlite3_stmt *q, void *box, void *user)
{
    struct store_log row = {
        .number = integer(q, 0),
        .at_ms = integer(q, 1),
        .code = text(q, 2),
        .by = text(q, 3),
        .rollout = text(q, 4),
        .device = text(q, 5),
        .text = text(q, 6),
    };
    return ROW(log, box)(user, &row);
}

static int sqlite_log(struct store *store, int64_t after, uint64_t limit, store_log_row *row,
                      void *user, struct error *error)
{
    sqlite3_stmt *q;
    int r = sqlite_bind(of(store), SQL_LOG, &q, error, "ii", after,
                        limit > 0 && limit < INT64_MAX ? (int64_t)limit : (int64_t)-1);

    return r < 0 ? r : each(of(store), q, read_log, BOX(log), user, error);
}

const struct store_backend sqlite_backend = {
    .name = "sqlite",
    .close = sqlite_close,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .heartbeat = sqlite_heartbeat,
    .last_heartbeat = sqlite_last_heartbeat,
    .event_add = sqlite_event_add,
    .events = sqlite_events,
    .device_put = sqlite_device_put,
    .devices = sqlite_devices,
    .evidence_add = sqlite_evidence_add,
    .evidence = sqlite_evidence,
    .token_put = sqlite_token_put,
    .token = sqlite_token,
    .release_add = sqlite_release_add,
    .releases = sqlite_releases,
    .rollout_add = sqlite_rollout_add,
    .rollouts = sqlite_rollouts,
    .permit_put = sqlite_permit_put,
    .permit = sqlite_permit,
    .open_permits = sqlite_open_permits,
    .halt_add = sqlite_halt_add,
    .halts = sqlite_halts,
    .log_add = sqlite_log_add,
    .log = sqlite_log,
};
