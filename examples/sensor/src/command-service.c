#include "commands.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "content.h"
#include "control.h"
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ACTIVATE_MS = 5000, /* the whole of it */
    ANSWER_MS = 1500,   /* after that the worker counts as hung */
};

static int need(const char *value, const char *option, struct error *error)
{
    return value ? 0 : error_set(error, -EINVAL, "%s is needed", option);
}

static int resolve(const char *path, char **ret, struct error *error)
{
    *ret = realpath(path, NULL);
    return *ret ? 0 : error_set(error, -errno, "%s: %s", path, strerror(errno));
}

int command_run(const struct options *options, struct error *error)
{
    struct worker_options worker = {.engine = options->engine};
    _cleanup_free_ char *content = NULL, *watch = NULL;
    int r = need(options->content, "--content DIR", error);

    if (r == 0)
        r = need(options->watch, "--watch DIR", error);
    if (r == 0)
        r = need(options->run, "--run DIR", error);
    if (r == 0)
        r = resolve(options->content, &content, error);
    if (r == 0)
        r = resolve(options->watch, &watch, error);
    if (r < 0)
        return r;
    worker.content = content;
    worker.watch = watch;
    worker.run = options->run;
    return supervisor_run(&worker, -1, error);
}

static int reload(const char *run, const char *slot, const char *digest, struct error *error)
{
    _cleanup_free_ char *request = xasprintf("reload %s", slot);
    _cleanup_buf_ struct buf answer = BUF_INIT;
    int r = control_ask(run, request, ANSWER_MS, &answer, error);

    if (r < 0)
        return r;
    if (!answer.len || strcmp(answer.data, digest) != 0)
        return error_set(error, -EREMOTEIO, "the sensor loaded %s, but %s holds %s",
                         answer.len ? answer.data : "nothing", slot, digest);
    return 0;
}

/* The way back may not depend on the worker's health: one that is gone is started anew, one that
 * does not answer is ended first. Only a worker that is well and refuses the content keeps what it
 * has. */
int command_activate(const struct options *options, struct error *error)
{
    int64_t deadline = clock_ms(CLOCK_MONOTONIC) + ACTIVATE_MS;
    struct worker_options worker = {.engine = options->engine};
    _cleanup_free_ char *slot = NULL, *watch = NULL, *run = NULL;
    char digest[SHA256_HEX_SIZE];
    int r = need(options->slot, "--slot DIR", error);

    if (r == 0)
        r = need(options->watch, "--watch DIR", error);
    if (r == 0)
        r = need(options->run, "--run DIR", error);
    if (r == 0)
        r = resolve(options->slot, &slot, error);
    if (r == 0)
        r = content_digest(slot, digest, error);
    if (r == 0)
        r = resolve(options->watch, &watch, error);
    if (r == 0)
        r = dir_make(AT_FDCWD, options->run, 0755, error);
    if (r == 0)
        r = resolve(options->run, &run, error);
    if (r < 0)
        return r;
    r = reload(run, slot, digest, error);
    if (r != -ESRCH && r != -ETIMEDOUT)
        return r;
    *error = (struct error)ERROR_INIT;
    r = supervisor_end(run, deadline, error);
    if (r < 0)
        return r;
    worker.content = slot;
    worker.watch = watch;
    worker.run = run;
    return supervisor_start(&worker, deadline, error);
}

int command_stop(const struct options *options, struct error *error)
{
    int64_t deadline = clock_ms(CLOCK_MONOTONIC) + ACTIVATE_MS;
    int r = need(options->run, "--run DIR", error);

    if (r < 0)
        return r;
    return supervisor_end(options->run, deadline, error);
}

int command_query(const struct options *options, struct error *error)
{
    const char *verb = options->word_count ? options->words[0] : "";
    bool is_scan = strcmp(verb, "scan") == 0;
    _cleanup_free_ char *path = NULL, *request = NULL;
    _cleanup_buf_ struct buf answer = BUF_INIT;
    int r = need(options->run, "--run DIR", error);

    if (r < 0)
        return r;
    if ((!is_scan && strcmp(verb, "digest") != 0 && strcmp(verb, "status") != 0) ||
        options->word_count != (is_scan ? 2 : 1))
        return error_set(error, -EINVAL, "one of digest, status and scan PATH was expected");
    if (is_scan)
        r = resolve(options->words[1], &path, error);
    if (r < 0)
        return r;
    request = is_scan ? xasprintf("scan %s", path) : xstrdup(verb);
    r = control_ask(options->run, request, ANSWER_MS, &answer, error);
    if (r < 0)
        return r;
    puts(answer.len ? answer.data : "");
    return is_scan && strncmp(answer.data, "detected", 8) == 0 ? EXIT_DETECTED : 0;
}
