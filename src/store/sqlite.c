#include "store/sqlite.h"

#include "base/buf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define SCHEMA_VERSION 1
#define BUSY_MS 500 /* another process (a backup, a shell) may hold the database for so long */

static const char schema[] =
    "CREATE TABLE alive (one INTEGER PRIMARY KEY CHECK (one = 1), t_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE events (number INTEGER PRIMARY KEY, rollout TEXT NOT NULL, t REAL NOT NULL,"
    " decision INTEGER NOT NULL, json TEXT NOT NULL) STRICT;"
    "CREATE INDEX events_of ON events (rollout, number);"
    "CREATE TABLE devices (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " public_key BLOB NOT NULL, organisation TEXT NOT NULL, ring TEXT NOT NULL,"
    " machine TEXT NOT NULL, grp TEXT, attributes TEXT NOT NULL, products TEXT, agent TEXT,"
    " boot TEXT, boots INTEGER NOT NULL, standing INTEGER NOT NULL, enrolled_ms INTEGER NOT NULL,"
    " seen_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE evidence (number INTEGER PRIMARY KEY, device INTEGER NOT NULL,"
    " seq INTEGER NOT NULL, call TEXT NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL,"
    " signature BLOB NOT NULL, answer TEXT NOT NULL) STRICT;"
    "CREATE UNIQUE INDEX evidence_of ON evidence (device, seq);"
    "CREATE TABLE tokens (hash TEXT PRIMARY KEY, organisation TEXT NOT NULL, ring TEXT NOT NULL,"
    " maker TEXT NOT NULL, uses INTEGER NOT NULL, expires_ms INTEGER NOT NULL,"
    " made_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE releases (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " product TEXT NOT NULL, channel TEXT NOT NULL, version TEXT NOT NULL, payload TEXT NOT NULL,"
    " sequence INTEGER NOT NULL, manifest BLOB NOT NULL, signature TEXT NOT NULL,"
    " lab TEXT NOT NULL, publisher TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE rollouts (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " release TEXT NOT NULL, product TEXT NOT NULL, channel TEXT NOT NULL, starter TEXT NOT NULL,"
    " at_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE permits (id TEXT NOT NULL PRIMARY KEY, nonce TEXT NOT NULL UNIQUE,"
    " device INTEGER NOT NULL, rollout TEXT NOT NULL, arm TEXT NOT NULL, t REAL NOT NULL,"
    " deadline REAL NOT NULL, begin_seq INTEGER NOT NULL, state INTEGER NOT NULL, outcome TEXT,"
    " outcome_seq INTEGER NOT NULL, interrupted_seq INTEGER NOT NULL,"
    " regressed_seq INTEGER NOT NULL, reverted_seq INTEGER NOT NULL, boot TEXT,"
    " asked INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE halts (number INTEGER PRIMARY KEY, release TEXT NOT NULL, rollout TEXT NOT NULL,"
    " product TEXT NOT NULL, channel TEXT NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL,"
    " spread_ms INTEGER NOT NULL, revert INTEGER NOT NULL, now INTEGER NOT NULL) STRICT;"
    "CREATE TABLE log (number INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, code TEXT NOT NULL,"
    " who TEXT, rollout TEXT, device TEXT, text TEXT NOT NULL) STRICT;";

#define PERMIT_COLUMNS                                                                             \
    "id, nonce, device, rollout, arm, t, deadline, begin_seq, state, outcome, outcome_seq,"        \
    " interrupted_seq, regressed_seq, reverted_seq, boot, asked"

