#include "base/process.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/process-child.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long a killed child may take to die (uninterruptible I/O) before we leave it behind. */
#define DEATH_SECONDS 5.0
/* How often to look for its end where the kernel or a sandbox has no pidfd. */
#define TICK_SECONDS 0.01

static const char *const search_path[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                          "/usr/bin",        "/sbin",          "/bin"};
static char *const default_env[] = {
    (char *)(uintptr_t) "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    (char *)(uintptr_t) "LANG=C.UTF-8", (char *)(uintptr_t) "HOME=/nonexistent", NULL};

struct child {
    pid_t pid;
    int pidfd; /* -1: look every tick */
    int output, report;
    double started, deadline;
};

static int find_program(const char *name, char **ret, struct error *error)
{
    if (name[0] == '/') {
        *ret = xstrdup(name);
        return 0;
    }
    if (*name == '\0' || strchr(name, '/'))
        return error_set(error, -EINVAL,
                         "\"%.256s\" is no program: expected an absolute path or a bare name",
                         name);
    for (size_t i = 0; i < ARRAY_SIZE(search_path); i++) {
        _cleanup_free_ char *path = path_join(search_path[i], name);
        struct stat st;

        if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0) {
            *ret = xstrdup(path);
            return 0;
        }
    }
    return error_set(error, -ENOENT,
                     "no program \"%.256s\" in the system's bin folders: install it or give its "
                     "absolute path",
                     name);
}

/* A descriptor from which the child reads `input`, with no writer that could block us. */
static int open_input(const char *input)
{
    size_t len = input ? strlen(input) : 0;
    int fd;

    if (len == 0) {
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
    }
    fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    while (len > 0) {
        ssize_t done = write(fd, input, len);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            goto fail;
        input += done;
        len -= (size_t)done;
    }
    if (lseek(fd, 0, SEEK_SET) == 0)
        return fd;
fail : {
    int r = -errno;

    (void)close(fd);
    return r;
}
}

/* Both ends close on exec; reading never blocks. */
static int open_pipe(int *ret_read, int *ret_write)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    *ret_read = ends[0];
    *ret_write = ends[1];
    return fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int spawn(struct child_setup *setup, struct child *ret)
{
    sigset_t all, old;
    int r = 0;

    (void)snprintf(setup->uid_map, sizeof(setup->uid_map), "%u %u 1\n", geteuid(), geteuid());
    (void)snprintf(setup->gid_map, sizeof(setup->gid_map), "%u %u 1\n", getegid(), getegid());
    setup->parent = getpid();
    ret->started = clock_now(CLOCK_MONOTONIC);
    ret->deadline = setup->limits->timeout > 0 ? ret->started + setup->limits->timeout : INFINITY;
    /* No handler of ours may run in the child. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    ret->pid = fork();
    if (ret->pid == 0)
        process_child(setup);
    if (ret->pid < 0)
        r = -errno;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r < 0)
        return r;
    (void)setpgid(ret->pid, ret->pid); /* whoever of us comes first */
    ret->pidfd = pidfd_open(ret->pid, 0);
    return 0;
}

/* Without reaping: as long as the zombie is there, its group's number is nobody else's. */
static bool has_exited(const struct child *child)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0
               ? errno != EINTR
               : info.si_pid == child->pid;
}

static void kill_group(const struct child *child)
{
    (void)kill(-child->pid, SIGKILL);
    (void)kill(child->pid, SIGKILL);
}

/* Adds to `output` and drops from its front what is more than `most`. */
static void keep_last(struct buf *output, size_t most, const char *data, size_t len)
{
    size_t old;

    if (len > most) {
        data += len - most;
        len = most;
    }
    old = most - len < output->len ? most - len : output->len;
    if (old > 0)
        memmove(output->data, output->data + output->len - old, old);
    output->len = old;
    if (len > 0)
        buf_add(output, data, len);
}

