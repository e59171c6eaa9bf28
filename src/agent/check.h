/* Checks of a running product: the probes, the `active` check and the adapter's commands
 * (docs/manifest.md), with the manifest's variables filled in. Must never outlast its timeout, nor
 * ask a host that the device did not allow. */
#pragma once

#include "base/error.h"
#include "release/manifest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct check_vars {
    struct pair_text *pairs;
    size_t count;
    char *const *hosts; /* beside loopback; borrowed, may be NULL */
};
/* Variables of one slot. `release` "" gives those without a slot. */
void check_vars_make(const char *dir, const char *release, const char *product,
                     const struct pair_text *device_vars, size_t device_count, char *const *hosts,
                     struct check_vars *ret);
void check_vars_free(struct check_vars *vars);
/* Every text of adapter, active and probes can be filled in: -ENOENT names the unknown variable. */
int check_vars_fit(const struct manifest *manifest, const struct check_vars *vars,
                   struct error *error);

/* The process that a `process` probe saw first. */
struct check_memory {
    pid_t pid; /* 0: none seen yet */
    unsigned long long start;
    int64_t since_ms;   /* wall: an exit file that is older tells of another run; 0: any */
    int64_t settled_ms; /* wall: the activation was over and all was well; 0: not known */
};
/* What a process and its direct children use. */
struct check_usage {
    uint64_t rss_bytes, cpu_ms;
};
/* -ESRCH when it is gone or another one has its number. */
int check_usage(const struct check_memory *memory, struct check_usage *ret);
#define CHECK_TAIL 8192 /* what a report's `log` holds */
struct check_result {
    bool passed;
    bool fatal;                /* the product died of a signal: no second try */
    int exit_status;           /* -1: none */
    int signal;                /* 0: none */
    char text[256];            /* for people: what was found */
    char tail[CHECK_TAIL + 1]; /* the end of what a command printed, valid UTF-8 */
};
/* `cancel_fd` ≥ 0: readable gives up (passed stays false). */
void check_run(const struct check *check, const struct check_vars *vars,
               struct check_memory *memory, int cancel_fd, struct check_result *ret);

/* The first of the manifest's process probes whose process died of a signal at `since_ms` (wall) or
 * later, with what was found in `ret`; NULL when none did. */
const struct check *check_death(const struct manifest *manifest, const struct check_vars *vars,
                                int64_t since_ms, struct check_result *ret);

/* Asks the running product which digest it has loaded. */
int check_active(const struct check *active, const struct check_vars *vars, int cancel_fd,
                 char ret[static 65], struct error *error);
/* Asks until it names `release`, for at most `active->within`. -ETIMEDOUT, -ECANCELED. */
int check_active_becomes(const struct check *active, const struct check_vars *vars,
                         const char *release, int cancel_fd, struct error *error);

/* Runs `activate` (or `deactivate`). -ECANCELED, or -EIO with exit status or signal in `ret`. */
int adapter_activate(const struct manifest *manifest, const struct check_vars *vars, int cancel_fd,
                     struct check_result *ret, struct error *error);
int adapter_deactivate(const struct manifest *manifest, const struct check_vars *vars,
                       struct error *error);