static const char *const texts[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_HEARTBEAT_PUT] = "INSERT OR REPLACE INTO alive (one, t_ms) VALUES (1, ?)",
    [SQL_HEARTBEAT] = "SELECT t_ms FROM alive",
    [SQL_EVENT_ADD] = "INSERT INTO events (rollout, t, decision, json) VALUES (?, ?, ?, ?)",
    [SQL_EVENTS] = "SELECT number, rollout, t, decision, json FROM events"
                   " WHERE rollout = ? AND number > ? ORDER BY number LIMIT ?",
    [SQL_DEVICE_PUT] = "INSERT INTO devices VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
                       " ON CONFLICT (number) DO UPDATE SET organisation = excluded.organisation,"
                       " ring = excluded.ring, grp = excluded.grp,"
                       " attributes = excluded.attributes, products = excluded.products,"
                       " agent = excluded.agent, boot = excluded.boot, boots = excluded.boots,"
                       " standing = excluded.standing, seen_ms = excluded.seen_ms",
    [SQL_DEVICES] = "SELECT d.*, (SELECT MAX(seq) FROM evidence e WHERE e.device = d.number)"
                    " FROM devices d ORDER BY d.number",
    [SQL_EVIDENCE_ADD] = "INSERT INTO evidence (device, seq, call, at_ms, body, signature, answer)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?)",
    [SQL_EVIDENCE] = "SELECT device, seq, call, at_ms, body, signature, answer FROM evidence"
                     " WHERE device = ? AND seq = ?",
    [SQL_TOKEN_PUT] = "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)",
    [SQL_TOKEN] = "SELECT * FROM tokens WHERE hash = ?",
    [SQL_RELEASE_ADD] = "INSERT INTO releases (id, product, channel, version, payload, sequence,"
                        " manifest, signature, lab, publisher, at_ms)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SQL_RELEASES] = "SELECT id, product, channel, version, payload, sequence, manifest, signature,"
                     " lab, publisher, at_ms FROM releases ORDER BY number",
    [SQL_ROLLOUT_ADD] = "INSERT INTO rollouts (id, release, product, channel, starter, at_ms)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
    [SQL_ROLLOUTS] = "SELECT id, release, product, channel, starter, at_ms FROM rollouts"
                     " ORDER BY number",
    [SQL_PERMIT_UPDATE] = "UPDATE permits SET deadline = ?, state = ?, outcome = ?,"
                          " outcome_seq = ?, interrupted_seq = ?, regressed_seq = ?,"
                          " reverted_seq = ?, boot = ?, asked = ? WHERE id = ?",
    [SQL_PERMIT_ADD] = "INSERT INTO permits (" PERMIT_COLUMNS ")"
                       " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [SQL_PERMIT] = "SELECT " PERMIT_COLUMNS " FROM permits WHERE id = ?",
    [SQL_PERMIT_BY_NONCE] = "SELECT " PERMIT_COLUMNS " FROM permits WHERE nonce = ?",
    /* Only at the start: an index of them would cost every report a page more. */
    [SQL_PERMITS_OPEN] = "SELECT " PERMIT_COLUMNS " FROM permits WHERE state = 0",
    [SQL_HALT_ADD] = "INSERT INTO halts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SQL_HALTS] = "SELECT * FROM halts ORDER BY number",
    [SQL_LOG_ADD] = "INSERT INTO log (at_ms, code, who, rollout, device, text)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
    [SQL_LOG] = "SELECT number, at_ms, code, who, rollout, device, text FROM log"
                " WHERE number > ? ORDER BY number LIMIT ?",
};

