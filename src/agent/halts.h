/* The halts' list: signed, numbered, kept on disk. Any source may carry it. Must never go back to a
 * lower number. Thread-safe. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "trust/key.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct halt {
    int64_t number;
    bool revert;      /* on_halt of confirmed devices */
    bool now;         /* no spread */
    double spread;    /* seconds */
    char reason[256]; /* for people */
};
struct halts {
    pthread_mutex_t lock;
    char *path;
    int64_t number; /* -1: none seen */
    json_t *list;
};

/* Reads what was seen before; a damaged file is as none. */
void halts_open(struct halts *halts, const char *path, const struct public_key *server_key);
void halts_close(struct halts *halts);
/* Checks and keeps an envelope. `ret_new`: it is newer than all before. -EBADMSG, -ESTALE (a lower
 * number than was seen). */
int halts_accept(struct halts *halts, const struct public_key *server_key, const char *text,
                 size_t len, bool *ret_new, struct error *error);
int64_t halts_number(struct halts *halts);
bool halts_find(struct halts *halts, const char *release, struct halt *ret);
