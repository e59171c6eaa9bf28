#include "replay/lines.h"

#include "base/buf.h"
#include "base/encode.h"
#include "replay/write.h"

#include <errno.h>
#include <string.h>

#define WORD_MAX 256
#define EXCLUDED_MAX 4096

static void add_json(struct buf *buf, const char *name, const json_t *value)
{
    _cleanup_free_ char *text = value ? json_text(value) : NULL;

    if (text)
        buf_addf(buf, ",\"%s\":%s", name, text);
}

char *start_text(const struct start_line *line)
{
    struct buf buf = BUF_INIT;

    write_head(&buf, line->t, "event", "start");
    write_text(&buf, "rollout", line->rollout);
    write_text(&buf, "release", line->release);
    write_text(&buf, "seed", line->seed);
    add_json(&buf, "policy", line->policy);
    add_json(&buf, "organisations", line->organisations);
    add_json(&buf, "excluded", line->excluded);
    if (line->gate_off)
        write_text(&buf, "gate", "off");
    return write_end(&buf);
}

static int read_organisations(const json_t *value, const json_t **ret, struct error *error)
{
    const char *name;
    json_t *devices;
    int64_t count;
    int r = json_may(value, NULL, "organisations", JSON_OBJECT, ret, error);

    if (r < 0 || !*ret)
        return r;
    json_object_foreach((json_t *)(uintptr_t)*ret, name, devices)
    {
        r = json_need_integer(*ret, "organisations", name, 1, UINT32_MAX, &count, error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_slice(const json_t *slice, size_t index, struct error *error)
{
    char where[32];
    const char *name, *text;
    json_t *value;
    int r;

    (void)snprintf(where, sizeof where, "excluded[%zu]", index);
    if (!json_is_object(slice) || json_object_size(slice) == 0)
        return error_set(error, -EINVAL,
                         "%s is no slice: expected attributes with their values, such as "
                         "{\"kernel\":\"5.4\"}",
                         where);
    json_object_foreach((json_t *)(uintptr_t)slice, name, value)
    {
        r = json_need_string(slice, where, name, WORD_MAX, &text, error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_excluded(const json_t *value, const json_t **ret, struct error *error)
{
    int r = json_may(value, NULL, "excluded", JSON_ARRAY, ret, error);
    size_t count = r == 0 ? json_array_size(*ret) : 0;

    if (count > EXCLUDED_MAX)
        return error_set(error, -EINVAL, "excluded has %zu slices: expected at most %d", count,
                         EXCLUDED_MAX);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = read_slice(json_array_get(*ret, i), i, error);
    return r;
}

static int need_name(const json_t *value, const char *key, const char **ret, struct error *error)
{
    int r = json_need_string(value, NULL, key, WORD_MAX, ret, error);

    if (r == 0 && !**ret)
        return error_set(error, -EINVAL, "%s is \"\": expected a name", key);
    return r;
}

static int need_seed(const json_t *value, const char **ret, struct error *error)
{
    int r = json_need_string(value, NULL, "seed", WORD_MAX, ret, error);

    if (r == 0 && !is_digest(*ret))
        return error_set(error, -EINVAL, "seed is \"%.80s\": expected 64 lower-case hex digits",
                         *ret);
    return r;
}

static int read_gate(const json_t *value, bool *ret_off, struct error *error)
{
    const char *gate = NULL;
    int r = json_may_string(value, NULL, "gate", WORD_MAX, &gate, error);

    if (r == 0 && gate && strcmp(gate, "off") != 0)
        return error_set(error, -EINVAL, "gate is \"%.64s\": expected \"off\", or no gate at all",
                         gate);
    *ret_off = gate != NULL;
    return r;
}

int start_read(const json_t *value, struct start_line *ret, struct error *error)
{
    static const char *const known[] = {"t",      "event",         "rollout",  "release", "seed",
                                        "policy", "organisations", "excluded", "gate",    NULL};
    const char *event, *rollout, *release, *seed;
    const json_t *t, *policy, *organisations = NULL, *excluded = NULL;
    bool gate_off = false;
    int r;

    if ((r = json_need_string(value, NULL, "event", WORD_MAX, &event, error)) < 0)
        return r;
    if (strcmp(event, "start") != 0)
        return error_set(error, -EINVAL,
                         "event is \"%.64s\": expected start first, which names rollout, release, "
                         "seed and policy",
                         event);
    if ((r = json_need(value, NULL, "t", JSON_REAL, &t, error)) < 0 ||
        (r = need_name(value, "rollout", &rollout, error)) < 0 ||
        (r = need_name(value, "release", &release, error)) < 0 ||
        (r = need_seed(value, &seed, error)) < 0 ||
        (r = json_need(value, NULL, "policy", JSON_OBJECT, &policy, error)) < 0 ||
        (r = read_organisations(value, &organisations, error)) < 0 ||
        (r = read_excluded(value, &excluded, error)) < 0 ||
        (r = read_gate(value, &gate_off, error)) < 0 ||
        (r = json_only(value, NULL, known, error)) < 0)
        return r;
    *ret = (struct start_line){
        .rollout = xstrdup(rollout),
        .release = xstrdup(release),
        .seed = xstrdup(seed),
        .t = json_number_value(t),
        .policy = json_incref((json_t *)(uintptr_t)policy),
        .organisations = json_incref((json_t *)(uintptr_t)organisations),
        .excluded = json_incref((json_t *)(uintptr_t)excluded),
        .gate_off = gate_off,
    };
    return 0;
}

void start_free(struct start_line *line)
{
    free(line->rollout);
    free(line->release);
    free(line->seed);
    json_decref(line->policy);
    json_decref(line->organisations);
    json_decref(line->excluded);
    *line = (struct start_line){0};
}

/* The array is the caller's (free); its names are the line's. */
static struct rollout_organisation *organisations_of(const struct start_line *line)
{
    size_t count = json_object_size(line->organisations), i = 0;
    struct rollout_organisation *list = xcalloc(count ? count : 1, sizeof *list);
    const char *name;
    json_t *devices;

    json_object_foreach(line->organisations, name, devices)
    {
        list[i++] = (struct rollout_organisation){name, (uint64_t)json_integer_value(devices)};
    }
    return list;
}

static size_t attribute_count(const struct start_line *line)
{
    size_t count = 0, i;
    json_t *slice;

    json_array_foreach(line->excluded, i, slice) count += json_object_size(slice);
    return count;
}

/* Both arrays are the caller's (free); their names are the line's. */
static struct rollout_slice *slices_of(const struct start_line *line,
                                       struct rollout_attribute **ret_attributes)
{
    size_t count = json_array_size(line->excluded), i, attributes = attribute_count(line);
    struct rollout_slice *slices = xcalloc(count ? count : 1, sizeof *slices);
    struct rollout_attribute *next = xcalloc(attributes ? attributes : 1, sizeof *next);
    const char *name;
    json_t *slice, *value;

    *ret_attributes = next;
    json_array_foreach(line->excluded, i, slice)
    {
        slices[i] = (struct rollout_slice){next, json_object_size(slice)};
        json_object_foreach(slice, name, value) *next++ =
            (struct rollout_attribute){name, json_string_value(value)};
    }
    return slices;
}

int start_rollout(const struct start_line *line, struct policy *ret_policy, struct rollout **ret,
                  struct error *error)
{
    _cleanup_free_ struct rollout_organisation *organisations = organisations_of(line);
    _cleanup_free_ struct rollout_attribute *attributes = NULL;
    _cleanup_free_ struct rollout_slice *slices = slices_of(line, &attributes);
    int r = policy_parse(line->policy, ret_policy, error);

    if (r < 0)
        return r;
    if (line->gate_off) {
        /* No evidence that this world can bring reaches such thresholds, and no window fills. */
        ret_policy->harm_budget = 1e9;
        ret_policy->alpha = 1e-300;
        ret_policy->tolerance_cap = 0.999999;
    }
    r = rollout_new(ret_policy,
                    &(struct rollout_start){
                        .rollout = line->rollout,
                        .release = line->release,
                        .seed = line->seed,
                        .t = line->t,
                        .organisations = organisations,
                        .organisation_count = json_object_size(line->organisations),
                        .excluded = slices,
                        .excluded_count = json_array_size(line->excluded),
                    },
                    ret, error);
    if (r < 0)
        policy_free(ret_policy);
    return r;
}
