#include "worker.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "content.h"
#include "control.h"
#include "detections.h"
#include "engine.h"
#include "scan.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

struct worker {
    struct engine engine;
    struct content content;
    struct watch watch;
    struct control control;
    int run_fd;
    uint64_t cycles, scans, detections, failures;
    struct error trouble; /* of the watched folder or the log, empty when there is none */
    bool stopping;
};

static void worker_free(struct worker *worker)
{
    control_close(&worker->control);
    watch_free(&worker->watch);
    content_free(&worker->content);
    engine_close(&worker->engine);
    cleanup_fd(&worker->run_fd);
}

/* Logs a trouble once, not five times a second. */
static void note_trouble(struct worker *worker, const struct error *error)
{
    if (strcmp(worker->trouble.text, error->text) != 0)
        log_warning("sensor-trouble", "%s", error->text);
    worker->trouble = *error;
    worker->failures++;
}

static void record(struct worker *worker, const struct findings *findings, const char *path)
{
    struct error error = ERROR_INIT;

    if (!findings->count)
        return;
    worker->detections++;
    if (detections_add(worker->run_fd, findings->what.data, path, &error) < 0)
        note_trouble(worker, &error);
}

static void on_change(const char *path, void *user)
{
    _cleanup_findings_ struct findings findings = {0};
    struct worker *worker = user;
    struct error error = ERROR_INIT;
    int r = scan_file(&worker->engine, &worker->content, worker->cycles, path, &findings, &error);

    worker->scans++;
    if (r == 0)
        record(worker, &findings, path);
    else if (r != -ENOENT)
        note_trouble(worker, &error);
}

/* Stands in for a fault in a driver: the machine answers nothing any more. Whoever plays the
 * machine sees the file and takes its processes down; here only SIGKILL is left. */
static void panic(struct worker *worker)
{
    struct error error = ERROR_INIT;

    if (file_write(worker->run_fd, "panic", worker->content.digest, strlen(worker->content.digest),
                   0644, &error) < 0)
        log_error("sensor-panic", "%s", error.text);
    log_error("sensor-panic", "content %s stops the machine", worker->content.digest);
    for (;;)
        pause();
}

static void cycle(struct worker *worker)
{
    _cleanup_findings_ struct findings findings = {0};
    struct error error = ERROR_INIT;

    worker->cycles++;
    if (worker->content.panics)
        panic(worker);
    if (scan_heartbeat(&worker->engine, &worker->content, worker->cycles, &findings, &error) < 0)
        note_trouble(worker, &error);
    record(worker, &findings, "heartbeat");
    if (watch_look(&worker->watch, on_change, worker, &error) < 0)
        note_trouble(worker, &error);
    if (!error.text[0])
        worker->trouble = error;
}

static void answer_status(const struct worker *worker, struct buf *ret)
{
    _cleanup_json_ json_t *status = json_pack(
        "{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "engine",
        (json_int_t)worker->engine.version, "digest", worker->content.digest, "slot",
        worker->content.slot, "rules", (json_int_t)worker->content.rules.count, "templates",
        (json_int_t)worker->content.table.count, "cycles", (json_int_t)worker->cycles, "scans",
        (json_int_t)worker->scans, "detections", (json_int_t)worker->detections, "failures",
        (json_int_t)worker->failures, "pid", (json_int_t)getpid(), "trouble", worker->trouble.text);
    _cleanup_free_ char *text = status ? json_text(status) : NULL;

    if (text)
        buf_addf(ret, "ok %s", text);
    else
        buf_add_str(ret, "error a path is not UTF-8: it cannot be shown");
}

static void answer_reload(struct worker *worker, const char *slot, struct buf *ret)
{
    struct content content = {0};
    struct error error = ERROR_INIT;

    if (content_load(slot, &worker->engine, &content, &error) < 0) {
        log_warning("sensor-reload-refused", "%s; %s stays", error.text, worker->content.digest);
        buf_addf(ret, "error %s; the old content %s stays", error.text, worker->content.digest);
        return;
    }
    content_free(&worker->content);
    worker->content = content;
    watch_forget(&worker->watch);
    log_notice("sensor-reloaded", "content %s from %s", content.digest, slot);
    buf_addf(ret, "ok %s", content.digest);
}

