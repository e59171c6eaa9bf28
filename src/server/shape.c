#include "server/shape.h"

#include "base/buf.h"
#include "base/encode.h"
#include "base/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define ATTRIBUTES_MAX 64
#define ATTRIBUTE_BYTES 128
#define CHANGES_MAX 64
#define PRODUCTS_MAX 64
#define LOG_BYTES 8192
#define TIME_MAX 253402300799000 /* the end of the year 9999 in milliseconds */

static const char *const words_purpose[] = {"release", "revert", NULL};
static const char *const words_outcome[] = {"healthy",   "failed",   "declined", "interrupted",
                                            "regressed", "reverted", NULL};

#define COMMON                                                                                     \
    {"protocol", SHAPE_INTEGER, true, 1, 1, NULL}, {"agent", SHAPE_TEXT, true, 1, 64, NULL},       \
        {"seq", SHAPE_INTEGER, true, 1, INT64_MAX / 2, NULL},                                      \
    {                                                                                              \
        "sent_at", SHAPE_INTEGER, true, 0, TIME_MAX, NULL                                          \
    }

static const struct shape_member members_enroll[] = {
    COMMON,
    {"device", SHAPE_DIGEST, false, 0, 0, NULL},
    {"token", SHAPE_TEXT, true, 1, 128, NULL},
    {"public_key", SHAPE_KEY, true, 0, 0, NULL},
    {"machine", SHAPE_DIGEST, true, 0, 0, NULL},
    {"attributes", SHAPE_ATTRIBUTES, true, 0, 0, NULL},
    {"group", SHAPE_NAME, false, 0, 0, NULL},
};
static const struct shape_member members_begin[] = {
    COMMON,
    {"device", SHAPE_DIGEST, true, 0, 0, NULL},
    {"nonce", SHAPE_DIGEST, true, 0, 0, NULL},
    {"product", SHAPE_NAME, true, 0, 0, NULL},
    {"channel", SHAPE_NAME, true, 0, 0, NULL},
    {"release", SHAPE_DIGEST, true, 0, 0, NULL},
    {"from", SHAPE_RUNS, true, 0, 0, NULL},
    {"attributes", SHAPE_ATTRIBUTES, true, 0, 0, NULL},
    {"purpose", SHAPE_ENUM, false, 0, 0, words_purpose},
    {"boot", SHAPE_TEXT, true, 1, 64, NULL},
    {"group", SHAPE_NAME, false, 0, 0, NULL},
};
static const struct shape_member members_report[] = {
    COMMON,
    {"device", SHAPE_DIGEST, true, 0, 0, NULL},
    {"permit", SHAPE_PERMIT, true, 0, 0, NULL},
    {"release", SHAPE_DIGEST, true, 0, 0, NULL},
    {"outcome", SHAPE_ENUM, true, 0, 0, words_outcome},
    {"reason", SHAPE_NAME, false, 0, 0, NULL},
    {"probe", SHAPE_NAME, false, 0, 0, NULL},
    {"exit_status", SHAPE_INTEGER, false, 0, 255, NULL},
    {"signal", SHAPE_INTEGER, false, 1, 64, NULL},
    {"boots", SHAPE_INTEGER, false, 0, INT32_MAX, NULL},
    {"boot", SHAPE_TEXT, false, 1, 64, NULL},
    {"running", SHAPE_RUNS, false, 0, 0, NULL},
    {"resources", SHAPE_OBJECT, false, 0, 0, NULL},
    {"changes", SHAPE_CHANGES, false, 0, 0, NULL},
    {"log", SHAPE_TEXT, false, 0, LOG_BYTES, NULL},
};
static const struct shape_member members_status[] = {
    COMMON,
    {"device", SHAPE_DIGEST, true, 0, 0, NULL},
    {"boot", SHAPE_TEXT, true, 1, 64, NULL},
    {"boots", SHAPE_INTEGER, false, 0, INT32_MAX, NULL},
    {"products", SHAPE_PRODUCTS, true, 0, 0, NULL},
    {"attributes", SHAPE_ATTRIBUTES, true, 0, 0, NULL},
};

