#include "agent/hooks.h"
#include "agent/identity.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COUNTER_BLOCK 64
#define COUNTER_LAST ((uint64_t)1 << 53)

int counter_open(const struct paths *paths, struct counter *ret, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r;

    *ret = (struct counter){.path = path_join(paths->state, "counter"), .next = 1};
    r = file_read(AT_FDCWD, ret->path, 64, &text, error);
    if (r == -ENOENT) {
        ret->reserved = 1;
        return 0;
    }
    if (r == 0) {
        while (text.len > 0 && text.data[text.len - 1] == '\n')
            text.data[--text.len] = '\0';
        r = parse_u64(text.data ? text.data : "", 1, COUNTER_LAST, &ret->next, error);
    }
    if (r < 0 && r != -EINVAL && r != -ERANGE && r != -EFBIG)
        return r;
    if (r < 0) {
        /* Numbers only have to grow, and the wall clock in milliseconds is beyond any that was used
         * at one call a millisecond. */
        ret->next = (uint64_t)clock_ms(CLOCK_REALTIME);
        log_warning("counter-damaged", "%s; goes on at %llu", error ? error->text : "",
                    (unsigned long long)ret->next);
    }
    ret->reserved = ret->next;
    return 0;
}

/* A full disk must not keep a device from telling what became of a trial. The number lies in one
 * sector, whose block is there already; a torn one is a damaged one, which counter_open survives.
 */
static int write_in_place(const char *path, const char *text, struct error *error)
{
    size_t len = strlen(text);
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    int r = 0;

    if (fd < 0)
        return error_set(error, -errno, "%s: cannot open it: %s", path, strerrordesc_np(errno));
    if (pwrite(fd, text, len, 0) != (ssize_t)len || fdatasync(fd) < 0)
        r = error_set(error, -ENOSPC, "%s: cannot write in place", path);
    (void)close(fd);
    return r;
}

int counter_next(struct counter *counter, uint64_t *ret, struct error *error)
{
    char text[32];
    int r;

    if (counter->next >= counter->reserved) {
        uint64_t reserved = counter->next + COUNTER_BLOCK;

        (void)snprintf(text, sizeof(text), "%llu\n", (unsigned long long)reserved);
        r = file_write(AT_FDCWD, counter->path, text, strlen(text), 0600, error);
        if (r == -ENOSPC || r == -EDQUOT)
            r = write_in_place(counter->path, text, error);
        crash_point("", "counter");
        if (r < 0)
            return r;
        counter->reserved = reserved;
    }
    *ret = counter->next++;
    return 0;
}

void counter_close(struct counter *counter)
{
    free(counter->path);
    counter->path = NULL;
}
