/* How fast SQLite alone takes the rows of the reports that a server took, as JSON:
 * limit-sqlite STORE.DB NEW.DB BATCH
 * A new database gets the store's tables and indexes and, untimed, all rows from before the first
 * report; then, timed, what each report left, in the same order: its evidence, its events, its
 * permit's new state, and a heartbeat a batch. Same pragmas as src/store/sqlite.c, one transaction
 * a batch of BATCH reports, each on stable storage before the next begins. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/parse.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS_MAX 16

struct row {
    sqlite3_value *values[COLUMNS_MAX];
};
struct rows {
    struct row *list;
    size_t count, cap;
};

static const char prefill[] =
    "INSERT INTO devices SELECT * FROM source.devices;"
    "INSERT INTO evidence SELECT * FROM source.evidence WHERE call <> 'report';"
    "INSERT INTO events SELECT * FROM source.events WHERE number < (SELECT MIN(number)"
    " FROM source.events WHERE json LIKE '%\"event\":\"outcome\"%');"
    "INSERT INTO permits SELECT * FROM source.permits;"
    "UPDATE permits SET state = 0, outcome = NULL, outcome_seq = 0;"
    "INSERT INTO log SELECT * FROM source.log";

static sqlite3 *database;

static bool failed(const char *what)
{
    fprintf(stderr, "limit-sqlite: %s: %s\n", what, sqlite3_errmsg(database));
    return false;
}

static bool execute(const char *sql)
{
    return sqlite3_exec(database, sql, NULL, NULL, NULL) == SQLITE_OK || failed(sql);
}

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) != SQLITE_OK)
        failed(sql);
    return statement;
}

static bool read_rows(const char *sql, struct rows *rows)
{
    sqlite3_stmt *q = prepare(sql);
    int r;

    if (!q)
        return false;
    while ((r = sqlite3_step(q)) == SQLITE_ROW) {
        if (rows->count == rows->cap) {
            rows->cap = rows->cap ? 2 * rows->cap : 1024;
            rows->list = xrealloc(rows->list, rows->cap, sizeof *rows->list);
        }
        rows->list[rows->count] = (struct row){0};
        for (int i = 0; i < sqlite3_column_count(q) && i < COLUMNS_MAX; i++)
            rows->list[rows->count].values[i] = sqlite3_value_dup(sqlite3_column_value(q, i));
        rows->count++;
    }
    sqlite3_finalize(q);
    return r == SQLITE_DONE || failed(sql);
}

static void free_rows(struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        for (int j = 0; j < COLUMNS_MAX; j++)
            sqlite3_value_free(rows->list[i].values[j]);
    free(rows->list);
}

static bool put(sqlite3_stmt *statement, const struct row *row)
{
    for (int i = 0; i < sqlite3_bind_parameter_count(statement); i++)
        if (sqlite3_bind_value(statement, i + 1, row->values[i]) != SQLITE_OK)
            return failed("bind");
    if (sqlite3_step(statement) != SQLITE_DONE)
        return failed(sqlite3_sql(statement));
    sqlite3_reset(statement);
    return true;
}

/* The store's own CREATE statements, whatever they are. */
static bool copy_schema(void)
{
    struct rows made = {0};
    bool good = read_rows("SELECT sql FROM source.sqlite_schema WHERE sql IS NOT NULL"
                          " AND name NOT LIKE 'sqlite_%' ORDER BY rowid",
                          &made);

    for (size_t i = 0; i < made.count && good; i++)
        good = execute((const char *)sqlite3_value_text(made.list[i].values[0]));
    free_rows(&made);
    return good;
}

static bool open_new(const char *store, const char *path)
{
    char *attach = sqlite3_mprintf("ATTACH %Q AS source", store);
    bool good;

    good =
        sqlite3_open(path, &database) == SQLITE_OK &&
        execute(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
            "PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-65536;"
            "PRAGMA wal_autocheckpoint=4000; PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;"
            "PRAGMA cell_size_check=ON") &&
        execute(attach) && copy_schema() && execute("BEGIN") && execute(prefill) &&
        execute("COMMIT");
    sqlite3_free(attach);
    return good;
}