const struct shape shape_enroll = {"enroll", members_enroll, ARRAY_SIZE(members_enroll)};
const struct shape shape_begin = {"begin", members_begin, ARRAY_SIZE(members_begin)};
const struct shape shape_report = {"report", members_report, ARRAY_SIZE(members_report)};
const struct shape shape_status = {"status", members_status, ARRAY_SIZE(members_status)};

static const struct shape_member members_product[] = {
    {"product", SHAPE_NAME, true, 0, 0, NULL},
    {"channel", SHAPE_NAME, true, 0, 0, NULL},
    {"current", SHAPE_RUNS, true, 0, 0, NULL},
    {"previous", SHAPE_RUNS, false, 0, 0, NULL},
    {"state", SHAPE_NAME, true, 0, 0, NULL},
    {"blocked", SHAPE_NAME, false, 0, 0, NULL},
    {"sequence", SHAPE_INTEGER, false, 0, INT64_MAX, NULL},
};
static const struct shape_member members_change[] = {
    {"what", SHAPE_NAME, true, 0, 0, NULL},
    {"name", SHAPE_TEXT, true, 0, ATTRIBUTE_BYTES, NULL},
    {"at", SHAPE_INTEGER, true, 0, TIME_MAX, NULL},
};

static bool is_hex(const char *text, size_t len)
{
    return strlen(text) == len && strspn(text, "0123456789abcdef") == len;
}

/* "where.name" for the errors below. */
struct place {
    const char *where, *name;
};

static int bad(struct error *error, struct place at, const char *value, const char *expected)
{
    return error_set(error, -EINVAL, "%s.%s is '%.80s'; expected %s", at.where, at.name, value,
                     expected);
}

static int check_string(const json_t *value, struct place at, const struct shape_member *member,
                        const char **ret_code, struct error *error)
{
    if (!json_is_string(value))
        return error_set(error, -EINVAL, "%s.%s is no string", at.where, at.name);
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    switch (member->kind) {
    case SHAPE_DIGEST:
        return is_digest(text) ? 0 : bad(error, at, text, "64 lower-case hex digits");
    case SHAPE_PERMIT:
        return is_hex(text, 32) ? 0 : bad(error, at, text, "32 lower-case hex digits");
    case SHAPE_RUNS:
        return is_digest(text) || strcmp(text, "empty") == 0
                   ? 0
                   : bad(error, at, text, "64 lower-case hex digits or 'empty'");
    case SHAPE_NAME:
        return is_name(text) ? 0
                             : bad(error, at, text,
                                   "1 to 128 letters, digits and ._+-, not starting with . or -");
    case SHAPE_KEY: {
        uint8_t key[33];
        size_t key_len;
        if (base64_decode(text, len, key, sizeof key, &key_len) < 0 || key_len != 32)
            return bad(error, at, text, "32 bytes in base64");
        return 0;
    }
    case SHAPE_ENUM: {
        struct buf known = BUF_INIT;
        for (const char *const *word = member->words; *word; word++) {
            if (strcmp(*word, text) == 0) {
                buf_free(&known);
                return 0;
            }
            buf_addf(&known, "%s%s", known.len ? ", " : "one of ", *word);
        }
        bad(error, at, text, known.data);
        buf_free(&known);
        return -EINVAL;
    }
    default:
        if ((int64_t)len > member->max) {
            if (strcmp(member->name, "log") == 0)
                *ret_code = "log-too-long";
            return error_set(error, -EINVAL, "%s.%s has %zu bytes; at most %" PRId64 " are allowed",
                             at.where, at.name, len, member->max);
        }
        if ((int64_t)len < member->min)
            return error_set(error, -EINVAL, "%s.%s is empty", at.where, at.name);
        return is_text(text, len)
                   ? 0
                   : error_set(error, -EINVAL, "%s.%s holds control bytes", at.where, at.name);
    }
}

