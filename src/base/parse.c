#include "base/parse.h"

#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Decimal digits from *p on, without leading zeros; -EINVAL when there are none, -ERANGE when they
 * do not fit. Moves *p behind them. */
static int read_digits(const char **p, uint64_t *ret)
{
    const char *start = *p;
    uint64_t value = 0;

    if (!is_digit(*start) || (*start == '0' && is_digit(start[1])))
        return -EINVAL;
    for (; is_digit(**p); (*p)++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(**p - '0'), &value))
            return -ERANGE;
    *ret = value;
    return 0;
}

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct error *error)
{
    const char *p = text;
    uint64_t value;
    int r = read_digits(&p, &value);

    if (r == 0 && *p != '\0')
        r = -EINVAL;
    if (r == 0 && (value < min || value > max))
        r = -ERANGE;
    if (r == -EINVAL)
        return error_set(error, r,
                         "\"%.64s\" is not a whole number: expected decimal digits only, from "
                         "%llu to %llu",
                         text, (unsigned long long)min, (unsigned long long)max);
    if (r < 0)
        return error_set(error, r,
                         "%.64s is out of range: expected a whole number from %llu to "
                         "%llu",
                         text, (unsigned long long)min, (unsigned long long)max);
    *ret = value;
    return 0;
}

int parse_double(const char *text, double min, double max, double *ret, struct error *error)
{
    size_t len = number_length(text, NULL);
    char low[32], high[32];
    double value = 0;
    int r = 0;

    if (len == 0 || text[len] != '\0') {
        r = -EINVAL;
    } else {
        value = text_to_double(text, NULL);
        if (!isfinite(value) || value < min || value > max)
            r = -ERANGE;
    }
    if (r == 0) {
        *ret = value;
        return 0;
    }
    double_to_text(min, low);
    double_to_text(max, high);
    if (r == -EINVAL)
        return error_set(error, r,
                         "\"%.64s\" is not a number: expected one such as 0.25 or 1e-3, "
                         "from %s to %s",
                         text, low, high);
    return error_set(error, r, "%.64s is out of range: expected a number from %s to %s", text, low,
                     high);
}

static const struct {
    char name[3];
    double seconds;
} units[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}, {"ms", 0.001}};

static int bad_duration(const char *text, struct error *error)
{
    return error_set(error, -EINVAL,
                     "\"%.64s\" is not a duration: expected a number with a unit (ms, s, m, h, d), "
                     "such as 500ms, 1.5s, 15m or 1h30m",
                     text);
}

int parse_duration(const char *text, double *ret_seconds, struct error *error)
{
    const double longest = 10 * 365.25 * 86400;
    const char *p = text;
    double total = 0;
    size_t next = 0; /* units fall: "30m1h" is a slip of the pen */

    if (strcmp(text, "0") == 0) {
        *ret_seconds = 0;
        return 0;
    }
    if (*p == '\0')
        return bad_duration(text, error);
    while (*p != '\0') {
        const char *number = p;
        size_t unit = next, unit_len = 0;
        bool fraction = false;
        double value;

        if (!is_digit(*p) || (*p == '0' && is_digit(p[1])))
            return bad_duration(text, error);
        while (is_digit(*p))
            p++;
        if (*p == '.') {
            fraction = true;
            if (!is_digit(*++p))
                return bad_duration(text, error);
            while (is_digit(*p))
                p++;
        }
        while (p[unit_len] >= 'a' && p[unit_len] <= 'z')
            unit_len++;
        while (
            unit < sizeof(units) / sizeof(units[0]) &&
            (strlen(units[unit].name) != unit_len || strncmp(units[unit].name, p, unit_len) != 0))
            unit++;
        if (unit == sizeof(units) / sizeof(units[0]))
            return bad_duration(text, error);
        p += unit_len;
        if (fraction && *p != '\0')
            return bad_duration(text, error);
        value = text_to_double(number, NULL);
        /* Dividing keeps 100ms == 0.1; multiplying by 0.001 does not always. */
        total += unit_len == 2 ? value / 1000 : value * units[unit].seconds;
        next = unit + 1;
    }
    if (!(total <= longest))
        return error_set(error, -ERANGE,
                         "%.64s is too long: expected a duration of at most 10 "
                         "years (3652d)",
                         text);
    *ret_seconds = total;
    return 0;
}

