#include "agent/plan.h"

#include "base/buf.h"
#include "base/encode.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int copy(const json_t *object, const char *where, const char *key, char *ret, size_t size,
                struct error *error)
{
    const char *text;
    int r = json_need_string(object, where, key, size - 1, &text, error);

    if (r == 0)
        memcpy(ret, text, strlen(text) + 1);
    return r;
}

static int digest(const json_t *object, const char *where, const char *key, char ret[static 65],
                  struct error *error)
{
    int r = copy(object, where, key, ret, 65, error);

    if (r == 0 && !is_digest(ret))
        r = error_set(error, -EINVAL, "%s.%s is \"%s\": expected 64 hex digits", where, key, ret);
    return r;
}

static int read_release(const json_t *object, const char *where, struct plan_release *ret,
                        struct error *error)
{
    const json_t *payload;
    const char *state, *signature;
    int64_t sequence, size, prestage = 0;
    int r = digest(object, where, "release", ret->release, error);

    ret->admit = ret->share = 1;
    if (r == 0)
        r = copy(object, where, "version", ret->version, sizeof(ret->version), error);
    if (r == 0)
        r = copy(object, where, "rollout", ret->rollout, sizeof(ret->rollout), error);
    if (r == 0)
        r = copy(object, where, "salt", ret->salt, sizeof(ret->salt), error);
    if (r == 0)
        r = json_need_integer(object, where, "sequence", 1, INT64_MAX, &sequence, error);
    if (r == 0)
        r = json_need_string(object, where, "state", 32, &state, error);
    if (r == 0)
        r = json_need_string(object, where, "signature", 1024, &signature, error);
    if (r == 0)
        r = json_need(object, where, "payload", JSON_OBJECT, &payload, error);
    if (r == 0)
        r = digest(payload, where, "sha256", ret->payload_sha256, error);
    if (r == 0)
        r = json_need_integer(payload, where, "size", 0, INT64_MAX, &size, error);
    if (r == 0)
        r = json_may_integer(object, where, "prestage_ms", 0, INT64_MAX, &prestage, error);
    if (r == 0)
        r = json_may_number(object, where, "admit", 0, 1, &ret->admit, error);
    if (r == 0)
        r = json_may_number(object, where, "share", 0, 1, &ret->share, error);
    if (r != 0)
        return r;
    ret->sequence = (uint64_t)sequence;
    ret->payload_size = (uint64_t)size;
    ret->prestage = (double)prestage / 1000;
    ret->offered =
        strcmp(state, "running") == 0 || strcmp(state, "paused") == 0 || strcmp(state, "done") == 0;
    ret->signature = xstrdup(signature);
    return 0;
}

int plan_read(const json_t *value, const char *product, const char *channel, struct plan **ret,
              struct error *error)
{
    struct plan *plan = xcalloc(1, sizeof(*plan));
    const char *text;
    const json_t *list;
    const json_t *item;
    size_t i;
    int r = json_need_string(value, "plan", "product", 128, &text, error);

    if (r == 0 && strcmp(text, product) != 0)
        r = error_set(error, -EBADMSG, "the plan is for product %s: expected %s", text, product);
    if (r == 0)
        r = json_need_string(value, "plan", "channel", 128, &text, error);
    if (r == 0 && strcmp(text, channel) != 0)
        r = error_set(error, -EBADMSG, "the plan is for channel %s: expected %s", text, channel);
    if (r == 0)
        r = json_need_integer(value, "plan", "halts", 0, INT64_MAX, &plan->halts, error);
    if (r == 0)
        r = json_need(value, "plan", "releases", JSON_ARRAY, &list, error);
    if (r == 0) {
        plan->releases = xcalloc(json_array_size(list) + 1, sizeof(*plan->releases));
        json_array_foreach((json_t *)(uintptr_t)list, i, item)
        {
            _cleanup_free_ char *where = xasprintf("plan.releases[%zu]", i);

            r = read_release(item, where, &plan->releases[plan->count++], error);
            if (r < 0)
                break;
        }
    }
    if (r < 0)
        plan_free(plan);
    else
        *ret = plan;
    return r;
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    for (size_t i = 0; i < plan->count; i++)
        free(plan->releases[i].signature);
    free(plan->releases);
    free(plan);
}

double plan_place(const char *device, const char *release, const char *salt)
{
    _cleanup_free_ char *text = xasprintf("%s\n%s\n%s\n", device, release, salt);
    uint8_t sum[SHA256_SIZE];
    uint64_t place = 0;

    sha256(text, strlen(text), sum);
    for (int i = 0; i < 8; i++)
        place = place << 8 | sum[i];
    return (double)(place >> 11) / 9007199254740992.0; /* 53 bits: never rounds up to 1 */
}