static int check_attributes(const json_t *value, struct place at, const char **ret_code,
                            struct error *error)
{
    *ret_code = "attributes";
    if (!json_is_object(value))
        return error_set(error, -EINVAL, "%s.%s is no object of names and values", at.where,
                         at.name);
    if (json_object_size(value) > ATTRIBUTES_MAX)
        return error_set(error, -EINVAL, "%s.%s has %zu attributes; at most %d are allowed",
                         at.where, at.name, json_object_size(value), ATTRIBUTES_MAX);
    const char *name;
    json_t *text;
    json_object_foreach((json_t *)value, name, text)
    {
        if (!is_name(name))
            return error_set(error, -EINVAL,
                             "%s.%s has an attribute named '%.80s'; expected 1 to 128 letters, "
                             "digits and ._+-",
                             at.where, at.name, name);
        if (!json_is_string(text) || json_string_length(text) > ATTRIBUTE_BYTES ||
            !is_text(json_string_value(text), json_string_length(text)))
            return error_set(error, -EINVAL,
                             "%s.%s.%s is no text of at most %d bytes without control bytes",
                             at.where, at.name, name, ATTRIBUTE_BYTES);
    }
    return 0;
}

static int check_list(const json_t *value, struct place at, size_t max,
                      const struct shape_member *members, size_t count, const char **ret_code,
                      struct error *error)
{
    if (!json_is_array(value))
        return error_set(error, -EINVAL, "%s.%s is no list", at.where, at.name);
    if (json_array_size(value) > max)
        return error_set(error, -EINVAL, "%s.%s has %zu entries; at most %zu are allowed", at.where,
                         at.name, json_array_size(value), max);
    size_t i;
    json_t *entry;
    json_array_foreach(value, i, entry)
    {
        _cleanup_free_ char *where = xasprintf("%s.%s[%zu]", at.where, at.name, i);
        int r = shape_check(entry, where, members, count, ret_code, error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_member(const json_t *value, struct place at, const struct shape_member *member,
                        const char **ret_code, struct error *error)
{
    switch (member->kind) {
    case SHAPE_INTEGER: {
        if (!json_is_integer(value))
            return error_set(error, -EINVAL, "%s.%s is no integer", at.where, at.name);
        int64_t number = json_integer_value(value);
        if (number < member->min || number > member->max)
            return error_set(error, -EINVAL,
                             "%s.%s is %" PRId64 "; expected %" PRId64 " to %" PRId64, at.where,
                             at.name, number, member->min, member->max);
        return 0;
    }
    case SHAPE_BOOL:
        return json_is_boolean(value) ? 0
                                      : error_set(error, -EINVAL, "%s.%s is neither true nor false",
                                                  at.where, at.name);
    case SHAPE_OBJECT:
        return json_is_object(value)
                   ? 0
                   : error_set(error, -EINVAL, "%s.%s is no object", at.where, at.name);
    case SHAPE_ATTRIBUTES:
        return check_attributes(value, at, ret_code, error);
    case SHAPE_CHANGES:
        return check_list(value, at, CHANGES_MAX, members_change, ARRAY_SIZE(members_change),
                          ret_code, error);
    case SHAPE_PRODUCTS:
        return check_list(value, at, PRODUCTS_MAX, members_product, ARRAY_SIZE(members_product),
                          ret_code, error);
    default:
        return check_string(value, at, member, ret_code, error);
    }
}

int shape_check(const json_t *body, const char *where, const struct shape_member *members,
                size_t count, const char **ret_code, struct error *error)
{
    *ret_code = "member-invalid";
    if (!json_is_object(body))
        return error_set(error, -EINVAL, "%s is no JSON object", where);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)body, name, value)
    {
        const struct shape_member *member = NULL;
        for (size_t i = 0; i < count && !member; i++)
            if (strcmp(members[i].name, name) == 0)
                member = &members[i];
        if (!member) {
            *ret_code = "member-unknown";
            return error_set(error, -EINVAL, "%s has a member '%.80s' that version 1 does not know",
                             where, name);
        }
        int r = check_member(value, (struct place){where, name}, member, ret_code, error);
        if (r < 0)
            return r;
        *ret_code = "member-invalid";
    }
    for (size_t i = 0; i < count; i++)
        if (members[i].needed && !json_object_get(body, members[i].name)) {
            *ret_code = "member-missing";
            return error_set(error, -EINVAL, "%s has no member '%s'", where, members[i].name);
        }
    return 0;
}
