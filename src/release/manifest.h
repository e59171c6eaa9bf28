/* The manifest (docs/manifest.md): parsed strictly, checked whole. Callers check the signature over
 * the bytes first. Must never run or open anything that a manifest names. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "rollout/policy.h"
#include "trust/key.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MANIFEST_MAX (256 * 1024)

enum adapter_mode { ADAPTER_RELOAD, ADAPTER_RESTART };
enum check_kind { CHECK_EXEC, CHECK_HTTP, CHECK_TCP, CHECK_PROCESS };
enum on_revert { STATE_COMPATIBLE, STATE_SNAPSHOT, STATE_IRREVERSIBLE };

struct pair_text {
    char *name, *value;
};
struct check {
    char *name;
    enum check_kind kind;
    double interval, timeout, grace, within;
    unsigned failures;
    char **command; /* NULL-terminated */
    int expect_exit;
    char *url, *method, *body, *expect_body;
    struct pair_text *headers;
    size_t header_count;
    struct pair_text expect_header; /* name NULL: none */
    int expect_status;
    char *host;
    char *port; /* text, since it may hold a variable */
    char *pid_file, *exit_file;
};
struct lab_step {
    char **command; /* NULL: none */
    double timeout;
    uint64_t memory, output, file_size;
};
struct manifest {
    char release[65]; /* SHA-256 of the bytes */
    char *product, *channel, *version, *description;
    uint64_t sequence;
    struct pair_text *requires, *provides, *exclude;
    size_t requires_count, provides_count, exclude_count;
    char **critical, **permissions; /* NULL-terminated, may be empty */
    bool repairs;
    char **state_paths;
    enum on_revert on_revert;
    char **activate, **deactivate; /* deactivate may be NULL */
    enum adapter_mode mode;
    bool disturbs;
    double adapter_timeout;
    struct check active;
    struct check *probes;
    size_t probe_count;
    struct lab_step validate, load;
    struct policy policy;
    bool has_policy;
    bool has_payload;
    char payload_sha256[65];
    uint64_t payload_size, payload_unpacked, payload_files;
};

enum manifest_for {
    MANIFEST_SOURCE, /* of an engineer: no payload yet, unknown keys refused */
    MANIFEST_BUILT,  /* payload needed, unknown keys refused */
    MANIFEST_DEVICE, /* payload needed, unknown keys ignored unless critical (-EPROTONOSUPPORT) */
};
/* Errors carry line and column and the dotted path. */
int manifest_parse(const char *text, size_t len, enum manifest_for mode, struct manifest *ret,
                   struct error *error);
void manifest_free(struct manifest *manifest);

/* The signature file's text, owned by the caller; and its check against any of `keys`. -EBADMSG
 * names the key id at fault. */
char *manifest_sign(const struct secret_key *key, const void *manifest, size_t len);
int manifest_verify(const struct public_key *keys, size_t key_count, const void *manifest,
                    size_t len, const char *signature, size_t signature_len, struct error *error);

/* Contracts. `provided` is name → value. 0 fits; -ENOENT / -ERANGE with the sentence otherwise. */
int contract_check(const struct manifest *manifest, const struct pair_text *provided, size_t count,
                   struct error *error);
int constraint_check(const char *constraint); /* 0 or -EINVAL: is it one at all */
bool constraint_fits(const char *constraint, const char *value);
int version_compare(const char *a, const char *b);

/* Replaces ${name} from `vars`; -ENOENT names the unknown variable. The text is owned by the
 * caller. */
int substitute(const char *text, const struct pair_text *vars, size_t count, char **ret,
               struct error *error);
