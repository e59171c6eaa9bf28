#include "control.h"

#include "base/clock.h"
#include "control-address.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CLIENT_TIMEOUT_MS = 2000 };

void control_address(int run_fd, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/sensor.sock", run_fd);
}

int control_open(const char *run, struct control *ret, struct error *error)
{
    _cleanup_fd_ int run_fd = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct sockaddr_un address;
    mode_t mask;
    int fd, r;

    if (run_fd < 0)
        return error_set(error, -errno, "%s: cannot open the run folder: %s", run, strerror(errno));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(error, -errno, "cannot make a socket: %s", strerror(errno));
    (void)unlinkat(run_fd, "sensor.sock", 0);
    control_address(run_fd, &address);
    mask = umask(0077);
    r = bind(fd, (struct sockaddr *)&address, sizeof(address));
    umask(mask);
    if (r < 0 || listen(fd, CONTROL_MAX_CLIENTS) < 0) {
        r = -errno;
        close(fd);
        return error_set(error, r, "%s/sensor.sock: cannot listen: %s", run, strerror(-r));
    }
    *ret = (struct control){.listen_fd = fd};
    return 0;
}

static void drop_client(struct control *control, size_t i)
{
    close(control->clients[i].fd);
    buf_free(&control->clients[i].request);
    control->clients[i] = control->clients[--control->client_count];
}

void control_close(struct control *control)
{
    while (control->client_count)
        drop_client(control, 0);
    close(control->listen_fd);
    control->listen_fd = -1;
}

static void take_client(struct control *control)
{
    int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    control->clients[control->client_count++] = (struct control_client){
        .fd = fd,
        .until_ms = clock_ms(CLOCK_MONOTONIC) + CLIENT_TIMEOUT_MS,
    };
}

/* Reads what is there; true when the client is done with, answered or not. */
static bool serve_client(struct control_client *client,
                         void (*answer)(const char *request, struct buf *ret, void *user),
                         void *user)
{
    _cleanup_buf_ struct buf reply = BUF_INIT;
    char bytes[1024];
    ssize_t got = recv(client->fd, bytes, sizeof(bytes), 0);
    const char *end;

    if (got < 0)
        return errno != EAGAIN && errno != EINTR;
    if (got == 0)
        return true;
    buf_add(&client->request, bytes, (size_t)got);
    end = memchr(client->request.data, '\n', client->request.len);
    if (!end && client->request.len <= CONTROL_MAX_REQUEST)
        return false;
    if (end)
        client->request.data[end - client->request.data] = '\0';
    if (!end || strlen(client->request.data) > CONTROL_MAX_REQUEST)
        buf_addf(&reply, "error the request has more than %d bytes", CONTROL_MAX_REQUEST);
    else
        answer(client->request.data, &reply, user);
    buf_add_str(&reply, "\n");
    (void)send(client->fd, reply.data, reply.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return true;
}

int control_serve(struct control *control, int signal_fd, int64_t until_ms,
                  void (*answer)(const char *request, struct buf *ret, void *user), void *user)
{
    for (;;) {
        struct pollfd fds[CONTROL_MAX_CLIENTS + 2];
        size_t count = control->client_count;
        int64_t now = clock_ms(CLOCK_MONOTONIC);

        if (now >= until_ms)
            return 0;
        fds[0] = (struct pollfd){.fd = signal_fd, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = control->listen_fd,
                                 .events = count < CONTROL_MAX_CLIENTS ? POLLIN : 0};
        for (size_t i = 0; i < count; i++)
            fds[i + 2] = (struct pollfd){.fd = control->clients[i].fd, .events = POLLIN};
        if (poll(fds, count + 2, (int)(until_ms - now)) < 0)
            continue;
        if (fds[0].revents)
            return 1;
        now = clock_ms(CLOCK_MONOTONIC);
        /* Backwards: dropping one moves the last into its place. */
        for (size_t i = count; i-- > 0;)
            if ((fds[i + 2].revents && serve_client(&control->clients[i], answer, user)) ||
                now >= control->clients[i].until_ms)
                drop_client(control, i);
        if (fds[1].revents)
            take_client(control);
    }
}