static int failed(struct sqlite_store *s, struct error *error)
{
    const char *said = sqlite3_errmsg(s->database);

    switch (sqlite3_errcode(s->database)) {
    case SQLITE_FULL:
        return error_set(error, -ENOSPC,
                         "%s: the disk is full (%s). Free some space; nothing that was answered is "
                         "lost",
                         s->path, said);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(error, -EBUSY,
                         "%s: another process has held the database for more than %d ms (%s). Look "
                         "for it with `fuser %s`",
                         s->path, BUSY_MS, said, s->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(error, -EUCLEAN,
                         "%s: the database is damaged (%s). Stop the server, keep the file, and "
                         "put back a backup, or save what can be read with `sqlite3 %s .recover`",
                         s->path, said, s->path);
    case SQLITE_IOERR:
        return error_set(
            error, -EIO,
            "%s: reading or writing fails (%s, code %d). Look for the disk's errors in "
            "the kernel's log and for limits on the server's files; nothing that was "
            "answered is lost",
            s->path, said, sqlite3_extended_errcode(s->database));
    case SQLITE_CONSTRAINT:
        return error_set(error, -EEXIST, "%s: %s", s->path, said);
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return error_set(error, -EROFS,
                         "%s: the database can't be written (%s). Check the file's owner and that "
                         "its file system is mounted for writing",
                         s->path, said);
    case SQLITE_CANTOPEN:
        return error_set(error, -EACCES, "%s: can't be opened (%s). Check its folder's owner",
                         s->path, said);
    case SQLITE_NOMEM:
        return error_set(error, -ENOMEM, "%s: out of memory", s->path);
    default:
        return error_set(error, -EIO, "%s: %s (code %d: %s)", s->path, said,
                         sqlite3_extended_errcode(s->database),
                         sqlite3_errstr(sqlite3_errcode(s->database)));
    }
}

static int bind_all(struct sqlite_store *s, sqlite3_stmt *statement, const char *types,
                    va_list values, struct error *error)
{
    int r = SQLITE_OK;

    for (int i = 1; *types && r == SQLITE_OK; types++, i++) {
        switch (*types) {
        case 'i':
            r = sqlite3_bind_int64(statement, i, va_arg(values, int64_t));
            break;
        case 'd':
            r = sqlite3_bind_double(statement, i, va_arg(values, double));
            break;
        case 's': {
            const char *text = va_arg(values, const char *);
            r = text ? sqlite3_bind_text(statement, i, text, -1, SQLITE_STATIC)
                     : sqlite3_bind_null(statement, i);
            break;
        }
        default: {
            const void *data = va_arg(values, const void *);
            size_t len = va_arg(values, size_t);
            r = sqlite3_bind_blob64(statement, i, data ? data : "", len, SQLITE_STATIC);
        }
        }
    }
    return r == SQLITE_OK ? 0 : failed(s, error);
}

static int bind_list(struct sqlite_store *s, enum statement which, sqlite3_stmt **ret,
                     struct error *error, const char *types, va_list values)
{
    sqlite3_stmt **statement = &s->statements[which];

    if (!*statement && sqlite3_prepare_v3(s->database, texts[which], -1, SQLITE_PREPARE_PERSISTENT,
                                          statement, NULL) != SQLITE_OK)
        return failed(s, error);
    *ret = *statement;
    return bind_all(s, *statement, types, values, error);
}

int sqlite_bind(struct sqlite_store *s, enum statement which, sqlite3_stmt **ret,
                struct error *error, const char *types, ...)
{
    va_list values;
    int r;

    va_start(values, types);
    r = bind_list(s, which, ret, error, types, values);
    va_end(values);
    return r;
}

int sqlite_row(struct sqlite_store *s, sqlite3_stmt *statement, struct error *error)
{
    int r = sqlite3_step(statement);

    if (r == SQLITE_ROW)
        return 1;
    r = r == SQLITE_DONE ? 0 : failed(s, error);
    sqlite_end(statement);
    return r;
}

void sqlite_end(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

int sqlite_do(struct sqlite_store *s, enum statement which, struct error *error, const char *types,
              ...)
{
    sqlite3_stmt *statement = NULL;
    va_list values;
    int r;

    va_start(values, types);
    r = bind_list(s, which, &statement, error, types, values);
    va_end(values);
    if (r < 0)
        return r;
    do
        r = sqlite_row(s, statement, error);
    while (r > 0);
    return r;
}

static int pragma(struct sqlite_store *s, const char *text, struct error *error)
{
    return sqlite3_exec(s->database, text, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(s, error);
}

/* The first column of the first row. */
static int ask(struct sqlite_store *s, const char *text, struct buf *ret, struct error *error)
{
    sqlite3_stmt *statement;
    int r;

    if (sqlite3_prepare_v2(s->database, text, -1, &statement, NULL) != SQLITE_OK)
        return failed(s, error);
    r = sqlite_row(s, statement, error);
    if (r > 0)
        buf_add_str(ret, (const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    return r < 0 ? r : 0;
}

static int check_whole(struct sqlite_store *s, struct error *error)
{
    _cleanup_buf_ struct buf said = BUF_INIT;
    int r = ask(s, "PRAGMA quick_check(1)", &said, error);

    if (r < 0)
        return r;
    if (said.data && strcmp(said.data, "ok") == 0)
        return 0;
    return error_set(error, -EUCLEAN,
                     "%s: the database is damaged (%s). Keep the file, and put back a backup, or "
                     "save what can be read with `sqlite3 %s .recover`",
                     s->path, said.data ? said.data : "no answer from the check", s->path);
}

/* Some file systems of networks can't share memory; SQLite then keeps another journal and says
 * nothing. */
static int check_journal(struct sqlite_store *s, struct error *error)
{
    _cleanup_buf_ struct buf mode = BUF_INIT;
    int r = ask(s, "PRAGMA journal_mode", &mode, error);

    if (r < 0 || (mode.data && strcmp(mode.data, "wal") == 0))
        return r;
    return error_set(error, -ENOTSUP,
                     "%s: the journal's mode is \"%s\", expected \"wal\". Put the folder on a "
                     "local disk",
                     s->path, mode.data ? mode.data : "");
}

static int check_schema(struct sqlite_store *s, struct error *error)
{
    _cleanup_buf_ struct buf version = BUF_INIT;
    int r = ask(s, "PRAGMA user_version", &version, error);

    if (r < 0)
        return r;
    if (version.data && strcmp(version.data, "0") == 0) {
        _cleanup_free_ char *text =
            xasprintf("BEGIN IMMEDIATE;%sPRAGMA user_version=%d;COMMIT", schema, SCHEMA_VERSION);
        return pragma(s, text, error);
    }
    if (version.data && strcmp(version.data, "1") == 0)
        return 0;
    return error_set(error, -EUCLEAN,
                     "%s: the database has version %s; this program reads version %d. Run the "
                     "program that wrote it, or a newer one",
                     s->path, version.data ? version.data : "none", SCHEMA_VERSION);
}

int store_open_sqlite(const char *path, struct store **ret, struct error *error)
{
    struct sqlite_store *s = xcalloc(1, sizeof *s);
    int r;

    s->store.does = &sqlite_backend;
    s->path = xstrdup(path);
    if (sqlite3_open_v2(path, &s->database,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                            SQLITE_OPEN_NOFOLLOW,
                        NULL) != SQLITE_OK) {
        r = failed(s, error);
        goto fail;
    }
    sqlite3_extended_result_codes(s->database, 0);
    sqlite3_busy_timeout(s->database, BUSY_MS);
    if ((r = pragma(s,
                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                    "PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-65536;"
                    "PRAGMA wal_autocheckpoint=4000;"
                    "PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;"
                    "PRAGMA cell_size_check=ON",
                    error)) < 0 ||
        (r = check_journal(s, error)) < 0 || (r = check_whole(s, error)) < 0 ||
        (r = check_schema(s, error)) < 0)
        goto fail;
    *ret = &s->store;
    return 0;
fail:
    sqlite_backend.close(&s->store);
    return r;
}
