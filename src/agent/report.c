#include "agent/changes.h"
#include "agent/courier.h"
#include "agent/outbox.h"
#include "agent/trial.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/text.h"

#include <string.h>

static void set(json_t *object, const char *name, json_t *value)
{
    if (json_object_set_new(object, name, value) < 0)
        abort();
}

static json_t *resources(const struct product *product)
{
    json_t *object = json_object();

    set(object, "rss_bytes", json_integer((json_int_t)product->usage.rss_bytes));
    set(object, "cpu_ms", json_integer((json_int_t)product->usage.cpu_ms));
    set(object, "seconds", json_integer((json_int_t)product->soak_seconds));
    return object;
}

/* The lines of `text` as they may stand in a body; what does not fit is left out at the end. */
static void add_log(char *ret, size_t size, const char *text)
{
    size_t used = 0;

    ret[0] = '\0';
    while (*text && used + 8 < size) {
        size_t len = strcspn(text, "\n");

        used += text_escape(ret + used, size - used - 2, text, len);
        text += len;
        if (*text == '\n') {
            ret[used++] = '\n';
            ret[used] = '\0';
            text++;
        }
    }
}

static json_t *report_body(struct product *product, const char *outcome, const char *text)
{
    const struct journal *journal = &product->journal;
    char running[65], shown[CHECK_TAIL + 1];
    json_t *body = json_object();
    json_t *changes = changes_list(product->agent, product);

    set(body, "permit", json_string(journal->permit));
    set(body, "release", json_string(journal->release));
    set(body, "outcome", json_string(outcome));
    if (*journal->reason && strcmp(journal->reason, "resuming") != 0)
        set(body, "reason", json_string(journal->reason));
    if (*journal->probe)
        set(body, "probe", json_string(journal->probe));
    if (journal->exit_status >= 0)
        set(body, "exit_status", json_integer(journal->exit_status));
    if (journal->signal > 0)
        set(body, "signal", json_integer(journal->signal));
    set(body, "boots", json_integer((json_int_t)journal->boots));
    set(body, "boot", json_string(product->agent->boot));
    if (slot_link(product->dir, "current", running, NULL) == 0 && *running)
        set(body, "running", json_string(running));
    if (json_array_size(changes) > 0)
        set(body, "changes", json_incref(changes));
    json_decref(changes);
    if (product->usage.rss_bytes > 0)
        set(body, "resources", resources(product));
    if (text && *text) {
        add_log(shown, sizeof(shown), text);
        set(body, "log", json_string(shown));
    }
    return body;
}

void report_put(struct product *product, const char *outcome, const char *text)
{
    _cleanup_json_ json_t *body = NULL;
    struct error error = ERROR_INIT;

    if (!*product->journal.permit)
        return;
    body = report_body(product, outcome, text);
    if (outbox_put(product->agent->outbox, product->journal.permit, outcome, body, &error) < 0) {
        log_error("report-not-kept", "%s: %s; it waits in memory", product->config->name,
                  error.text);
        (void)pthread_mutex_lock(&product->agent->lock);
        (void)json_array_append(product->agent->unkept, body);
        (void)pthread_mutex_unlock(&product->agent->lock);
    }
    courier_wake(product->agent->courier);
}
