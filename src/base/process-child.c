#include "base/process-child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { REPORT_FD = 3, FIRST_FREE_FD = 10 };

static void report(int fd, enum child_step step, int code)
{
    struct child_report line = {.step = step, .code = code};

    while (write(fd, &line, sizeof(line)) < 0 && errno == EINTR)
        ;
}

static _Noreturn void give_up(int fd, enum child_step step)
{
    report(fd, step, -errno);
    _exit(127);
}

static void reset_signals(void)
{
    const struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        (void)sigaction(i, &by_default, NULL); /* fails for KILL, STOP and libc's own */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* 0 = input, 1 and 2 = output, 3 = report until exec, nothing else. Goes over high numbers first:
 * a parent without standard streams may have got 0–3 for its pipes. */
static int set_files(const struct child_setup *setup)
{
    int input = fcntl(setup->input, F_DUPFD, FIRST_FREE_FD);
    int output = fcntl(setup->output, F_DUPFD, FIRST_FREE_FD);
    int reports = fcntl(setup->report, F_DUPFD, FIRST_FREE_FD);

    if (input < 0 || output < 0 || reports < 0)
        return -errno;
    if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0 || dup3(reports, REPORT_FD, O_CLOEXEC) < 0)
        return -errno;
    if (close_range(REPORT_FD + 1, ~0U, 0) < 0) {
        struct rlimit files;

        if (getrlimit(RLIMIT_NOFILE, &files) < 0)
            return -errno;
        for (rlim_t i = REPORT_FD + 1; i < files.rlim_cur && i < 1024 * 1024; i++)
            (void)close((int)i);
    }
    return 0;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    (void)!write(fd, text, strlen(text));
    (void)close(fd);
}

/* A network namespace holds nothing but a loopback device that is down. Within a user namespace it
 * needs no privilege and gives none. */
static int leave_network(const struct child_setup *setup)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) {
        write_file("/proc/self/setgroups", "deny");
        write_file("/proc/self/uid_map", setup->uid_map);
        write_file("/proc/self/gid_map", setup->gid_map);
        return 0;
    }
    return unshare(CLONE_NEWNET) == 0 ? 0 : -errno;
}

static int limit(__rlimit_resource_t resource, uint64_t soft, uint64_t hard)
{
    struct rlimit now;

    if (getrlimit(resource, &now) < 0)
        return -errno;
    if (now.rlim_max != RLIM_INFINITY && hard > now.rlim_max)
        hard = now.rlim_max;
    now.rlim_max = hard;
    now.rlim_cur = soft < hard ? soft : hard;
    return setrlimit(resource, &now) < 0 ? -errno : 0;
}

static int set_limits(const struct process_limits *limits)
{
    int r = limit(RLIMIT_CORE, 0, 0);

    if (r == 0 && limits->memory)
        r = limit(RLIMIT_AS, limits->memory, limits->memory);
    if (r == 0 && limits->file_size)
        r = limit(RLIMIT_FSIZE, limits->file_size, limits->file_size);
    if (r == 0 && limits->cpu) /* SIGXCPU first, SIGKILL for who ignores it */
        r = limit(RLIMIT_CPU, limits->cpu, limits->cpu + 1);
    if (r == 0 && limits->processes)
        r = limit(RLIMIT_NPROC, limits->processes, limits->processes);
    return r;
}

void process_child(const struct child_setup *setup)
{
    int r;

    (void)setpgid(0, 0);
    reset_signals();
    r = set_files(setup);
    if (r < 0) {
        errno = -r;
        give_up(setup->report, CHILD_FILES);
    }
    if (setup->cwd && chdir(setup->cwd) < 0)
        give_up(REPORT_FD, CHILD_CWD);
    if (setup->limits->no_network) {
        r = leave_network(setup);
        if (r < 0)
            report(REPORT_FD, CHILD_NETWORK, r);
    }
    r = set_limits(setup->limits);
    if (r < 0) {
        errno = -r;
        give_up(REPORT_FD, CHILD_LIMITS);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        give_up(REPORT_FD, CHILD_PRIVILEGES);
    if (getppid() != setup->parent)
        _exit(127); /* it died before the death signal was set */
    (void)execve(setup->path, setup->argv, setup->env);
    give_up(REPORT_FD, CHILD_EXEC);
}
