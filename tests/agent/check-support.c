#include "check-support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int listen_somewhere(uint16_t *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 16) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        abort();
    *ret_port = ntohs(address.sin_port);
    return fd;
}

uint16_t closed_port(void)
{
    uint16_t port;
    int fd = listen_somewhere(&port);

    (void)close(fd);
    return port;
}

static bool stopped(const struct site *site, int milliseconds)
{
    struct pollfd fd = {.fd = site->stop_fd, .events = POLLIN};

    return poll(&fd, 1, milliseconds) > 0;
}

static bool put(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t got = send(fd, data, len, MSG_NOSIGNAL);

        if (got <= 0)
            return false;
        data += got;
        len -= (size_t)got;
    }
    return true;
}

static void behave(struct site *site, int fd)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
    char block[16384];
    const struct timeval patience = {.tv_usec = 200000};

    memset(block, 'x', sizeof(block));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (site->manner == SITE_ANSWERS) {
        (void)put(fd, site->reply, strlen(site->reply));
        return;
    }
    if (site->manner == SITE_ENDLESS_HEADERS)
        (void)put(fd, "HTTP/1.1 200 OK\r\n", 17);
    else if (site->manner != SITE_SILENT)
        (void)put(fd, head, sizeof(head) - 1);
    while (!stopped(site, site->manner == SITE_SILENT || site->manner == SITE_TRICKLES ? 50 : 0)) {
        char end[1];

        if (recv(fd, end, 1, MSG_DONTWAIT) == 0)
            return;
        if (site->manner == SITE_TRICKLES && !put(fd, "x", 1))
            return;
        if (site->manner == SITE_ENDLESS_BODY && !put(fd, block, sizeof(block)))
            return;
        if (site->manner == SITE_ENDLESS_HEADERS && !put(fd, "X-More: and more\r\n", 18))
            return;
    }
}

static void *serve(void *user)
{
    struct site *site = user;
    struct pollfd fds[] = {{.fd = site->fd, .events = POLLIN},
                           {.fd = site->stop_fd, .events = POLLIN}};

    while (poll(fds, 2, -1) > 0 && !fds[1].revents) {
        int fd = accept4(site->fd, NULL, NULL, SOCK_CLOEXEC);
        ssize_t got;

        if (fd < 0)
            continue;
        got = recv(fd, site->request, sizeof(site->request) - 1, 0);
        site->request[got > 0 ? got : 0] = '\0';
        if (got > 0)
            behave(site, fd);
        (void)close(fd);
    }
    return NULL;
}

void site_start(struct site *site, enum site_manner manner, const char *reply)
{
    *site = (struct site){.manner = manner, .reply = reply};
    site->fd = listen_somewhere(&site->port);
    site->stop_fd = eventfd(0, EFD_CLOEXEC);
    (void)snprintf(site->url, sizeof(site->url), "http://127.0.0.1:%u/", site->port);
    (void)snprintf(site->port_text, sizeof(site->port_text), "%u", site->port);
    if (site->stop_fd < 0 || pthread_create(&site->thread, NULL, serve, site) != 0)
        abort();
}

void site_stop(struct site *site)
{
    const uint64_t one = 1;

    if (write(site->stop_fd, &one, sizeof(one)) < 0)
        abort();
    (void)pthread_join(site->thread, NULL);
    (void)close(site->fd);
    (void)close(site->stop_fd);
}

static void *ring(void *user)
{
    const uint64_t one = 1;
    struct bell *bell = user;

    clock_sleep(bell->seconds);
    if (write(bell->fd, &one, sizeof(one)) < 0)
        abort();
    return NULL;
}

void bell_set(struct bell *bell, double seconds)
{
    bell->seconds = seconds;
    bell->fd = eventfd(0, EFD_CLOEXEC);
    if (bell->fd < 0 || pthread_create(&bell->thread, NULL, ring, bell) != 0)
        abort();
}

void bell_end(struct bell *bell)
{
    (void)pthread_join(bell->thread, NULL);
    (void)close(bell->fd);
}

void write_text(const char *folder, const char *name, const char *text)
{
    _cleanup_free_ char *path = path_join(folder, name);

    scratch_write(path, text, strlen(text), 0644);
}

pid_t sleeper_start(const char *path)
{
    pid_t pid = fork();
    char text[32];

    if (pid < 0)
        abort();
    if (pid == 0) {
        (void)execl("/bin/sleep", "sleep", "60", (char *)NULL);
        _exit(127);
    }
    (void)snprintf(text, sizeof(text), "%d\n", (int)pid);
    scratch_write(path, text, strlen(text), 0644);
    return pid;
}

void sleeper_kill(pid_t pid, int signal)
{
    (void)kill(pid, signal);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}