static bool insert_all(const struct rows *evidence, const struct rows *events,
                       const struct rows *permits, size_t batch)
{
    sqlite3_stmt *begin = prepare("BEGIN IMMEDIATE"), *commit = prepare("COMMIT");
    sqlite3_stmt *beat = prepare("INSERT OR REPLACE INTO alive (one, t_ms) VALUES (1, ?)");
    sqlite3_stmt *add_evidence =
        prepare("INSERT INTO evidence (device, seq, call, at_ms, body, signature, answer)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)");
    sqlite3_stmt *add_event =
        prepare("INSERT INTO events (rollout, t, decision, json) VALUES (?, ?, ?, ?)");
    sqlite3_stmt *settle = prepare("UPDATE permits SET state = ?, outcome = ?, outcome_seq = ?,"
                                   " deadline = ? WHERE id = ?");
    const struct row none = {0};
    bool good = begin && commit && beat && add_evidence && add_event && settle;
    size_t event = 0;

    for (size_t i = 0; i < evidence->count && good; i++) {
        bool last = (i + 1) % batch == 0 || i + 1 == evidence->count;
        size_t events_until = (i + 1) * events->count / evidence->count;

        good = (i % batch != 0 || put(begin, &none)) && put(add_evidence, &evidence->list[i]);
        while (good && event < events_until)
            good = put(add_event, &events->list[event++]);
        good = good && put(settle, &permits->list[i]);
        if (good && last) {
            sqlite3_bind_int64(beat, 1, clock_ms(CLOCK_REALTIME));
            good = sqlite3_step(beat) == SQLITE_DONE && sqlite3_reset(beat) == SQLITE_OK &&
                   put(commit, &none);
        }
    }
    sqlite3_finalize(begin);
    sqlite3_finalize(commit);
    sqlite3_finalize(beat);
    sqlite3_finalize(add_evidence);
    sqlite3_finalize(add_event);
    sqlite3_finalize(settle);
    return good;
}

static bool measure(size_t batch)
{
    struct rows evidence = {0}, events = {0}, permits = {0};
    bool good =
        read_rows("SELECT device, seq, call, at_ms, body, signature, answer FROM source.evidence"
                  " WHERE call = 'report' ORDER BY number",
                  &evidence) &&
        read_rows("SELECT rollout, t, decision, json FROM source.events WHERE number >="
                  " (SELECT MIN(number) FROM source.events"
                  " WHERE json LIKE '%\"event\":\"outcome\"%') ORDER BY number",
                  &events) &&
        read_rows("SELECT p.state, p.outcome, p.outcome_seq, p.deadline, p.id"
                  " FROM source.evidence e JOIN source.permits p"
                  " ON p.device = e.device AND p.outcome_seq = e.seq"
                  " WHERE e.call = 'report' ORDER BY e.number",
                  &permits) &&
        execute("DETACH source");
    double seconds, cpu;

    if (good && (evidence.count == 0 || permits.count != evidence.count)) {
        fprintf(stderr, "limit-sqlite: %zu reports and %zu permits of them in the store\n",
                evidence.count, permits.count);
        good = false;
    }
    cpu = clock_now(CLOCK_PROCESS_CPUTIME_ID);
    seconds = clock_now(CLOCK_MONOTONIC);
    good = good && insert_all(&evidence, &events, &permits, batch);
    seconds = clock_now(CLOCK_MONOTONIC) - seconds;
    cpu = clock_now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (good)
        printf("{\"reports\":%zu,\"rows\":%zu,\"batch\":%zu,\"seconds\":%.4f,\"cpu_seconds\":%.4f,"
               "\"per_second\":%.0f,\"per_cpu_second\":%.0f}\n",
               evidence.count, evidence.count + events.count + permits.count, batch, seconds, cpu,
               (double)evidence.count / seconds, (double)evidence.count / cpu);
    free_rows(&evidence);
    free_rows(&events);
    free_rows(&permits);
    return good;
}

int main(int argc, char **argv)
{
    struct error error;
    uint64_t batch;
    bool good;

    if (argc != 4 || parse_u64(argv[3], 1, 100000, &batch, &error) < 0) {
        fprintf(stderr, "usage: limit-sqlite STORE.DB NEW.DB BATCH\n");
        return 2;
    }
    good = open_new(argv[1], argv[2]) && measure((size_t)batch);
    sqlite3_close(database);
    return good ? 0 : 1;
}
