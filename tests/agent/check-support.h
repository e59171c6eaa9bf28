/* What the tests of checks share: checks made by hand, a loopback server that behaves as badly as
 * it is told to, and a bell that cancels after a while. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after the four above */
#include <cmocka.h>

#include "agent/check.h"
#include "base/clock.h"
#include "scratch.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum site_manner {
    SITE_ANSWERS,         /* `reply`, then closes */
    SITE_SILENT,          /* takes the request and says nothing */
    SITE_ENDLESS_BODY,    /* bytes as fast as they are taken */
    SITE_ENDLESS_HEADERS, /* header lines for ever */
    SITE_TRICKLES,        /* one byte of a body every 50 ms */
};
struct site {
    enum site_manner manner;
    const char *reply;
    int fd, stop_fd;
    uint16_t port;
    char url[64], port_text[8];
    char request[4096]; /* the last one's beginning */
    pthread_t thread;
};
void site_start(struct site *site, enum site_manner manner, const char *reply);
void site_stop(struct site *site);

/* A port on which nobody listens. */
uint16_t closed_port(void);

/* Readable after `seconds`. */
struct bell {
    int fd;
    double seconds;
    pthread_t thread;
};
void bell_set(struct bell *bell, double seconds);
void bell_end(struct bell *bell);

/* A process that sleeps, with its pid in `path`. */
pid_t sleeper_start(const char *path);
void sleeper_kill(pid_t pid, int signal);
void write_text(const char *folder, const char *name, const char *text);

static inline struct check_result run_check(const struct check *check,
                                            const struct pair_text *pairs, size_t count,
                                            char *const *hosts, int cancel_fd)
{
    struct check_vars vars = {(struct pair_text *)(uintptr_t)pairs, count, hosts};
    struct check_memory memory = {0};
    struct check_result result;

    check_run(check, &vars, &memory, cancel_fd, &result);
    return result;
}

static inline void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not contain \"%s\"", text, part);
}

#define assert_within(started, least, most)                                                        \
    do {                                                                                           \
        double took_ = clock_now(CLOCK_MONOTONIC) - (started);                                     \
        if (took_ < (least) || took_ > (most))                                                     \
            fail_msg("it took %.3f s, expected %.3f to %.3f", took_, (double)(least),              \
                     (double)(most));                                                              \
    } while (0)
