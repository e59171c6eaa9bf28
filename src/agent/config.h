/* agent.yaml (docs/agent.md), parsed strictly: every error has the file, line and column. Must
 * never hold a value that the agent has to doubt. */
#pragma once

#include "base/error.h"
#include "release/manifest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config_product {
    char *name, *channel;
    struct pair_text *provides;
    size_t provides_count;
    char **provides_exec; /* NULL: none */
    struct pair_text *vars;
    size_t var_count;
    char *adopt_content, *adopt_manifest; /* NULL: none; the content may be what `link` names */
    char *link;                           /* where the product reads its content; NULL: in a slot */
    char **windows;                       /* NULL-terminated, may be empty */
    bool refuse_package_paths;            /* else they are diverted */
};

struct config {
    char *server, *ca, *extra_ca, *proxy, *proxy_auth_file, *token_file;
    char **release_keys; /* paths; empty: those of the enrolment bundle */
    double poll;
    struct pair_text *attributes;
    size_t attribute_count;
    char **attributes_exec; /* NULL: none */
    char *group;
    char **refuse_permissions, **probe_hosts; /* NULL-terminated */
    double settle_after_boot, confirm_within, watch, watch_interval, snooze_max;
    uint64_t min_free;
    struct config_product *products;
    size_t product_count;
};

/* `name` stands in errors. */
int config_parse(const char *name, const char *text, size_t len, struct config *ret,
                 struct error *error);
int config_load(const char *path, struct config *ret, struct error *error);
void config_free(struct config *config);

/* "mon-fri 22:00-04:00", "daily 02:00-05:00", "sat,sun 00:00-24:00": is `local` inside? A window
 * over midnight belongs to the day on which it starts. -EINVAL when the text is no window. */
struct tm;
int window_contains(const char *window, const struct tm *local, bool *ret, struct error *error);
