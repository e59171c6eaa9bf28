#include "control.h"

#include "base/clock.h"
#include "control-address.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int no_sensor(const char *run, const char *why, struct error *error)
{
    return error_set(error, -ESRCH, "no sensor runs in %s (%s); maeslant-sensor run starts one",
                     run, why);
}

static int no_answer(const char *run, int64_t timeout_ms, struct error *error)
{
    return error_set(error, -ETIMEDOUT, "the sensor in %s does not answer within %lld ms", run,
                     (long long)timeout_ms);
}

static int dial(const char *run, int64_t timeout_ms, int *ret_fd, struct error *error)
{
    _cleanup_fd_ int run_fd = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const struct timeval timeout = {.tv_sec = timeout_ms / 1000,
                                    .tv_usec = timeout_ms % 1000 * 1000};
    struct sockaddr_un address;
    int fd, r;

    if (run_fd < 0)
        return no_sensor(run, strerror(errno), error);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(error, -errno, "cannot make a socket: %s", strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    control_address(run_fd, &address);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        *ret_fd = fd;
        return 0;
    }
    r = -errno;
    close(fd);
    if (r == -ENOENT || r == -ECONNREFUSED)
        return no_sensor(run, r == -ENOENT ? "no socket" : "its socket is stale", error);
    if (r == -EAGAIN || r == -EINPROGRESS)
        return no_answer(run, timeout_ms, error);
    return error_set(error, r, "%s/sensor.sock: cannot connect: %s", run, strerror(-r));
}

/* Reads to the end of the answer, at most until the deadline. */
static int hear(int fd, int64_t deadline_ms, struct buf *ret)
{
    for (;;) {
        int64_t left = deadline_ms - clock_ms(CLOCK_MONOTONIC);
        struct timeval timeout;
        char bytes[4096];
        ssize_t got;

        if (left <= 0)
            return -ETIMEDOUT;
        timeout = (struct timeval){.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
        got = recv(fd, bytes, sizeof(bytes), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if (got == 0)
            return 0;
        if (ret->len + (size_t)got > CONTROL_MAX_ANSWER)
            return -EMSGSIZE;
        buf_add(ret, bytes, (size_t)got);
    }
}

int control_ask(const char *run, const char *request, int64_t timeout_ms, struct buf *ret,
                struct error *error)
{
    _cleanup_free_ char *line = xasprintf("%s\n", request);
    _cleanup_buf_ struct buf answer = BUF_INIT;
    _cleanup_fd_ int fd = -1;
    int r = dial(run, timeout_ms, &fd, error);

    if (r < 0)
        return r;
    if (send(fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line))
        return error_set(error, -EIO, "%s/sensor.sock: cannot send the request: %s", run,
                         strerror(errno));
    r = hear(fd, clock_ms(CLOCK_MONOTONIC) + timeout_ms, &answer);
    if (r == -ETIMEDOUT)
        return no_answer(run, timeout_ms, error);
    if (r < 0 && r != -ECONNRESET)
        return error_set(error, r, "%s/sensor.sock: cannot read the answer: %s", run, strerror(-r));
    if (answer.len && answer.data[answer.len - 1] == '\n')
        answer.data[--answer.len] = '\0';
    if (!answer.len)
        return error_set(error, -ESRCH, "the sensor in %s ended before it answered", run);
    if (strcmp(answer.data, "ok") == 0)
        return 0;
    if (strncmp(answer.data, "ok ", 3) == 0) {
        buf_add(ret, answer.data + 3, answer.len - 3);
        return 0;
    }
    return error_set(error, -EREMOTEIO, "%s",
                     strncmp(answer.data, "error ", 6) == 0 ? answer.data + 6 : answer.data);
}
