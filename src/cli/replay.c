#include "cli/cli.h"

#include "replay/check.h"
#include "replay/lines.h"
#include "replay/replay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES (64 * 1024 * 1024)
#define CHUNK 65536

static const char usage[] =
    "usage: maeslant replay FILE [--all | --check]\n"
    "\n"
    "Recomputes a rollout from its events: one JSON event a line from FILE, or from standard "
    "input\n"
    "with -. Prints each decision as it falls, as one JSON line, and a summary as the last line.\n"
    "Decisions in the input are passed over, so a server's log may be given as it is.\n"
    "\n"
    "  --all    print the decisions of kinds that only this program has, too: resume, done,\n"
    "           silent and revert; and who paused or halted, and why\n"
    "  --check  print nothing but whether each decision in the input, which is a server's log, is\n"
    "           the one that its events give\n"
    "\n"
    "Example:\n"
    "  maeslant rollout events sensor-3 --dir ./plane | maeslant replay --check -\n";

/* Hands on the lines of a file as they come, so that decisions are printed as they fall. */
struct feed {
    int (*line)(void *user, const char *text, size_t len, struct error *error);
    void *user;
};

static int feed_lines(const struct feed *feed, struct buf *pending, size_t *scanned,
                      struct error *error)
{
    size_t start = 0;
    int r = 0;

    while (r == 0) {
        const char *from = pending->data + *scanned;
        const char *end = memchr(from, '\n', pending->len - *scanned);

        if (!end)
            break;
        r = feed->line(feed->user, pending->data + start, (size_t)(end - pending->data) - start,
                       error);
        start = *scanned = (size_t)(end + 1 - pending->data);
    }
    memmove(pending->data, pending->data + start, pending->len - start);
    pending->len -= start;
    *scanned = pending->len;
    if (r == 0 && pending->len > LINE_MAX_BYTES)
        r = error_set(error, -EFBIG, "a line is longer than %d bytes: expected one event a line",
                      LINE_MAX_BYTES);
    return r;
}

static int feed_file(const struct feed *feed, int fd, struct error *error)
{
    _cleanup_buf_ struct buf pending = BUF_INIT;
    size_t scanned = 0;
    ssize_t got = 0;
    int r = 0;

    while (r == 0) {
        buf_reserve(&pending, CHUNK);
        got = read(fd, pending.data + pending.len, CHUNK);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        pending.len += (size_t)got;
        r = feed_lines(feed, &pending, &scanned, error);
        if (fflush(stdout) != 0)
            r = error_set(error, -errno, "standard output: %s", strerror(errno));
    }
    if (got < 0)
        return error_set(error, -errno, "can't be read: %s", strerror(errno));
    return r == 0 && pending.len > 0 ? feed->line(feed->user, pending.data, pending.len, error) : r;
}

/* The decisions of a line are kept until the line has proved good. */
struct printing {
    struct replay *replay;
    bool all;
    struct buf fresh;
};

static void print_decision(void *user, const struct rollout_decision *decision, const char *device)
{
    struct printing *printing = user;
    _cleanup_free_ char *text =
        printing->all ? decision_text(decision, device) : decision_text_listed(decision, device);

    if (!text)
        return;
    buf_add_str(&printing->fresh, text);
    buf_add(&printing->fresh, "\n", 1);
}

static int print_line(void *user, const char *text, size_t len, struct error *error)
{
    struct printing *printing = user;
    int r = replay_line(printing->replay, text, len, error);

    if (r == 0 && printing->fresh.len > 0)
        fwrite(printing->fresh.data, 1, printing->fresh.len, stdout);
    buf_clear(&printing->fresh);
    return r;
}

static int recompute(int fd, bool all, struct error *error)
{
    struct printing printing = {.all = all};
    struct feed feed = {print_line, &printing};
    int r;

    printing.replay =
        replay_new(&(struct replay_calls){.decide = print_decision, .user = &printing});
    if ((r = feed_file(&feed, fd, error)) == 0 && (r = replay_end(printing.replay, error)) == 0) {
        replay_summary(printing.replay, &printing.fresh);
        puts(printing.fresh.data);
    }
    replay_free(printing.replay);
    buf_free(&printing.fresh);
    return r;
}

static int check_line(void *user, const char *text, size_t len, struct error *error)
{
    return replay_check_line(user, text, len, error);
}

static int check(int fd, struct error *error)
{
    struct replay_check *check = replay_check_new();
    struct feed feed = {check_line, check};
    int r = feed_file(&feed, fd, error);

    if (r == 0)
        r = replay_check_end(check, error);
    if (r == 0) {
        printf("every decision recomputed: %" PRIu64 " of %" PRIu64 "\n", replay_check_count(check),
               replay_check_count(check));
    } else if (r == -EUCLEAN) {
        const char *logged = replay_check_logged(check), *now = replay_check_recomputed(check);

        printf("in the log:  %s\nrecomputed:  %s\n", logged ? logged : "nothing",
               now ? now : "nothing");
    }
    replay_check_free(check);
    return r;
}

int command_replay(int argc, char **argv)
{
    const char *path;
    bool all = false, checks = false;
    const struct option_spec specs[] = {{"all", 'f', &all}, {"check", 'f', &checks}};
    struct error error = ERROR_INIT;
    _cleanup_fd_ int file = -1;
    int fd = STDIN_FILENO, r;

    if ((r = options_parse(argc, argv, usage, specs, ARRAY_SIZE(specs), &path, 1, 1)) >= 0)
        return r;
    if (all && checks) {
        fputs("maeslant: --all and --check exclude each other\n", stderr);
        return EXIT_USAGE;
    }
    if (strcmp(path, "-") != 0) {
        fd = file = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            r = error_set(&error, -errno, "%s: %s", path, strerror(errno));
            return fail(r, &error);
        }
    }
    r = checks ? check(fd, &error) : recompute(fd, all, &error);
    if (fflush(stdout) != 0 && r == 0)
        r = error_set(&error, -errno, "standard output: %s", strerror(errno));
    if (r == 0)
        return EXIT_OK;
    error_prefix(&error, r, "%s", file < 0 ? "standard input" : path);
    fail(r, &error);
    return EXIT_REFUSED;
}
