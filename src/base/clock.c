#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int64_t clock_ms(clockid_t clock)
{
    struct timespec now;

    if (clock_gettime(clock, &now) < 0)
        abort();
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

double clock_now(clockid_t clock)
{
    struct timespec now;

    if (clock_gettime(clock, &now) < 0)
        abort();
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void clock_sleep(double seconds)
{
    const double longest = 1e9; /* 31 years: keeps time_t from overflowing */
    struct timespec until;
    double whole;

    if (!(seconds > 0))
        return;
    if (seconds > longest)
        seconds = longest;
    if (clock_gettime(CLOCK_MONOTONIC, &until) < 0)
        abort();
    whole = (double)(int64_t)seconds;
    until.tv_sec += (time_t)whole;
    until.tv_nsec += (long)((seconds - whole) * 1e9);
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

void clock_format(int64_t unix_ms, char ret_text[static 25])
{
    const int64_t first = -62135596800000; /* 0001-01-01 */
    const int64_t last = 253402300799999;  /* 9999-12-31 */
    struct tm tm = {0};
    time_t seconds;
    int ms;

    if (unix_ms < first)
        unix_ms = first;
    if (unix_ms > last)
        unix_ms = last;
    seconds = (time_t)(unix_ms / 1000);
    ms = (int)(unix_ms % 1000);
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    (void)gmtime_r(&seconds, &tm);
    (void)snprintf(ret_text, 25, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
                   (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
                   (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100,
                   (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100, (unsigned)ms % 1000);
}

int boot_id(char ret_id[static 37])
{
    const char *given = secure_getenv("MAESLANT_BOOT_ID");
    ssize_t got;
    int fd;

    if (given) {
        size_t len = strlen(given);

        if (len == 0 || len > 36)
            return -EINVAL;
        memcpy(ret_id, given, len + 1);
        return 0;
    }
    fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    got = read(fd, ret_id, 36);
    if (got < 0)
        got = -errno;
    (void)close(fd);
    if (got < 0)
        return (int)got;
    if (got != 36)
        return -EIO;
    ret_id[36] = '\0';
    return 0;
}
