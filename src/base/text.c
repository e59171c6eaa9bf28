#include "base/text.h"

#include <assert.h>
#include <locale.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t utf8_sequence(const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t count;
    uint8_t low = 0x80, high = 0xbf; /* bounds of the second byte */

    if (len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        count = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        count = 3;
        if (p[0] == 0xe0)
            low = 0xa0;
        if (p[0] == 0xed)
            high = 0x9f;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        count = 4;
        if (p[0] == 0xf0)
            low = 0x90;
        if (p[0] == 0xf4)
            high = 0x8f;
    } else {
        return 0;
    }
    if (len < count || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < count; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return count;
}

size_t text_escape(char *ret_text, size_t size, const char *text, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    static const char more[] = "…";
    size_t out = 0, cut = 0; /* `cut`: where "…" still fits */

    assert(size >= sizeof(more));
    for (size_t i = 0; i < len;) {
        uint8_t byte = (uint8_t)text[i];
        size_t in = utf8_sequence(text + i, len - i);
        /* C1 controls (U+0080–U+009F) move the cursor on some terminals, too. */
        bool plain = in > 0 && byte >= 0x20 && byte != 0x7f &&
                     !(byte == 0xc2 && (uint8_t)text[i + 1] < 0xa0);
        size_t need = plain ? in : 4;

        if (out + need + 1 > size) {
            memcpy(ret_text + cut, more, sizeof(more));
            return cut + sizeof(more) - 1;
        }
        if (plain) {
            memcpy(ret_text + out, text + i, in);
        } else {
            in = 1;
            ret_text[out] = '\\';
            ret_text[out + 1] = 'x';
            ret_text[out + 2] = digits[byte >> 4];
            ret_text[out + 3] = digits[byte & 15];
        }
        i += in;
        out += need;
        if (out + sizeof(more) <= size)
            cut = out;
    }
    ret_text[out] = '\0';
    return out;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

size_t number_length(const char *text, bool *ret_integer)
{
    const char *p = text;
    bool integer = true;

    if (*p == '-')
        p++;
    if (!is_digit(*p))
        return 0;
    if (*p == '0')
        p++;
    else
        while (is_digit(*p))
            p++;
    if (*p == '.' && is_digit(p[1])) {
        integer = false;
        p++;
        while (is_digit(*p))
            p++;
    }
    if (*p == 'e' || *p == 'E') {
        const char *q = p + 1;

        if (*q == '+' || *q == '-')
            q++;
        if (is_digit(*q)) {
            integer = false;
            while (is_digit(*q))
                q++;
            p = q;
        }
    }
    if (ret_integer)
        *ret_integer = integer;
    return (size_t)(p - text);
}

static locale_t c_locale;

static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale)
        abort();
}

static locale_t get_c_locale(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, make_c_locale);
    return c_locale;
}

double text_to_double(const char *text, char **ret_end)
{
    return strtod_l(text, ret_end, get_c_locale());
}

void double_to_text(double value, char ret_text[static 32])
{
    locale_t old = uselocale(get_c_locale());

    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(ret_text, 32, "%.*g", digits, value);
        if (text_to_double(ret_text, NULL) == value)
            break;
    }
    (void)uselocale(old);
}
