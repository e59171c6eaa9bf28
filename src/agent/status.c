#include "agent/status.h"

#include "agent/outbox.h"
#include "agent/slot.h"
#include "agent/snooze.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void set(json_t *object, const char *name, json_t *value)
{
    if (json_object_set_new(object, name, value) < 0)
        abort();
}

static void set_text(json_t *object, const char *name, const char *text)
{
    if (text && *text)
        set(object, name, json_string(text));
}

static void set_number(json_t *object, const char *name, int64_t number)
{
    set(object, name, json_integer((json_int_t)number));
}

/* Members of a journal that people ask for; the same in `status` of a machine without an agent. */
void status_add_journal(json_t *object, const struct journal *journal)
{
    set_text(object, "state", trial_state_name(journal->state));
    if (journal->changed_at > 0)
        set_number(object, "changed_at", journal->changed_at);
    set_text(object, "release", journal->release);
    if (journal->arm != TRIAL_NONE)
        set_text(object, "arm", trial_arm_name(journal->arm));
    set_text(object, "permit", journal->permit);
    if (journal->permit_at > 0)
        set_number(object, "permit_at", journal->permit_at);
    if (journal->soak_ms > 0) {
        set_number(object, "soak_ms", (int64_t)journal->soak_ms);
        set_number(object, "soaked_ms", (int64_t)journal->soaked_ms);
    }
    set_text(object, "outcome", journal->outcome);
    set_text(object, "reason", journal->reason);
    set_text(object, "probe", journal->probe);
    if (journal->exit_status >= 0)
        set_number(object, "exit_status", journal->exit_status);
    if (journal->signal > 0)
        set_number(object, "signal", journal->signal);
}

/* Under the lock. */
static json_t *product_json(const struct product *product)
{
    json_t *object = json_object();

    set_text(object, "product", product->config->name);
    set_text(object, "channel", product->config->channel);
    set_text(object, "current", *product->shown_current ? product->shown_current : "empty");
    if (strcmp(product->version_of, product->shown_current) == 0)
        set_text(object, "version", product->version);
    if (product->sequence > 0)
        set_number(object, "sequence", (int64_t)product->sequence);
    set_text(object, "previous", product->shown_previous);
    status_add_journal(object, &product->shown);
    set_text(object, "blocked", product->blocked);
    if (product->shown_next > 0)
        set_number(object, "next_poll", product->shown_next);
    return object;
}

/* The version stands in the slot's manifest: read once for each release, without the lock. */
static void learn_version(struct agent *agent, struct product *product)
{
    struct manifest manifest = {0};
    char release[65];
    bool known;

    (void)pthread_mutex_lock(&agent->lock);
    memcpy(release, product->shown_current, sizeof(release));
    known = strcmp(product->version_of, release) == 0;
    (void)pthread_mutex_unlock(&agent->lock);
    if (known || *release == '\0')
        return;
    if (slot_manifest(product->dir, release, &manifest, NULL) == 0) {
        (void)pthread_mutex_lock(&agent->lock);
        (void)snprintf(product->version, sizeof(product->version), "%s", manifest.version);
        memcpy(product->version_of, release, sizeof(release));
        (void)pthread_mutex_unlock(&agent->lock);
    }
    manifest_free(&manifest);
}

static json_t *status_json(struct agent *agent)
{
    json_t *object = json_object();
    json_t *products = json_array();
    struct snooze snooze;

    set_text(object, "agent", MAESLANT_VERSION);
    set_number(object, "pid", getpid());
    set_number(object, "at", clock_ms(CLOCK_REALTIME));
    set_text(object, "boot", agent->boot);
    set_text(object, "server", agent->config.server);
    set(object, "enrolled", json_boolean(agent->enrolled));
    set_text(object, "device", agent->identity.device);
    set_text(object, "organisation", agent->identity.organisation);
    set_text(object, "ring", agent->identity.ring);
    set_number(object, "halts", halts_number(&agent->halts));
    set_number(object, "reports_waiting", (int64_t)outbox_count(agent->outbox));
    if (snooze_load(&agent->paths, agent->config.snooze_max, clock_ms(CLOCK_REALTIME), &snooze,
                    NULL) == 0 &&
        snooze.until_ms > 0) {
        set_number(object, "snoozed_until", snooze.until_ms);
        set_text(object, "snooze_reason", snooze.reason);
    }
    for (size_t i = 0; i < agent->product_count; i++)
        learn_version(agent, &agent->products[i]);
    (void)pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < agent->product_count; i++)
        if (json_array_append_new(products, product_json(&agent->products[i])) < 0)
            abort();
    (void)pthread_mutex_unlock(&agent->lock);
    set(object, "products", products);
    return object;
}

static int replace(const char *path, const char *text, struct error *error)
{
    /* Each writer has a name of its own: the products' threads write side by side. */
    _cleanup_free_ char *tmp = xasprintf("%s.%d.tmp", path, (int)gettid());
    _cleanup_fd_ int fd = -1;
    size_t len = strlen(text);
    int r = 0;

    (void)unlink(tmp);
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return error_set(error, -errno, "%s: cannot make it: %s", tmp, strerrordesc_np(errno));
    for (size_t done = 0; r == 0 && done < len;) {
        ssize_t got = write(fd, text + done, len - done);

        if (got >= 0)
            done += (size_t)got;
        else if (errno != EINTR)
            r = -errno;
    }
    if (r == 0 && (fchmod(fd, 0644) < 0 || rename(tmp, path) < 0))
        r = -errno;
    if (r < 0) {
        (void)unlink(tmp);
        return error_set(error, r, "%s: cannot write it: %s", path, strerrordesc_np(-r));
    }
    return 0;
}

void status_write(struct agent *agent)
{
    _cleanup_free_ char *path = path_join(agent->paths.run, "status.json");
    _cleanup_json_ json_t *object = status_json(agent);
    _cleanup_free_ char *text = json_text(object);
    _cleanup_free_ char *line = xasprintf("%s\n", text);

    struct error error = ERROR_INIT;

    if (replace(path, line, &error) < 0)
        log_debug("status", "%s", error.text);
}

void status_remove(const struct agent *agent)
{
    _cleanup_free_ char *path = path_join(agent->paths.run, "status.json");

    (void)unlink(path);
}
