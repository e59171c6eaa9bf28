#include "agent/check-process.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A start is known to a clock tick, a file's time to the kernel's coarse clock. */
#define START_SLACK_MS 20

static int read_small(const char *path, struct buf *ret)
{
    char block[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got;

    if (fd < 0)
        return -errno;
    got = read(fd, block, sizeof(block));
    if (got < 0)
        got = -errno;
    (void)close(fd);
    if (got <= 0)
        return got < 0 ? (int)got : -ENODATA;
    buf_add(ret, block, (size_t)got);
    while (ret->len > 0 && (ret->data[ret->len - 1] == '\n' || ret->data[ret->len - 1] == ' '))
        ret->data[--ret->len] = '\0';
    return 0;
}

struct process_stat {
    unsigned long long start; /* clock ticks after the boot */
    unsigned long long cpu;   /* clock ticks */
    unsigned long long rss;   /* pages */
};

/* proc(5); -ESRCH when there is no such process or it is a zombie. */
static int read_stat(uint64_t pid, struct process_stat *ret)
{
    _cleanup_free_ char *path = xasprintf("/proc/%llu/stat", (unsigned long long)pid);
    _cleanup_buf_ struct buf text = BUF_INIT;
    unsigned long long user, kernel;
    const char *p;
    char state;

    if (read_small(path, &text) < 0 || !text.data)
        return -ESRCH;
    p = strrchr(text.data, ')'); /* the name before it may hold anything */
    /* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers */
    if (!p || sscanf(p + 1,
                     " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d "
                     "%*d %llu %*u %llu",
                     &state, &user, &kernel, &ret->start, &ret->rss) != 5)
        return -EIO;
    ret->cpu = user + kernel;
    return state == 'Z' || state == 'X' ? -ESRCH : 0;
}

/* "exit N" or "signal N" by the product's supervisor, written at `since_ms` or later. Says when, or
 * 0 when there is nothing such. */
static int64_t read_exit(const char *path, int64_t since_ms, int *ret_exit, int *ret_signal)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct stat st;
    uint64_t number;
    int64_t at;

    if (!path || stat(path, &st) < 0 || read_small(path, &text) < 0)
        return 0;
    at = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    if (at < since_ms)
        return 0;
    if (strncmp(text.data, "signal ", 7) == 0 &&
        parse_u64(text.data + 7, 1, 64, &number, NULL) == 0)
        *ret_signal = (int)number;
    else if (strncmp(text.data, "exit ", 5) == 0 &&
             parse_u64(text.data + 5, 0, 255, &number, NULL) == 0)
        *ret_exit = (int)number;
    else
        return 0;
    return at;
}

static int64_t start_wall_ms(unsigned long long start)
{
    int64_t after_boot = (int64_t)(start * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK));

    return clock_ms(CLOCK_REALTIME) - clock_ms(CLOCK_BOOTTIME) + after_boot;
}

static int died(int signal, struct check_result *ret, int code, struct error *error)
{
    const char *name = sigabbrev_np(signal);

    ret->signal = signal;
    ret->fatal = true;
    return error_prefix(error, code, "died of signal %d (SIG%s)", signal, name ? name : "?");
}

/* The process is there, but is it the one that the activation left behind? If a signal ended that
 * one since then and this one was started later, nobody saw the death but the supervisor. A file
 * written after this one's start tells of the process before the activation, whose supervisor was
 * late. */
static int check_first(uint64_t pid, unsigned long long start, const char *exit_file,
                       const struct check_memory *memory, struct check_result *ret,
                       struct error *error)
{
    int status = -1, signal = 0;
    int64_t at;

    if (memory->settled_ms == 0)
        return 0;
    at = read_exit(exit_file, memory->settled_ms, &status, &signal);
    if (at == 0 || signal == 0 || at > start_wall_ms(start) + START_SLACK_MS)
        return 0;
    (void)error_set(error, -ESTALE, "process %llu was started again after it",
                    (unsigned long long)pid);
    return died(signal, ret, -ESTALE, error);
}

int check_process(const char *pid_file, const char *exit_file, struct check_memory *memory,
                  struct check_result *ret, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct process_stat stat = {0};
    uint64_t pid = 0;
    int r = read_small(pid_file, &text);

    if (r < 0)
        r = error_set(error, r, "%s: cannot read it: %s", pid_file, strerrordesc_np(-r));
    else if (parse_u64(text.data, 1, INT32_MAX, &pid, NULL) < 0)
        r = error_set(error, -EINVAL, "%s holds \"%.32s\": expected a process id", pid_file,
                      text.data);
    if (r == 0) {
        r = read_stat(pid, &stat);
        if (r < 0)
            (void)error_set(error, r, "process %llu is gone", (unsigned long long)pid);
    }
    if (r == 0 && memory->pid != 0 && ((pid_t)pid != memory->pid || stat.start != memory->start))
        r = error_set(error, -ESTALE,
                      (pid_t)pid == memory->pid
                          ? "process %llu is another one than after the activation"
                          : "process %llu has taken the place of %d, which is gone",
                      (unsigned long long)pid, (int)memory->pid);
    if (r < 0) {
        int signal = 0;

        (void)read_exit(exit_file, memory->since_ms - START_SLACK_MS, &ret->exit_status, &signal);
        return signal ? died(signal, ret, r, error) : r;
    }
    if (memory->pid == 0)
        r = check_first(pid, stat.start, exit_file, memory, ret, error);
    if (r < 0)
        return r;
    memory->pid = (pid_t)pid;
    memory->start = stat.start;
    return 0;
}

static void add_usage(const struct process_stat *stat, struct check_usage *usage)
{
    usage->rss_bytes += stat->rss * (unsigned long long)sysconf(_SC_PAGESIZE);
    usage->cpu_ms += stat->cpu * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK);
}

int check_usage(const struct check_memory *memory, struct check_usage *ret)
{
    _cleanup_free_ char *path = xasprintf("/proc/%d/task/%d/children", memory->pid, memory->pid);
    _cleanup_buf_ struct buf children = BUF_INIT;
    struct process_stat stat;

    *ret = (struct check_usage){0};
    if (memory->pid == 0 || read_stat((uint64_t)memory->pid, &stat) < 0 ||
        stat.start != memory->start)
        return -ESRCH;
    add_usage(&stat, ret);
    if (read_small(path, &children) < 0)
        return 0;
    for (char *p = children.data, *next; p && *p; p = next) {
        uint64_t pid;

        next = p + strcspn(p, " ");
        if (*next)
            *next++ = '\0';
        if (parse_u64(p, 1, INT32_MAX, &pid, NULL) == 0 && read_stat(pid, &stat) == 0)
            add_usage(&stat, ret);
    }
    return 0;
}
