/* What the agent's parts share. One thread a product walks through that product's trial; one
 * courier delivers reports and the status; one leash listens for halts while a trial is on; the
 * main thread waits for signals. Must never hold `lock` over I/O. */
#pragma once

#include "agent/check.h"
#include "agent/config.h"
#include "agent/halts.h"
#include "agent/identity.h"
#include "agent/journal.h"
#include "agent/paths.h"
#include "http/client.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define REASON_MAX 64

/* Answer to a report, as the courier hands it to the product. */
struct answer {
    bool here;
    char permit[33], outcome[16];
    char answer[16]; /* confirm, revert, wait; "refused" when the server will never take it */
};

struct product {
    struct agent *agent;
    const struct config_product *config;
    char *dir; /* <state>/<product> */
    char *journal_path;
    struct journal journal; /* of the product's thread; others read `shown` */
    pthread_t thread;
    bool running;
    int wake_fd;         /* something to look at */
    int cancel_fd;       /* readable: give up the adapter, probe or request at hand */
    atomic_int removing; /* enum remove_how */
    struct http_client *http;

    /* Under agent->lock. */
    char trial_release[65]; /* in trial: a halt for it raises cancel_fd */
    char trial_permit[33];
    struct answer answer;
    struct journal shown;
    char shown_current[65], shown_previous[65];
    char blocked[REASON_MAX]; /* "" when not */
    char told_blocked[REASON_MAX];
    uint64_t sequence;                 /* of the current release */
    int64_t shown_next;                /* wall ms of the next poll; 0: not known */
    char version[129], version_of[65]; /* of the current release, and which that was */

    /* Of the product's thread. */
    char plan_etag[80];
    char plan_trouble[160]; /* said once, not at every poll */
    struct plan *plan;      /* the last one */
    double next_plan, next_ask, next_stage, next_revert;
    char stage_release[65]; /* for which next_stage was drawn */
    struct prober *watch;
    double watched, watch_since;
    char watch_release[65];
    bool regressed;
    double revert_by;    /* of a confirmed release that was halted; 0: none */
    int64_t revert_halt; /* number of the halt that set these times */
    char revert_release[65];
    char told_back[65]; /* regressed, and the server said revert */
    bool adopted, server_away;
    double next_adopt;
    struct timespec packages_seen; /* when packages changed last */
    unsigned stage_tries, plan_polls;
    unsigned revert_tries;
    double revert_pause;
    bool untouched;                    /* by the adapter, in this trial */
    bool revert_told, revert_done;     /* the outcome is in the outbox; the product is back */
    char verdict_text[CHECK_TAIL + 1]; /* for the report's log */
    struct check_usage usage;          /* of the product in this trial, by its process probes */
    double soak_seconds;
    int64_t begun_ms;      /* CLOCK_BOOTTIME ms before the begin was first sent */
    double heard;          /* CLOCK_BOOTTIME of the last question that the server answered */
    double start_by;       /* seconds that the permit keeps */
    double resume_by;      /* CLOCK_BOOTTIME until which an interrupted soak may go on */
    double confirm_within; /* of the permit; 0: the configuration's */
    double activated;      /* wall seconds */
    struct leash *leash;
    bool leash_poll;
    double leash_every;
};

struct agent {
    struct paths paths;
    struct config config;
    struct identity identity;
    struct halts halts;
    struct counter counter;
    char *outbox, *rejected, *trial_path;
    json_t *unkept; /* reports that the disk did not take, oldest first; under `lock` */
    char boot[37];
    uint64_t boots;
    pthread_mutex_t lock;
    pthread_mutex_t post_lock;  /* one signed body at a time, so that `seq` arrives in order */
    pthread_mutex_t trial_lock; /* over the trial file's I/O, and nothing else */
    atomic_int busy;            /* products not done yet, with --once */
    int done_fd;                /* readable once all are done */
    int stop_fd;                /* readable once the agent shall end */
    atomic_bool stopping;
    atomic_bool once;
    int64_t clock_kept;  /* of the courier's thread */
    int64_t clock_floor; /* newest time in a signed answer, Unix seconds */
    struct product *products;
    size_t product_count;
    struct courier *courier;
    bool enrolled;
};

static inline bool agent_stopping(const struct agent *agent)
{
    return atomic_load(&agent->stopping);
}

/* Reads the configuration and recovers every product; contacts nobody. */
int agent_open(const char *root, struct agent *ret, struct error *error);
/* Loads who the device is. -ENOENT: not enrolled; -EXDEV: enrolled on another machine. */
int agent_identify(struct agent *agent, struct error *error);
void agent_close(struct agent *agent);
/* Wakes every product: something that they wait for may have changed. */
void agent_wake(struct agent *agent);
/* After a newer halts' list: interrupts the trials of halted releases and wakes everybody. */
void agent_halted(struct agent *agent);
/* Looks whether a person asked for a product's removal, and wakes everybody. */
void agent_look_again(struct agent *agent);
/* Accepts a halts' envelope and does the above when it is new. */
int agent_take_halts(struct agent *agent, const char *text, size_t len, struct error *error);

void fd_raise(int fd); /* eventfd: readable until cleared */
void fd_clear(int fd);

double mono(void); /* CLOCK_MONOTONIC, seconds */
double boottime(void);