int parse_share(const char *text, double *ret, struct error *error)
{
    char shifted[64];
    size_t len = number_length(text, NULL);
    double value;

    if (len == 0 || text[0] == '-' || len > sizeof(shifted) - 4)
        goto bad;
    if (text[len] == '%' && text[len + 1] == '\0') {
        if (memchr(text, 'e', len) || memchr(text, 'E', len))
            goto bad;
        /* 0.7 / 100 is not 0.007: let strtod round once. */
        (void)snprintf(shifted, sizeof(shifted), "%.*se-2", (int)len, text);
        value = text_to_double(shifted, NULL);
    } else if (text[len] == '\0') {
        value = text_to_double(text, NULL);
    } else {
        goto bad;
    }
    if (!(value >= 0 && value <= 1))
        return error_set(error, -ERANGE, "%.64s is not a share: expected 0 to 1, or 0%% to 100%%",
                         text);
    *ret = value;
    return 0;
bad:
    return error_set(error, -EINVAL,
                     "\"%.64s\" is not a share: expected a percentage such as 0.1%% or a fraction "
                     "such as 0.001",
                     text);
}

int parse_size(const char *text, uint64_t *ret, struct error *error)
{
    static const char *const suffixes[] = {"", "KiB", "MiB", "GiB", "TiB"};
    const char *p = text;
    uint64_t value;
    int r = read_digits(&p, &value);

    for (size_t i = 0; r == 0 && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        if (strcmp(p, suffixes[i]) != 0)
            continue;
        if (value > UINT64_MAX >> (10 * i)) {
            r = -ERANGE;
            break;
        }
        *ret = value << (10 * i);
        return 0;
    }
    if (r == -ERANGE)
        return error_set(error, r, "%.64s is too large: expected less than 16777216TiB", text);
    return error_set(
        error, -EINVAL,
        "\"%.64s\" is not a size: expected whole bytes such as 4096, or with KiB, MiB, "
        "GiB or TiB, such as 64KiB",
        text);
}

bool is_name(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._+-";
    size_t len = strnlen(text, 129);

    return len >= 1 && len <= 128 && text[0] != '.' && text[0] != '-' &&
           strspn(text, allowed) == len;
}

bool is_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t step = utf8_sequence(text + i, len - i);
        unsigned char byte = (unsigned char)text[i];

        if (step == 0 || byte == 0x7f || (byte < 0x20 && byte != '\t' && byte != '\n') ||
            (byte == 0xc2 && (unsigned char)text[i + 1] < 0xa0))
            return false;
        i += step;
    }
    return true;
}

void format_duration(double seconds, char *ret_text, size_t size)
{
    unsigned long long total;

    if (!(seconds > 0)) {
        (void)snprintf(ret_text, size, "0s");
    } else if (seconds < 0.9995) {
        (void)snprintf(ret_text, size, "%lldms", llround(fmax(seconds * 1000, 1)));
    } else {
        total = (unsigned long long)llround(fmin(seconds, 1e15));
        if (total < 60)
            (void)snprintf(ret_text, size, "%llus", total);
        else if (total < 3600)
            (void)snprintf(ret_text, size, total % 60 ? "%llum%llus" : "%llum", total / 60,
                           total % 60);
        else if (total < 86400)
            (void)snprintf(ret_text, size, total / 60 % 60 ? "%lluh%llum" : "%lluh", total / 3600,
                           total / 60 % 60);
        else
            (void)snprintf(ret_text, size, total / 3600 % 24 ? "%llud%lluh" : "%llud",
                           total / 86400, total / 3600 % 24);
    }
}