/* Reads once. 1 when there may be more, 0 at the end, -EAGAIN when there is none now. */
static int take_output(int fd, const struct process_limits *limits, struct process_result *result)
{
    char chunk[16384];
    ssize_t got = read(fd, chunk, sizeof(chunk));
    size_t room = limits->output - result->output.len;

    if (got < 0)
        return errno == EINTR ? 1 : -errno;
    if (got == 0)
        return 0;
    if ((size_t)got > room) {
        result->output_exceeded = true;
        if (limits->keep_last)
            keep_last(&result->output, limits->output, chunk, (size_t)got);
        got = limits->keep_last ? 0 : (ssize_t)room;
    }
    if (got > 0)
        buf_add(&result->output, chunk, (size_t)got);
    return 1;
}

static int poll_ms(double seconds)
{
    if (seconds > 60)
        seconds = 60;
    return seconds > 0 ? (int)ceil(seconds * 1000) : 0;
}

/* Until it ends, must be killed (timeout, output; then `ret_kill`) or -ECANCELED. */
static int attend(struct child *child, const struct process_limits *limits, int cancel_fd,
                  struct process_result *result, bool *ret_kill)
{
    struct pollfd fds[3] = {{.fd = child->output, .events = POLLIN},
                            {.fd = child->pidfd, .events = POLLIN},
                            {.fd = cancel_fd, .events = POLLIN}};

    for (;;) {
        double left = child->deadline - clock_now(CLOCK_MONOTONIC);

        if (has_exited(child))
            return 0;
        *ret_kill = true;
        if (left <= 0) {
            result->timed_out = true;
            return 0;
        }
        if (limits->strict_output && result->output_exceeded)
            return 0;
        *ret_kill = false;
        if (child->pidfd < 0 && left > TICK_SECONDS)
            left = TICK_SECONDS;
        if (poll(fds, ARRAY_SIZE(fds), poll_ms(left)) < 0) {
            if (errno == EINTR)
                continue;
            *ret_kill = true;
            return -errno;
        }
        if (fds[2].revents & POLLNVAL) {
            fds[2].fd = -1;
        } else if (fds[2].revents) {
            *ret_kill = true;
            return -ECANCELED;
        }
        if (fds[0].revents && take_output(child->output, limits, result) == 0)
            fds[0].fd = -1;
    }
}

/* After a kill: false when it does not die. */
static bool await_death(const struct child *child)
{
    double deadline = clock_now(CLOCK_MONOTONIC) + DEATH_SECONDS;

    while (!has_exited(child)) {
        struct pollfd fd = {.fd = child->pidfd, .events = POLLIN};
        double left = deadline - clock_now(CLOCK_MONOTONIC);

        if (left <= 0)
            return false;
        if (child->pidfd < 0 && left > TICK_SECONDS)
            left = TICK_SECONDS;
        (void)poll(&fd, 1, poll_ms(left));
    }
    return true;
}

static int reap(struct child *child, struct process_result *result)
{
    struct rusage usage = {0};
    int status = 0;
    pid_t pid;

    kill_group(child); /* what it left running in its group */
    do
        pid = wait4(child->pid, &status, 0, &usage);
    while (pid < 0 && errno == EINTR);
    if (pid < 0)
        return -errno;
    result->max_rss = (uint64_t)usage.ru_maxrss * 1024;
    if (WIFEXITED(status)) {
        result->exit_status = WEXITSTATUS(status);
    } else {
        result->exit_status = -1;
        result->signal = WTERMSIG(status);
    }
    return 0;
}

static int read_report(int fd, const struct child_setup *setup, struct error *error)
{
    static const char *const steps[] = {
        [CHILD_FILES] = "set its files",      [CHILD_CWD] = "enter its folder",
        [CHILD_LIMITS] = "set its limits",    [CHILD_PRIVILEGES] = "drop its privileges",
        [CHILD_EXEC] = "execute the program",
    };
    struct child_report report;

    while (read(fd, &report, sizeof(report)) == (ssize_t)sizeof(report)) {
        if (report.step != CHILD_NETWORK)
            return error_set(error, report.code, "%s: cannot %s%s%s: %s", setup->path,
                             steps[report.step], report.step == CHILD_CWD ? " " : "",
                             report.step == CHILD_CWD ? setup->cwd : "",
                             strerrordesc_np(-report.code));
        (void)error_set(error, 0,
                        "%s: ran with the network: the kernel allows no network namespace (%s)",
                        setup->path, strerrordesc_np(-report.code));
    }
    return 0;
}

