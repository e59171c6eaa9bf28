#include "sim/scenario-fleet.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ATTRIBUTES_MAX 64
#define VALUES_MAX 100000
#define SHARES_SLACK 1e-9 /* of a sum of decimal fractions */

static unsigned find_attribute(const struct scenario *scenario, const char *name)
{
    for (unsigned i = 0; i < scenario->attribute_count; i++)
        if (strcmp(scenario->attributes[i].name, name) == 0)
            return i;
    return SCENARIO_NONE;
}

static unsigned find_value(const struct scenario_attribute *attribute, const char *text)
{
    for (unsigned i = 0; i < attribute->value_count; i++)
        if (strcmp(attribute->values[i], text) == 0)
            return i;
    return SCENARIO_NONE;
}

static int add_values(struct scenario_reader *reader, const json_t *table, const char *where,
                      struct scenario_attribute *attribute)
{
    const char *value;
    json_t *share;
    int r = scenario_read_object(reader, table, where, NULL);
    if (r < 0)
        return r;
    json_object_foreach((json_t *)(uintptr_t)table, value, share)
    {
        if (find_value(attribute, value) != SCENARIO_NONE)
            continue;
        if (!is_name(value))
            return scenario_read_fail(
                reader, where, value,
                "is not the name of a value: expected 1 to 128 letters, digits and "
                "._+-");
        if (attribute->value_count == VALUES_MAX)
            return scenario_read_fail(reader, where, NULL, "has more than %d values", VALUES_MAX);
        attribute->values =
            xrealloc(attribute->values, attribute->value_count + 1, sizeof *attribute->values);
        attribute->values[attribute->value_count++] = xstrdup(value);
    }
    return 0;
}

/* Shares of one table into running sums. */
static int fill_table(struct scenario_reader *reader, const json_t *table, const char *where,
                      const struct scenario_attribute *attribute, double *cumulative)
{
    double sum = 0;
    for (unsigned i = 0; i < attribute->value_count; i++) {
        double share = 0;
        int r = scenario_read_share(reader, table, where, attribute->values[i], 0, &share);
        if (r < 0)
            return r;
        sum += share;
        cumulative[i] = sum;
    }
    if (sum > 1 + SHARES_SLACK)
        return scenario_read_fail(reader, where, NULL,
                                  "has shares that add up to %.15g: expected at most 1", sum);
    if (sum > 1 - SHARES_SLACK) /* nobody is left without a value by rounding */
        for (unsigned i = attribute->value_count; i-- > 0 && cumulative[i] >= sum;)
            cumulative[i] = 1;
    return 0;
}

static int read_given(struct scenario_reader *reader, const json_t *object, const char *where,
                      const struct scenario *scenario, struct scenario_attribute *attribute)
{
    const json_t *given = json_object_get(object, "given");
    const char *key;
    json_t *table;
    char path[400];
    int r;

    attribute->given =
        json_is_string(given) ? find_attribute(scenario, json_string_value(given)) : SCENARIO_NONE;
    if (attribute->given == SCENARIO_NONE)
        return scenario_read_fail(reader, where, "given",
                                  "names no attribute above this one: expected one of those");
    const struct scenario_attribute *other = &scenario->attributes[attribute->given];
    json_object_foreach((json_t *)(uintptr_t)object, key, table)
    {
        if (strcmp(key, "given") == 0)
            continue;
        if (strcmp(key, "otherwise") != 0 && find_value(other, key) == SCENARIO_NONE)
            return scenario_read_fail(reader, where, key,
                                      "is no value of %s: expected its values, or otherwise",
                                      other->name);
        scenario_read_path(path, sizeof path, where, key);
        if ((r = add_values(reader, table, path, attribute)) < 0)
            return r;
    }
    if (attribute->value_count == 0)
        return scenario_read_fail(reader, where, NULL,
                                  "gives no value a share: expected at least one");

    attribute->table_count = other->value_count + 1;
    attribute->cumulative = xcalloc((size_t)attribute->table_count * attribute->value_count,
                                    sizeof *attribute->cumulative);
    for (unsigned i = 0; i < attribute->table_count; i++) {
        const char *name = i < other->value_count ? other->values[i] : "otherwise";
        table = json_object_get(object, name);
        if (!table)
            table = json_object_get(object, name = "otherwise");
        if (!table)
            continue;
        scenario_read_path(path, sizeof path, where, name);
        double *row = attribute->cumulative + (size_t)i * attribute->value_count;
        if ((r = fill_table(reader, table, path, attribute, row)) < 0)
            return r;
    }
    return 0;
}

