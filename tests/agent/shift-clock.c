/* Loaded before the C library (LD_PRELOAD): the clocks of one process moved by the seconds that the
 * files `realtime` and `boottime` in $SHIFT_CLOCK hold, read at every call. So a test lets a
 * machine sleep for hours, or sets its clock, without either. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long shift(const char *name)
{
    const char *folder = getenv("SHIFT_CLOCK");
    char path[512], text[32] = "";
    ssize_t got;
    int fd;

    if (!folder)
        return 0;
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    got = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    return got > 0 ? strtol(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    int r;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    r = real(clock, now);
    if (r == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += shift("realtime");
    if (r == 0 && clock == CLOCK_BOOTTIME)
        now->tv_sec += shift("boottime");
    return r;
}

time_t time(time_t *ret)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (ret)
        *ret = now.tv_sec;
    return now.tv_sec;
}