static int watch(struct child *child, const struct child_setup *setup, int cancel_fd,
                 struct process_result *ret, struct error *error)
{
    bool must_kill = false;
    int r = attend(child, setup->limits, cancel_fd, ret, &must_kill), reaped;

    if (must_kill) {
        kill_group(child);
        if (!await_death(child)) {
            ret->exit_status = -1;
            ret->signal = SIGKILL;
            return error_set(error, -EBUSY,
                             "%s: process %d does not die: it hangs in the kernel, look at its "
                             "disks and mounts",
                             setup->path, (int)child->pid);
        }
    }
    reaped = reap(child, ret);
    ret->seconds = clock_now(CLOCK_MONOTONIC) - child->started;
    /* A pipe holds little; one who fled the group may write for ever. */
    for (int i = 0; i < 64 && take_output(child->output, setup->limits, ret) == 1; i++)
        ;
    if (r == -ECANCELED)
        return error_set(error, r, "%s: cancelled", setup->path);
    if (r == 0)
        r = reaped;
    if (r < 0)
        return error_set(error, r, "%s: cannot wait for it: %s", setup->path, strerrordesc_np(-r));
    return read_report(child->report, setup, error);
}

int process_run(char *const argv[], char *const env[], const char *cwd, const char *input,
                const struct process_limits *limits, int cancel_fd, struct process_result *ret,
                struct error *error)
{
    _cleanup_free_ char *path = NULL;
    _cleanup_fd_ int in = -1, out_read = -1, out_write = -1, report_read = -1, report_write = -1;
    struct child child = {.pidfd = -1};
    int r;

    *ret = (struct process_result){.exit_status = -1, .timeout = limits->timeout};
    r = find_program(argv[0], &path, error);
    if (r < 0)
        return r;
    in = open_input(input);
    r = in < 0 ? in : open_pipe(&out_read, &out_write);
    if (r == 0)
        r = open_pipe(&report_read, &report_write);
    if (r == 0) {
        struct child_setup setup = {.path = path,
                                    .argv = argv,
                                    .env = env ? env : default_env,
                                    .cwd = cwd,
                                    .limits = limits,
                                    .input = in,
                                    .output = out_write,
                                    .report = report_write};

        r = spawn(&setup, &child);
        if (r == 0) {
            cleanup_fd(&out_write);
            cleanup_fd(&report_write);
            out_write = report_write = -1;
            child.output = out_read;
            child.report = report_read;
            r = watch(&child, &setup, cancel_fd, ret, error);
            cleanup_fd(&child.pidfd);
            if (r < 0 && r != -ECANCELED)
                process_result_free(ret);
            return r;
        }
    }
    return error_set(error, r, "%s: cannot start it: %s", path, strerrordesc_np(-r));
}

void process_result_free(struct process_result *result)
{
    buf_free(&result->output);
}

void process_describe(const struct process_result *result, char *ret_text, size_t size)
{
    char span[32];

    if (result->timed_out) {
        format_duration(result->timeout, span, sizeof(span));
        (void)snprintf(ret_text, size, "no answer within %s", span);
    } else if (result->signal == SIGKILL && result->output_exceeded) {
        (void)snprintf(ret_text, size, "killed: more than %zu bytes of output", result->output.len);
    } else if (result->signal != 0) {
        const char *name = sigabbrev_np(result->signal);

        (void)snprintf(ret_text, size, "signal %d (SIG%s)", result->signal, name ? name : "?");
    } else {
        (void)snprintf(ret_text, size, "exit %d", result->exit_status);
    }
}
