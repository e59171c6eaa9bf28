/* What a request's bytes mean: its target, its header fields, its conditions and ranges. Pure: no
 * socket, no clock. Must never accept what another HTTP parser could read as another request. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUEST_MAX_QUERY 32
#define REQUEST_MAX_HEADERS 64

struct request_pair {
    const char *name, *value;
};

struct request_target {
    const char *path; /* decoded, UTF-8, starts with '/' */
    struct request_pair *query;
    size_t query_count;
};

/* Bytes of storage that request_target_parse needs. */
size_t request_target_size(const char *text, size_t len);
/* Splits and decodes a request target (RFC 9112 §3.2.1, §3.2.2) into `storage`, which is aligned
 * for pointers and lives as long as `ret`. -EINVAL: bad percent-encoding, control bytes, invalid
 * UTF-8, "%2f", dot segments, more than REQUEST_MAX_QUERY parameters or one of them twice. */
int request_target_parse(const char *text, size_t len, void *storage, struct request_target *ret,
                         struct error *error);

/* Header fields as they arrive. */
struct request_head {
    struct request_pair *headers; /* owned; values without white space around them */
    size_t count, max;
    char *text; /* behind the pairs */
    size_t used, size;
    bool has_length, chunked, expects;
    bool has_host;
    uint64_t length;
};

/* Makes room for `count` fields in `bytes` of header block. */
void request_head_init(struct request_head *head, size_t count, size_t bytes);
void request_head_free(struct request_head *head);
/* Takes over one field; 0 or the HTTP status to refuse the request with. */
unsigned request_head_add(struct request_head *head, const char *name, size_t name_len,
                          const char *value, size_t value_len, struct error *error);
/* Checks the fields together, once all are there. */
unsigned request_head_check(const struct request_head *head, bool http_1_1, struct error *error);
/* The value, or NULL. Names are compared without regard to case. */
const char *request_head_get(const struct request_head *head, const char *name);

/* True when an If-None-Match value names `etag` (given without quotes): RFC 9110 §13.1.2. */
bool request_etag_matches(const char *if_none_match, const char *etag);

enum request_range { RANGE_WHOLE, RANGE_PART, RANGE_UNSATISFIABLE };
/* One range of RFC 9110 §14.1.2 over `size` bytes. What is malformed or has several ranges is
 * ignored (RANGE_WHOLE), as the RFC allows. */
enum request_range request_range_parse(const char *value, uint64_t size, uint64_t *ret_from,
                                       uint64_t *ret_len);
