/* The sensor's tiny parent: one worker a run folder, its pid in sensor.pid, its end in sensor.exit
 * ("exit N" or "signal N"). It restarts nothing: whoever watches decides. A lock on sensor.lock,
 * held by the parent and asked of the kernel, says whether a sensor runs; no stale pid can.
 * If the parent dies, its worker is killed with it. */
#pragma once

#include "base/error.h"
#include "worker.h"

#include <stdint.h>
#include <sys/types.h>

/* Runs a worker in this process's child and waits for its end. Returns the exit status for the
 * process: the worker's, or 128 + its signal; a negative errno when there was no worker. `ready_fd`
 * (-1: none) gets "ok DIGEST" or "error SENTENCE" once and is closed. */
int supervisor_run(const struct worker_options *options, int ready_fd, struct error *error);
/* Starts one in a session of its own, with its messages in <run>/sensor.log, and waits until the
 * worker has loaded its content, at most until `deadline_ms` (CLOCK_MONOTONIC). All paths are
 * absolute. */
int supervisor_start(const struct worker_options *options, int64_t deadline_ms,
                     struct error *error);
/* Ends the sensor of a run folder, hung or not; none is no error. */
int supervisor_end(const char *run, int64_t deadline_ms, struct error *error);
