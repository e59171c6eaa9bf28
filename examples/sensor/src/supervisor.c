#include "supervisor.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TERM_PATIENCE_MS = 1000 /* from SIGTERM to SIGKILL */ };

static int write_text(const char *run, const char *name, const char *text, struct error *error)
{
    _cleanup_free_ char *path = path_join(run, name);

    return file_write(AT_FDCWD, path, text, strlen(text), 0644, error);
}

static int remove_name(const char *run, const char *name, struct error *error)
{
    _cleanup_free_ char *path = path_join(run, name);

    return file_unlink(AT_FDCWD, path, error);
}

static int take_lock(const char *run, int *ret_fd, struct error *error)
{
    _cleanup_free_ char *path = path_join(run, "sensor.lock");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    _cleanup_fd_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    int r;

    if (fd < 0)
        return error_set(error, -errno, "%s: cannot open: %s", path, strerror(errno));
    if (fcntl(fd, F_SETLK, &lock) < 0) {
        r = errno == EACCES ? -EAGAIN : -errno;
        if (r == -EAGAIN)
            return error_set(error, r,
                             "a sensor already runs in %s: maeslant-sensor stop ends it, reload "
                             "gives it new content",
                             run);
        return error_set(error, r, "%s: cannot lock: %s", path, strerror(-r));
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

struct ready {
    int fd;
};

static void tell_ready(const char *digest, void *user)
{
    struct ready *ready = user;

    if (ready->fd < 0)
        return;
    dprintf(ready->fd, "ok %s\n", digest);
    close(ready->fd);
    ready->fd = -1;
}

static void tell_error(int ready_fd, const struct error *error)
{
    if (ready_fd >= 0)
        dprintf(ready_fd, "error %s\n", error->text);
    else
        dprintf(STDERR_FILENO, "maeslant-sensor: %s\n", error->text);
}

/* The worker's process; its exit status. */
static int worker_main(const struct worker_options *options, int go_fd, int ready_fd)
{
    struct ready ready = {.fd = ready_fd};
    struct error error = ERROR_INIT;
    char go;
    int r;

    /* A crash is the product's own affair: no core, and no handler that a sanitizer or a parent
     * left, so that the fault ends the process as a signal. */
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* End of file: the parent is gone, perhaps before the line above. */
    if (read(go_fd, &go, 1) != 1)
        return 1;
    close(go_fd);
    r = worker_run(options, tell_ready, &ready, &error);
    if (r < 0)
        tell_error(ready.fd, &error);
    if (ready.fd >= 0)
        close(ready.fd);
    return r < 0 ? 1 : 0;
}

static int await_end(pid_t worker, const sigset_t *signals)
{
    int64_t kill_at = INT64_MAX;
    int status = 0;

    while (waitpid(worker, &status, WNOHANG) == 0) {
        const struct timespec tenth = {.tv_nsec = 100000000};
        int number =
            kill_at == INT64_MAX ? sigwaitinfo(signals, NULL) : sigtimedwait(signals, NULL, &tenth);

        if ((number == SIGTERM || number == SIGINT) && kill_at == INT64_MAX) {
            kill(worker, SIGTERM);
            kill_at = clock_ms(CLOCK_MONOTONIC) + TERM_PATIENCE_MS;
        }
        if (clock_ms(CLOCK_MONOTONIC) >= kill_at)
            kill(worker, SIGKILL);
    }
    return status;
}

static int supervise(const struct worker_options *options, pid_t worker, int go_fd,
                     const sigset_t *signals, struct error *error)
{
    _cleanup_free_ char *pid = xasprintf("%ld\n", (long)worker);
    _cleanup_free_ char *end = NULL;
    int r = write_text(options->run, "sensor.pid", pid, error);
    int status;

    if (r == 0 && write(go_fd, "g", 1) != 1)
        r = error_set(error, -errno, "cannot start the worker: %s", strerror(errno));
    close(go_fd); /* without the byte the worker ends by itself */
    status = await_end(worker, signals);
    if (r < 0)
        return r;
    end = WIFSIGNALED(status) ? xasprintf("signal %d\n", WTERMSIG(status))
                              : xasprintf("exit %d\n", WEXITSTATUS(status));
    r = write_text(options->run, "sensor.exit", end, error);
    if (r < 0)
        return r;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int spawn(const struct worker_options *options, int ready_fd, struct error *error)
{
    sigset_t signals;
    pid_t worker;
    int go[2];

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGCHLD, SIG_DFL); /* ignored, by whoever started us, it would swallow the end */
    if (pipe2(go, O_CLOEXEC) < 0)
        return error_set(error, -errno, "cannot make a pipe: %s", strerror(errno));
    worker = fork();
    if (worker < 0) {
        int r = -errno;

        close(go[0]);
        close(go[1]);
        return error_set(error, r, "cannot start the worker: %s", strerror(-r));
    }
    if (worker == 0) {
        close(go[1]);
        exit(worker_main(options, go[0], ready_fd));
    }
    close(go[0]);
    if (ready_fd >= 0)
        close(ready_fd);
    return supervise(options, worker, go[1], &signals, error);
}

int supervisor_run(const struct worker_options *options, int ready_fd, struct error *error)
{
    static const char *const stale[] = {"sensor.exit", "sensor.pid", "panic"};
    _cleanup_fd_ int lock = -1;
    int r = dir_make(AT_FDCWD, options->run, 0755, error);

    if (r == 0)
        r = take_lock(options->run, &lock, error);
    for (size_t i = 0; i < ARRAY_SIZE(stale) && r == 0; i++)
        r = remove_name(options->run, stale[i], error);
    if (r < 0) {
        if (ready_fd >= 0) {
            tell_error(ready_fd, error);
            close(ready_fd);
        }
        return r;
    }
    return spawn(options, ready_fd, error);
}

/* The supervisor's own process, cut loose from whoever started it. */
static void detached_main(const struct worker_options *options, int ready_fd)
{
    _cleanup_free_ char *log = path_join(options->run, "sensor.log");
    struct error error = ERROR_INIT;
    int null = open("/dev/null", O_RDWR);
    int out, r = dir_make(AT_FDCWD, options->run, 0755, &error);

    if (r < 0 || chdir("/") < 0) {
        tell_error(ready_fd, &error);
        exit(1);
    }
    out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW, 0640);
    dup2(null, STDIN_FILENO);
    dup2(out >= 0 ? out : null, STDOUT_FILENO);
    dup2(out >= 0 ? out : null, STDERR_FILENO);
    /* Nobody's pipe or socket is held open by a daemon. */
    ready_fd = dup2(ready_fd, 3);
    close_range(4, ~0U, 0);
    fcntl(ready_fd, F_SETFD, FD_CLOEXEC);
    r = supervisor_run(options, ready_fd, &error);
    if (r < 0)
        dprintf(STDERR_FILENO, "maeslant-sensor: %s\n", error.text);
    exit(r < 0 ? 1 : r);
}

/* Reads the one line that says how the start went. */
static int hear_ready(int fd, int64_t deadline_ms, struct error *error)
{
    _cleanup_buf_ struct buf line = BUF_INIT;

    while (!line.len || line.data[line.len - 1] != '\n') {
        char bytes[1024];
        ssize_t got = read(fd, bytes, sizeof(bytes));

        if (got == 0)
            return error_set(error, -ECHILD,
                             "the sensor died while it loaded its content; its "
                             "run folder's sensor.exit says of what");
        if (got > 0) {
            buf_add(&line, bytes, (size_t)got);
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return error_set(error, -errno, "cannot hear from the sensor: %s", strerror(errno));
        if (clock_ms(CLOCK_MONOTONIC) >= deadline_ms)
            return error_set(error, -ETIMEDOUT, "the sensor did not load its content in time");
        clock_sleep(0.005);
    }
    line.data[--line.len] = '\0';
    if (strncmp(line.data, "ok ", 3) == 0)
        return 0;
    return error_set(error, -EREMOTEIO, "%s",
                     strncmp(line.data, "error ", 6) == 0 ? line.data + 6 : line.data);
}

int supervisor_start(const struct worker_options *options, int64_t deadline_ms, struct error *error)
{
    _cleanup_fd_ int hear = -1;
    int ready[2], status, r;
    pid_t child;

    if (pipe2(ready, O_CLOEXEC | O_NONBLOCK) < 0)
        return error_set(error, -errno, "cannot make a pipe: %s", strerror(errno));
    hear = ready[0];
    child = fork();
    if (child == 0) {
        /* A second fork: the supervisor is nobody's child and leads no terminal. */
        setsid();
        if (fork() == 0)
            detached_main(options, ready[1]);
        _exit(0);
    }
    r = child < 0 ? error_set(error, -errno, "cannot start the sensor: %s", strerror(errno)) : 0;
    close(ready[1]);
    if (r < 0)
        return r;
    waitpid(child, &status, 0);
    return hear_ready(hear, deadline_ms, error);
}

/* The pid of the lock's holder, 0 when there is none. */
static pid_t holder(const char *run)
{
    _cleanup_free_ char *path = path_join(run, "sensor.lock");
    _cleanup_fd_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        return 0;
    return lock.l_pid;
}

int supervisor_end(const char *run, int64_t deadline_ms, struct error *error)
{
    bool asked = false;
    pid_t pid;

    while ((pid = holder(run)) > 0) {
        if (!asked && kill(pid, SIGTERM) < 0 && errno != ESRCH)
            return error_set(error, -errno, "cannot end process %ld, the sensor in %s: %s",
                             (long)pid, run, strerror(errno));
        asked = true;
        if (clock_ms(CLOCK_MONOTONIC) >= deadline_ms)
            return error_set(error, -ETIMEDOUT, "process %ld, the sensor in %s, does not end",
                             (long)pid, run);
        clock_sleep(0.005);
    }
    return 0;
}