int read_attributes(struct scenario_reader *reader, const json_t *fleet, struct scenario *scenario)
{
    const json_t *list = json_object_get(fleet, "attributes");
    const char *name;
    json_t *object;
    char path[300];
    int r;

    if (!list)
        return 0;
    if ((r = scenario_read_object(reader, list, "fleet.attributes", NULL)) < 0)
        return r;
    if (json_object_size(list) > ATTRIBUTES_MAX)
        return scenario_read_fail(reader, "fleet.attributes", NULL,
                                  "has %zu attributes: expected up to %d", json_object_size(list),
                                  ATTRIBUTES_MAX);
    scenario->attributes = xcalloc(json_object_size(list) + 1, sizeof *scenario->attributes);
    json_object_foreach((json_t *)(uintptr_t)list, name, object)
    {
        struct scenario_attribute *attribute = &scenario->attributes[scenario->attribute_count];
        scenario_read_path(path, sizeof path, "fleet.attributes", name);
        if (!is_name(name) || strcmp(name, "organisation") == 0)
            return scenario_read_fail(
                reader, "fleet.attributes", name,
                "is not the name of an attribute: expected 1 to 128 letters, digits "
                "and ._+-, and not \"organisation\"");
        if ((r = scenario_read_object(reader, object, path, NULL)) < 0)
            return r;
        attribute->name = xstrdup(name);
        attribute->given = SCENARIO_NONE;
        /* Counted only now, so that `given` finds those above; freed either way. */
        if (json_object_get(object, "given") && !json_is_number(json_object_get(object, "given"))) {
            r = read_given(reader, object, path, scenario, attribute);
        } else if ((r = add_values(reader, object, path, attribute)) == 0) {
            attribute->table_count = 1;
            attribute->cumulative = xcalloc(attribute->value_count + 1u, sizeof(double));
            r = attribute->value_count == 0
                    ? scenario_read_fail(reader, path, NULL,
                                         "gives no value a share: expected at least one")
                    : fill_table(reader, object, path, attribute, attribute->cumulative);
        }
        scenario->attribute_count++;
        if (r < 0)
            return r;
    }
    return 0;
}

int read_organisation(struct scenario_reader *reader, const json_t *value, const char *where,
                      const char *key, const struct scenario *scenario, uint32_t *ret)
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    struct error ignored;
    uint64_t number;
    if (text[0] != 'o' || parse_u64(text + 1, 1, scenario->organisations, &number, &ignored) < 0)
        return scenario_read_fail(
            reader, where, key,
            "is no organisation of this fleet: expected o1 (the largest) to o%u",
            scenario->organisations);
    *ret = (uint32_t)number - 1;
    return 0;
}

static int add_allowed(struct scenario_reader *reader, const json_t *value, const char *where,
                       const char *key, const struct scenario *scenario,
                       struct scenario_condition *condition)
{
    if (condition->attribute == SCENARIO_NONE) {
        uint32_t number = 0;
        int r = read_organisation(reader, value, where, key, scenario, &number);
        if (r < 0)
            return r;
        condition->organisations =
            xrealloc(condition->organisations, condition->organisation_count + 1,
                     sizeof *condition->organisations);
        condition->organisations[condition->organisation_count++] = number;
        return 0;
    }
    const struct scenario_attribute *attribute = &scenario->attributes[condition->attribute];
    if (!json_is_string(value)) {
        _cleanup_free_ char *text = json_text(value);
        return scenario_read_fail(
            reader, where, key,
            "is %.40s: expected a value of %s as text, in quotes where it looks "
            "like a number",
            text, attribute->name);
    }
    unsigned number = find_value(attribute, json_string_value(value));
    if (number == SCENARIO_NONE)
        return scenario_read_fail(reader, where, key,
                                  "is \"%.64s\", which no device has: expected a value of "
                                  "fleet.attributes.%s",
                                  json_string_value(value), attribute->name);
    condition->allowed[number] = true;
    return 0;
}

int read_where(struct scenario_reader *reader, const json_t *object, const char *where,
               const char *key, const struct scenario *scenario, struct scenario_where *ret)
{
    const json_t *conditions = json_object_get(object, key);
    const char *name;
    json_t *value;
    char path[300];
    int r;

    if (!conditions)
        return 0;
    scenario_read_path(path, sizeof path, where, key);
    if ((r = scenario_read_object(reader, conditions, path, NULL)) < 0)
        return r;
    ret->conditions = xcalloc(json_object_size(conditions) + 1, sizeof *ret->conditions);
    json_object_foreach((json_t *)(uintptr_t)conditions, name, value)
    {
        struct scenario_condition *condition = &ret->conditions[ret->count++];
        condition->attribute = find_attribute(scenario, name);
        if (condition->attribute != SCENARIO_NONE)
            condition->allowed =
                xcalloc(scenario->attributes[condition->attribute].value_count, sizeof(bool));
        else if (strcmp(name, "organisation") != 0)
            return scenario_read_fail(reader, path, name,
                                      "is no attribute: expected one of fleet.attributes, or "
                                      "organisation");
        if (!json_is_array(value)) {
            if ((r = add_allowed(reader, value, path, name, scenario, condition)) < 0)
                return r;
            continue;
        }
        if (json_array_size(value) == 0)
            return scenario_read_fail(reader, path, name, "is an empty list: expected a value");
        for (size_t i = 0; i < json_array_size(value); i++) {
            char item[200];
            (void)snprintf(item, sizeof item, "%.128s[%zu]", name, i);
            if ((r = add_allowed(reader, json_array_get(value, i), path, item, scenario,
                                 condition)) < 0)
                return r;
        }
    }
    return 0;
}

void where_free(struct scenario_where *where)
{
    for (size_t i = 0; i < where->count; i++) {
        free(where->conditions[i].allowed);
        free(where->conditions[i].organisations);
    }
    free(where->conditions);
}

void attributes_free(struct scenario *scenario)
{
    for (size_t i = 0; i < scenario->attribute_count; i++) {
        struct scenario_attribute *attribute = &scenario->attributes[i];
        for (unsigned j = 0; j < attribute->value_count; j++)
            free(attribute->values[j]);
        free(attribute->name);
        free(attribute->values);
        free(attribute->cumulative);
    }
    free(scenario->attributes);
}
