/* Shapes of requests: which members a body may have, of which type and range, checked once at the
 * edge against docs/protocol.md. Must never let through what the engine would have to doubt. */
#pragma once

#include "base/error.h"
#include "base/json.h"

enum shape_kind {
    SHAPE_INTEGER, /* min … max */
    SHAPE_BOOL,
    SHAPE_DIGEST, /* 64 hex digits */
    SHAPE_PERMIT, /* 32 hex digits */
    SHAPE_RUNS,   /* a digest or "empty" */
    SHAPE_NAME,   /* is_name() */
    SHAPE_TEXT,   /* is_text(), at most max bytes */
    SHAPE_ENUM,   /* one of words */
    SHAPE_KEY,    /* base64 of 32 bytes */
    SHAPE_ATTRIBUTES,
    SHAPE_CHANGES,
    SHAPE_PRODUCTS,
    SHAPE_OBJECT, /* any */
};

struct shape_member {
    const char *name;
    enum shape_kind kind;
    bool needed;
    int64_t min, max;
    const char *const *words; /* NULL-terminated */
};

/* `where` names the body ("begin"). `ret_code` is the problem's code: "member-unknown",
 * "member-missing", "member-invalid", "attributes", "log-too-long". */
int shape_check(const json_t *body, const char *where, const struct shape_member *members,
                size_t count, const char **ret_code, struct error *error);

/* The bodies of design/protocol.md. */
struct shape {
    const char *call;
    const struct shape_member *members;
    size_t count;
};
extern const struct shape shape_enroll, shape_begin, shape_report, shape_status;
