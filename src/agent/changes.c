#include "agent/changes.h"

#include "base/buf.h"
#include "base/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHANGES_MOST 64
#define DAY_MS (24 * 3600 * INT64_C(1000))
#define LOG_TAIL (256 * 1024)

static void add(json_t *list, const char *what, const char *name, int64_t at)
{
    json_t *change = json_object();

    (void)json_object_set_new(change, "what", json_string(what));
    (void)json_object_set_new(change, "name", json_string(name));
    (void)json_object_set_new(change, "at", json_integer(at));
    (void)json_array_append_new(list, change);
}

/* "2026-11-25 02:00:58 installed nginx:amd64 1.22" (dpkg(1), local time). */
static void read_line(const char *line, size_t len, int64_t now, json_t *list)
{
    _cleanup_free_ char *text = xstrndup(line, len);
    char what[24], name[129];
    struct tm tm = {.tm_isdst = -1};
    const char *rest = strptime(text, "%Y-%m-%d %H:%M:%S ", &tm);
    int64_t at;

    if (!rest || sscanf(rest, "%23s %128s", what, name) != 2 ||
        (strcmp(what, "install") != 0 && strcmp(what, "upgrade") != 0 &&
         strcmp(what, "remove") != 0 && strcmp(what, "purge") != 0))
        return;
    at = (int64_t)mktime(&tm) * 1000;
    if (at > now - DAY_MS && at <= now && json_array_size(list) < CHANGES_MOST)
        add(list, strncmp(name, "linux-image-", 12) == 0 ? "kernel" : "package", name, at);
}

static void add_packages(struct agent *agent, int64_t now, json_t *list)
{
    _cleanup_free_ char *path = paths_below(&agent->paths, "/var/log/dpkg.log");
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    _cleanup_free_ char *text = NULL;
    struct stat st;
    ssize_t got;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    text = xmalloc(LOG_TAIL + 1);
    got = pread(fd, text, LOG_TAIL, st.st_size > LOG_TAIL ? st.st_size - LOG_TAIL : 0);
    if (got <= 0)
        return;
    text[got] = '\0';
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "\n");

        read_line(p, len, now, list);
        p += len + (p[len] == '\n');
    }
}

json_t *changes_list(struct agent *agent, const struct product *except)
{
    int64_t now = clock_ms(CLOCK_REALTIME);
    json_t *list = json_array();

    (void)pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < agent->product_count && json_array_size(list) < CHANGES_MOST; i++) {
        const struct product *product = &agent->products[i];

        if (product != except && product->shown.changed_at > now - DAY_MS &&
            product->shown.state != STATE_IDLE)
            add(list, "release", product->config->name, product->shown.changed_at);
    }
    (void)pthread_mutex_unlock(&agent->lock);
    add_packages(agent, now, list);
    return list;
}
