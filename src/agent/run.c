#include "agent/run.h"

#include "agent/client.h"
#include "agent/courier.h"
#include "agent/outbox.h"
#include "agent/product.h"
#include "agent/status.h"
#include "agent/user.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define LAST_WORDS 2.0 /* seconds for the reports of an orderly end */
#define OUTBOX_PATIENCE 10.0

int agent_lock(const struct paths *paths, int *ret_fd, struct error *error)
{
    _cleanup_free_ char *path = path_join(paths->run, "agent.lock");
    char pid[24];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

    if (fd < 0)
        return error_set(error, -errno, "%s: cannot open it: %s", path, strerrordesc_np(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        (void)close(fd);
        return error_set(error, -EBUSY, "%s: another agent runs for this root", path);
    }
    (void)snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || write(fd, pid, strlen(pid)) < 0)
        log_warning("lock", "%s: the process id is not in it", path);
    *ret_fd = fd;
    return 0;
}

/* Rule 15: a device without an identity of its own enrols, when it was given a token. */
static int enroll_again(struct agent *agent, int why, struct error *error)
{
    _cleanup_free_ char *path = NULL;
    _cleanup_buf_ struct buf token = BUF_INIT;
    struct error inner = ERROR_INIT;
    int r;

    if (!agent->config.token_file)
        return why;
    path = paths_below(&agent->paths, agent->config.token_file);
    if (file_read(AT_FDCWD, path, 4096, &token, &inner) < 0)
        return error_prefix(error, why, "token_file: %s", inner.text);
    while (token.len > 0 && (token.data[token.len - 1] == '\n' || token.data[token.len - 1] == ' '))
        token.data[--token.len] = '\0';
    r = why == -EXDEV ? identity_retire(&agent->paths, error) : 0;
    if (r == 0)
        r = client_enroll(&agent->paths, &agent->config, token.data ? token.data : "", NULL, error);
    if (r == 0)
        r = agent_identify(agent, error);
    if (r == 0)
        log_notice("enrolled", "as device %.16s… of %s", agent->identity.device,
                   agent->identity.organisation);
    return r;
}

static int block_signals(struct error *error)
{
    sigset_t set;
    int fd;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a full disk */
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? error_set(error, -errno, "signalfd: %s", strerrordesc_np(errno)) : fd;
}

/* Until a signal, or until --once is done. */
static void wait_for_end(struct agent *agent, int signal_fd)
{
    struct pollfd fds[] = {{.fd = signal_fd, .events = POLLIN},
                           {.fd = agent->done_fd, .events = POLLIN}};
    struct signalfd_siginfo info;

    for (;;) {
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents && read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
            if (info.ssi_signo == SIGHUP) {
                agent_look_again(agent);
                continue;
            }
            log_notice("stopping", "signal %s", sigdescr_np((int)info.ssi_signo));
            return;
        }
        if (fds[1].revents)
            return;
    }
}

static int walk(struct agent *agent, int signal_fd, struct error *error)
{
    int r = 0;

    atomic_store(&agent->busy, (int)agent->product_count);
    status_write(agent);
    agent->courier = courier_start(agent);
    for (size_t i = 0; i < agent->product_count && r == 0; i++)
        r = product_start(&agent->products[i], error);
    if (r == 0)
        wait_for_end(agent, signal_fd);
    if (r == 0 && atomic_load(&agent->once)) {
        double until = mono() + OUTBOX_PATIENCE;

        while (outbox_count(agent->outbox) > 0 && mono() < until)
            (void)poll(NULL, 0, 50);
    }
    atomic_store(&agent->stopping, true);
    fd_raise(agent->stop_fd);
    for (size_t i = 0; i < agent->product_count; i++) {
        if (agent->products[i].running)
            (void)pthread_join(agent->products[i].thread, NULL);
        agent->products[i].running = false;
    }
    courier_stop(agent->courier, LAST_WORDS);
    agent->courier = NULL;
    return r;
}

int agent_run(const struct run_options *options, struct error *error)
{
    struct paths paths;
    struct agent agent;
    int signal_fd, lock_fd = -1;
    int r = paths_open(options->root, &paths, error);

    if (r < 0)
        return r;
    if (options->user)
        r = user_become(options->user, &paths, error);
    else if (geteuid() == 0)
        log_warning("root", "runs as root: give --user NAME where the adapters need no root");
    if (r == 0)
        r = agent_lock(&paths, &lock_fd, error);
    paths_free(&paths);
    if (r < 0)
        return r;
    signal_fd = block_signals(error);
    if (signal_fd < 0) {
        (void)close(lock_fd);
        return signal_fd;
    }
    r = agent_open(options->root, &agent, error);
    atomic_store(&agent.once, options->once);
    if (r == 0) {
        r = agent_identify(&agent, error);
        if (r == -ENOENT || r == -EXDEV)
            r = enroll_again(&agent, r, error);
    }
    if (r == 0) {
        log_notice("started", "version %s, device %.16s…, %zu product%s", MAESLANT_VERSION,
                   agent.identity.device, agent.product_count, agent.product_count == 1 ? "" : "s");
        r = walk(&agent, signal_fd, error);
    }
    agent_close(&agent);
    (void)close(signal_fd);
    (void)close(lock_fd);
    return r;
}
