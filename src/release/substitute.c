#include "release/reader.h"

#include "base/buf.h"
#include "base/parse.h"

#include <errno.h>
#include <string.h>

/* The name in the "${name}" at `open`, owned by the caller, and what follows it. NULL when it is
 * not closed or no name. */
static char *variable(const char *open, const char **ret_rest)
{
    const char *close = strchr(open, '}');
    char *name;

    if (!close)
        return NULL;
    name = xstrndup(open + 2, (size_t)(close - open - 2));
    if (!is_name(name)) {
        free(name);
        return NULL;
    }
    *ret_rest = close + 1;
    return name;
}

static int malformed(const char *text, struct error *error)
{
    return error_set(error, -EINVAL,
                     "\"%.120s\" has a ${ that is not closed or names nothing; expected ${name}",
                     text);
}

int substitute(const char *text, const struct pair_text *vars, size_t count, char **ret,
               struct error *error)
{
    _cleanup_buf_ struct buf buf = BUF_INIT;
    const char *rest = text, *open;

    while ((open = strstr(rest, "${"))) {
        _cleanup_free_ char *name = NULL;
        const char *value = NULL;

        buf_add(&buf, rest, (size_t)(open - rest));
        name = variable(open, &rest);
        if (!name)
            return malformed(text, error);
        for (size_t i = 0; i < count && !value; i++)
            if (strcmp(vars[i].name, name) == 0)
                value = vars[i].value;
        if (!value)
            return error_set(error, -ENOENT,
                             "\"%.120s\" needs the variable %s, which nothing here sets; add it to "
                             "vars in the device's configuration",
                             text, name);
        buf_add_str(&buf, value);
    }
    buf_add_str(&buf, rest);
    *ret = buf_take(&buf);
    return 0;
}

int substitute_check(const char *text, const char *const *known, struct error *error)
{
    const char *rest = text, *open;

    while ((open = strstr(rest, "${"))) {
        _cleanup_free_ char *name = variable(open, &rest);
        bool found = known == NULL;

        if (!name)
            return malformed(text, error);
        for (size_t i = 0; known && known[i]; i++)
            found = found || strcmp(known[i], name) == 0;
        if (!found)
            return error_set(error, -EINVAL,
                             "\"%.120s\" uses the variable %s, which is not known here", text,
                             name);
    }
    return 0;
}