static void answer_scan(struct worker *worker, const char *path, struct buf *ret)
{
    _cleanup_findings_ struct findings findings = {0};
    struct error error = ERROR_INIT;

    worker->scans++;
    if (scan_file(&worker->engine, &worker->content, worker->cycles, path, &findings, &error) < 0)
        buf_addf(ret, "error %s", error.text);
    else if (findings.count)
        buf_addf(ret, "ok detected %s", findings.what.data);
    else
        buf_add_str(ret, "ok clean");
}

static const char *argument(const char *request, const char *verb)
{
    size_t len = strlen(verb);

    return strncmp(request, verb, len) == 0 && request[len] == ' ' && request[len + 1] == '/'
               ? request + len + 1
               : NULL;
}

static void answer(const char *request, struct buf *ret, void *user)
{
    struct worker *worker = user;
    const char *path;

    if (strcmp(request, "digest") == 0) {
        buf_addf(ret, "ok %s", worker->content.digest);
    } else if (strcmp(request, "status") == 0) {
        answer_status(worker, ret);
    } else if (strcmp(request, "stop") == 0) {
        worker->stopping = true;
        buf_add_str(ret, "ok");
    } else if ((path = argument(request, "reload"))) {
        answer_reload(worker, path, ret);
    } else if ((path = argument(request, "scan"))) {
        answer_scan(worker, path, ret);
    } else {
        buf_add_str(ret, "error unknown request; expected digest, status, stop, reload or scan "
                         "with an absolute path");
    }
}

static int begin(struct worker *worker, const struct worker_options *options, struct error *error)
{
    struct stat st;
    int r = rules_init(error);

    if (r < 0)
        return r;
    if (stat(options->watch, &st) < 0 || !S_ISDIR(st.st_mode))
        return error_set(error, -ENOTDIR, "%s: no folder to watch", options->watch);
    worker->watch.path = xstrdup(options->watch);
    worker->run_fd = open(options->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (worker->run_fd < 0)
        return error_set(error, -errno, "%s: cannot open the run folder: %s", options->run,
                         strerror(errno));
    r = engine_open(options->engine, &worker->engine, error);
    if (r == 0)
        r = content_load(options->content, &worker->engine, &worker->content, error);
    if (r == 0)
        r = control_open(options->run, &worker->control, error);
    return r;
}

static void loop(struct worker *worker, int signal_fd)
{
    while (!worker->stopping) {
        int64_t next = clock_ms(CLOCK_MONOTONIC) + WORKER_CYCLE_MS;

        cycle(worker);
        while (!worker->stopping && clock_ms(CLOCK_MONOTONIC) < next)
            worker->stopping |= control_serve(&worker->control, signal_fd, next, answer, worker);
    }
}

int worker_run(const struct worker_options *options, void (*ready)(const char *digest, void *user),
               void *user, struct error *error)
{
    __attribute__((cleanup(worker_free))) struct worker worker = {.run_fd = -1,
                                                                  .control.listen_fd = -1};
    _cleanup_fd_ int signal_fd = -1;
    sigset_t ends;
    int r = begin(&worker, options, error);

    if (r < 0)
        return r;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    signal_fd = signalfd(-1, &ends, SFD_CLOEXEC);
    if (signal_fd < 0)
        return error_set(error, -errno, "cannot listen for signals: %s", strerror(errno));
    log_notice("sensor-started", "content %s, engine %u, watches %s", worker.content.digest,
               options->engine, options->watch);
    ready(worker.content.digest, user);
    loop(&worker, signal_fd);
    log_notice("sensor-stopped", "%llu cycles", (unsigned long long)worker.cycles);
    return 0;
}
