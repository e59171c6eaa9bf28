#include "release/manifest.h"

#include "base/buf.h"

#include <errno.h>
#include <string.h>

#define VERSION_MAX 128

enum relation { EQUAL, AT_LEAST, AT_MOST, ABOVE, BELOW };

struct term {
    enum relation relation;
    char version[VERSION_MAX + 1];
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_version(const char *text, size_t len)
{
    if (len == 0 || len > VERSION_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (!is_digit(c) && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
            (c == '\0' || !strchr("._+-~:", c)))
            return false;
    }
    return true;
}

/* Compares two runs of digits of any length and moves both pointers behind them. */
static int compare_numbers(const char **a, const char **b)
{
    size_t a_len = 0, b_len = 0;
    int order;

    while (**a == '0')
        (*a)++;
    while (**b == '0')
        (*b)++;
    while (is_digit((*a)[a_len]))
        a_len++;
    while (is_digit((*b)[b_len]))
        b_len++;
    order = a_len != b_len ? (a_len < b_len ? -1 : 1) : memcmp(*a, *b, a_len);
    *a += a_len;
    *b += b_len;
    return order;
}

/* A total order: no other byte lies between the digits, so a number against text is decided the
 * same way whatever the number is. */
int version_compare(const char *a, const char *b)
{
    while (*a != '\0' && *b != '\0') {
        if (is_digit(*a) && is_digit(*b)) {
            int order = compare_numbers(&a, &b);

            if (order != 0)
                return order < 0 ? -1 : 1;
            continue;
        }
        if (*a != *b)
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        a++;
        b++;
    }
    return (*a != '\0') - (*b != '\0');
}

/* One of the terms between commas, spaces around its parts ignored. */
static int parse_term(const char *text, size_t len, struct term *ret)
{
    static const struct {
        const char *sign;
        enum relation relation;
    } signs[] = {{">=", AT_LEAST}, {"<=", AT_MOST}, {"=", EQUAL}, {">", ABOVE}, {"<", BELOW}};

    while (len > 0 && *text == ' ')
        text++, len--;
    while (len > 0 && text[len - 1] == ' ')
        len--;
    ret->relation = EQUAL;
    for (size_t i = 0; i < ARRAY_SIZE(signs); i++) {
        size_t sign_len = strlen(signs[i].sign);

        if (len >= sign_len && memcmp(text, signs[i].sign, sign_len) == 0) {
            ret->relation = signs[i].relation;
            text += sign_len;
            len -= sign_len;
            break;
        }
    }
    while (len > 0 && *text == ' ')
        text++, len--;
    if (!is_version(text, len))
        return -EINVAL;
    memcpy(ret->version, text, len);
    ret->version[len] = '\0';
    return 0;
}

static bool term_fits(const struct term *term, const char *value)
{
    int order = version_compare(value, term->version);

    switch (term->relation) {
    case EQUAL:
        return order == 0;
    case AT_LEAST:
        return order >= 0;
    case AT_MOST:
        return order <= 0;
    case ABOVE:
        return order > 0;
    case BELOW:
        return order < 0;
    }
    return false;
}

/* -EINVAL: no constraint; else 1 or 0: fits `value` or not. */
static int evaluate(const char *constraint, const char *value)
{
    int fits = 1;

    for (;;) {
        size_t len = strcspn(constraint, ",");
        struct term term;

        if (parse_term(constraint, len, &term) < 0)
            return -EINVAL;
        if (!term_fits(&term, value))
            fits = 0;
        if (constraint[len] == '\0')
            return fits;
        constraint += len + 1;
    }
}

int constraint_check(const char *constraint)
{
    return evaluate(constraint, "0") < 0 ? -EINVAL : 0;
}

bool constraint_fits(const char *constraint, const char *value)
{
    return evaluate(constraint, value) == 1;
}

int contract_check(const struct manifest *manifest, const struct pair_text *provided, size_t count,
                   struct error *error)
{
    for (size_t i = 0; i < manifest->requires_count; i++) {
        const struct pair_text *need = &manifest->requires[i];
        const char *value = NULL;

        for (size_t j = 0; j < count && !value; j++)
            if (strcmp(provided[j].name, need->name) == 0)
                value = provided[j].value;
        if (!value)
            return error_set(error, -ENOENT,
                             "%s %s requires %s %s, which this device does not provide",
                             manifest->product, manifest->version, need->name, need->value);
        if (!constraint_fits(need->value, value))
            return error_set(error, -ERANGE, "%s %s requires %s %s, this device provides %.128s",
                             manifest->product, manifest->version, need->name, need->value, value);
    }
    return 0;
}
