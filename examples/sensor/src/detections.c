#include "detections.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char log_name[] = "detections.log";

int detections_add(int run_fd, const char *what, const char *path, struct error *error)
{
    _cleanup_fd_ int fd = -1;
    _cleanup_free_ char *line = NULL;
    char time[25], shown[PATH_MAX];
    struct stat st;
    ssize_t written;
    size_t len;

    clock_format(clock_ms(CLOCK_REALTIME), time);
    text_escape(shown, sizeof(shown), path, strlen(path));
    line = xasprintf("%s %s %s\n", time, what, shown);
    len = strlen(line);
    if (fstatat(run_fd, log_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0 &&
        (uint64_t)st.st_size + len > DETECTIONS_MAX_LOG &&
        renameat(run_fd, log_name, run_fd, "detections.log.1") < 0)
        return error_set(error, -errno, "cannot rename %s: %s", log_name, strerror(errno));
    fd = openat(run_fd, log_name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return error_set(error, -errno, "cannot open %s: %s", log_name, strerror(errno));
    written = write(fd, line, len);
    if (written != (ssize_t)len) {
        int r = written < 0 ? -errno : -ENOSPC;

        return error_set(error, r, "cannot write %s: %s", log_name, strerror(-r));
    }
    return 0;
}
