/* Child processes under limits: probes, adapters, validators, loads. No shell, no inherited file
 * descriptors, own process group, killed whole at the timeout. Must never block past its timeout.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct process_limits {
    double timeout;     /* seconds of wall time, 0: none */
    uint64_t memory;    /* RLIMIT_AS in bytes, 0: none */
    uint64_t file_size; /* RLIMIT_FSIZE in bytes, 0: none */
    uint64_t cpu;       /* RLIMIT_CPU in seconds, 0: none */
    uint64_t processes; /* RLIMIT_NPROC, 0: none */
    size_t output;      /* bytes of stdout + stderr kept; more kills it if `strict_output` */
    bool strict_output;
    bool keep_last;  /* of more output than that: the last bytes are kept, not the first */
    bool no_network; /* in a network namespace of its own, when the kernel lets us; else says so in
                        error */
};

struct process_result {
    int exit_status; /* 0–255, or -1 when it died of a signal */
    int signal;      /* 0, or the signal it died of */
    bool timed_out;
    bool output_exceeded;
    double seconds;
    double timeout;    /* the limit it ran under, for process_describe */
    uint64_t max_rss;  /* bytes; never less than what this process had at the fork */
    struct buf output; /* stdout and stderr, interleaved; buf_free */
};

/* Runs argv[0] (absolute, or found in a fixed PATH of the system's bin folders) and waits. `env` is
 * the whole environment (NULL: PATH, LANG=C.UTF-8 and HOME=/nonexistent only). `input` may be NULL.
 * `cancel_fd`, when ≥ 0, is polled: readable means kill now (result.timed_out stays false,
 * -ECANCELED). Returns 0 when it ran at all; `error` then has a text only when it ran with the
 * network against `no_network`. The child dies with the calling thread. */
int process_run(char *const argv[], char *const env[], const char *cwd, const char *input,
                const struct process_limits *limits, int cancel_fd, struct process_result *ret,
                struct error *error);
void process_result_free(struct process_result *result);
/* "exit 3", "signal 11 (SIGSEGV)", "no answer within 5s" for people. */
void process_describe(const struct process_result *result, char *ret_text, size_t size);
