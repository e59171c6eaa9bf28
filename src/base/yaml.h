/* YAML for people's files (manifest, configuration, policy) as a JSON value, on libyaml. Plain
 * scalars become integers, reals, true, false or null by the JSON rules, an empty one null;
 * everything else is a string. Refused with line and column: duplicate keys, aliases, anchors,
 * tags, directives, merge keys, several documents, depth > 16, keys that are not plain strings,
 * more than 1 MiB. */
#pragma once

#include "base/error.h"

#include <jansson.h>
#include <stddef.h>

int yaml_parse(const char *text, size_t len, json_t **ret, struct error *error);
/* Line and column (from 1) of the node at a dotted path such as "policy.stages[1].share" in the
 * same text, for errors found after parsing; 0, 0 when it is not there. */
void yaml_locate(const char *text, size_t len, const char *path, unsigned *ret_line,
                 unsigned *ret_column);
/* Block-style YAML of a JSON value with keys in insertion order, owned by the caller; it reads back
 * as the same value. */
char *yaml_text(const json_t *value);
