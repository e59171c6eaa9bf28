#include "event.h"

#include <string.h>
#include <unistd.h>

/* Sets what every event has, and "" elsewhere. Fields 18 to 20 are reserved: always "". */
static void event_begin(const struct event_source *source, const char *kind, struct event *ret)
{
    for (unsigned i = 0; i < EVENT_FIELDS; i++)
        ret->fields[i] = NULL;
    ret->fields[0] = xstrdup(kind);
    ret->fields[14] = xasprintf("%u", source->engine);
    ret->fields[15] = xasprintf("%ld", (long)getpid());
    ret->fields[16] = xasprintf("%llu", (unsigned long long)source->cycle);
}

static void event_finish(struct event *event)
{
    for (unsigned i = 0; i < EVENT_FIELDS; i++)
        if (!event->fields[i])
            event->fields[i] = xstrdup("");
}

void event_of_file(const struct event_source *source, const char *path, const struct stat *st,
                   const char *rules, struct event *ret)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');

    event_begin(source, "file", ret);
    ret->fields[1] = xstrdup(path);
    ret->fields[2] = xstrdup(name);
    ret->fields[3] = xstrdup(dot ? dot + 1 : "");
    ret->fields[4] = xasprintf("%lld", (long long)st->st_size);
    ret->fields[5] = xasprintf("%04o", st->st_mode & 07777);
    ret->fields[6] = xasprintf("%u", st->st_uid);
    ret->fields[7] = xasprintf("%u", st->st_gid);
    ret->fields[8] = xasprintf("%lld", (long long)st->st_mtime);
    ret->fields[9] = xasprintf("%llu", (unsigned long long)st->st_ino);
    ret->fields[10] = xasprintf("%llu", (unsigned long long)st->st_nlink);
    ret->fields[11] = xasprintf("%llu", (unsigned long long)st->st_dev);
    ret->fields[12] = xstrdup(rules);
    ret->fields[13] = xstrdup(*rules ? "detected" : "clean");
    event_finish(ret);
}

void event_heartbeat(const struct event_source *source, struct event *ret)
{
    event_begin(source, "heartbeat", ret);
    event_finish(ret);
}

void event_free(struct event *event)
{
    for (unsigned i = 0; i < EVENT_FIELDS; i++)
        free(event->fields[i]);
    *event = (struct event){0};
}
