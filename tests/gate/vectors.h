/* Reading the reference values under data/ and comparing with them. */
#pragma once

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static inline json_t *vectors_load(const char *name)
{
    char path[4096];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s", GATE_DATA, name);
    json_t *root = json_load_file(path, 0, &error);
    if (!root)
        fail_msg("%s:%d: %s", path, error.line, error.text);
    return root;
}

static inline double vector_number(const json_t *vector, const char *key)
{
    const json_t *value = json_object_get(vector, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static inline uint64_t vector_count(const json_t *vector, const char *key)
{
    const json_t *value = json_object_get(vector, key);
    assert_true(json_is_integer(value));
    return (uint64_t)json_integer_value(value);
}

/* 1e-9 relative, absolute below 1. */
static inline void assert_near(const json_t *vector, double found, double expected)
{
    if (fabs(found - expected) <= 1e-9 * fmax(1, fabs(expected)))
        return;
    char *text = json_dumps(vector, JSON_COMPACT);
    fail_msg("%s: got %.17g, want %.17g", text, found, expected);
}
