/* What sqlite.c (database, transactions, statements) gives to sqlite-rows.c (the verbs). Not for
 * other folders. */
#pragma once

#include "store/store.h"

#include <sqlite3.h>

enum statement {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_HEARTBEAT_PUT,
    SQL_HEARTBEAT,
    SQL_EVENT_ADD,
    SQL_EVENTS,
    SQL_DEVICE_PUT,
    SQL_DEVICES,
    SQL_EVIDENCE_ADD,
    SQL_EVIDENCE,
    SQL_TOKEN_PUT,
    SQL_TOKEN,
    SQL_RELEASE_ADD,
    SQL_RELEASES,
    SQL_ROLLOUT_ADD,
    SQL_ROLLOUTS,
    SQL_PERMIT_UPDATE,
    SQL_PERMIT_ADD,
    SQL_PERMIT,
    SQL_PERMIT_BY_NONCE,
    SQL_PERMITS_OPEN,
    SQL_HALT_ADD,
    SQL_HALTS,
    SQL_LOG_ADD,
    SQL_LOG,
    SQL_COUNT,
};

struct sqlite_store {
    struct store store;
    sqlite3 *database;
    char *path;
    sqlite3_stmt *statements[SQL_COUNT]; /* prepared when first used */
};

extern const struct store_backend sqlite_backend;

/* Binds the values of `types`, one letter each: i int64_t, d double, s text or NULL, b blob
 * (const void *, size_t). */
int sqlite_bind(struct sqlite_store *s, enum statement which, sqlite3_stmt **ret,
                struct error *error, const char *types, ...);
/* Bind, step to the end, reset. */
int sqlite_do(struct sqlite_store *s, enum statement which, struct error *error, const char *types,
              ...);
/* 1: a row, 0: the end (the statement is reset), negative: error (reset as well). */
int sqlite_row(struct sqlite_store *s, sqlite3_stmt *statement, struct error *error);
/* Ends a statement before its last row. */
void sqlite_end(sqlite3_stmt *statement);
