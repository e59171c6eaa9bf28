/* The content of a slot: compiled rules, template table, and the release's name.
 * Must never be half loaded: it is whole, or the caller keeps what it had. */
#pragma once

#include "base/encode.h"
#include "base/error.h"
#include "engine.h"
#include "rules.h"
#include "table.h"

#include <stdbool.h>

struct content {
    char *slot; /* the folder it came from */
    char digest[SHA256_HEX_SIZE];
    struct rules rules;
    struct table table;
    bool panics; /* payload/kernel-panic is there: stands for a fault that stops the machine */
};

/* `payload` is the folder with rules/ and templates.bin; the digest stays empty. */
int content_load_payload(const char *payload, const struct engine *engine, struct content *ret,
                         struct error *error);
/* `slot` is a folder with digest and payload/. */
int content_load(const char *slot, const struct engine *engine, struct content *ret,
                 struct error *error);
void content_free(struct content *content);
#define _cleanup_content_ __attribute__((cleanup(content_free)))
/* The name in slot/digest. */
int content_digest(const char *slot, char ret_digest[static SHA256_HEX_SIZE], struct error *error);
