#include "options.h"

#include "base/buf.h"
#include "base/parse.h"
#include "engine.h"
#include "table.h"

#include <errno.h>
#include <string.h>

static int set_number(const char *name, const char *value, uint64_t min, uint64_t max,
                      unsigned *ret, struct error *error)
{
    uint64_t number;
    int r = parse_u64(value, min, max, &number, error);

    if (r < 0)
        return error_prefix(error, r, "%s", name);
    *ret = (unsigned)number;
    return 0;
}

static int set(struct options *options, const char *name, const char *value, struct error *error)
{
    const struct {
        const char *name;
        const char **value;
    } texts[] = {
        {"--content", &options->content}, {"--watch", &options->watch},   {"--run", &options->run},
        {"--slot", &options->slot},       {"--corpus", &options->corpus}, {"-o", &options->output},
        {"--last", &options->last},
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        if (strcmp(name, texts[i].name) != 0)
            continue;
        if (!*value)
            return error_set(error, -EINVAL, "%s has an empty value", name);
        *texts[i].value = value;
        return 0;
    }
    if (strcmp(name, "--engine") == 0)
        return set_number(name, value, 1, ENGINE_NEWEST, &options->engine, error);
    return set_number(name, value, 5, TABLE_MAX_FIELDS, &options->fields, error);
}

static int is_known(const char *known, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = known; (at = strstr(at, name)); at += len)
        if ((at == known || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
            return 1;
    return 0;
}

int options_parse(int argc, char **argv, const char *known, struct options *ret,
                  struct error *error)
{
    *ret = (struct options){.engine = 1};
    for (int i = 0; i < argc; i++) {
        int r;

        if (argv[i][0] != '-') {
            if (ret->word_count == OPTIONS_MAX_WORDS)
                return error_set(error, -EINVAL, "\"%s\" is one word too many", argv[i]);
            ret->words[ret->word_count++] = argv[i];
            continue;
        }
        if (!argv[i][1] || strchr(argv[i], ' ') || !is_known(known, argv[i]))
            return error_set(error, -EINVAL, "%s is no option here; these are: %s", argv[i],
                             *known ? known : "none");
        if (i + 1 == argc)
            return error_set(error, -EINVAL, "%s needs a value", argv[i]);
        r = set(ret, argv[i], argv[i + 1], error);
        if (r < 0)
            return r;
        i++;
    }
    return 0;
}
