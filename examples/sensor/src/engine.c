#include "engine.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int engine_open(unsigned version, struct engine *ret, struct error *error)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *pool =
        mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pool == MAP_FAILED || mprotect(pool + page, page, PROT_NONE) < 0) {
        int r = -errno;

        if (pool != MAP_FAILED)
            munmap(pool, 2 * page);
        return error_set(error, r, "no memory for the engine's inputs: %s", strerror(-r));
    }
    *ret = (struct engine){.version = version, .pool = pool, .pool_size = 2 * page};
    /* The inputs end where the page ends, as at the end of a driver's pool: the first read past
     * them faults every time, not only when the neighbour happens to be unmapped. */
    ret->inputs = (const char **)(void *)(pool + page - EVENT_FIELDS * sizeof(*ret->inputs));
    return 0;
}

void engine_close(struct engine *engine)
{
    if (engine->pool)
        munmap(engine->pool, engine->pool_size);
    *engine = (struct engine){0};
}

int engine_check(const struct engine *engine, const struct table *table, struct error *error)
{
    if (engine->version < 2)
        return 0;
    for (size_t i = 0; i < table->count; i++)
        if (table->templates[i].field_count > EVENT_FIELDS)
            return error_set(error, -ERANGE,
                             "template %u declares %u fields; engine %u supplies %d: the content "
                             "needs a newer engine",
                             table->templates[i].id, table->templates[i].field_count,
                             engine->version, EVENT_FIELDS);
    return 0;
}

static bool criterion_holds(const struct criterion *criterion, const char *const *input)
{
    return !criterion->value || strcmp(criterion->value, *input) == 0;
}

/* THE DEFECT OF 19 JULY 2024, ON PURPOSE. `field_count` comes from the content, the array has
 * EVENT_FIELDS pointers, and nobody compares the two. A wildcard is not looked up, so content with
 * 21 fields passed every test as long as the 21st was one; the first value there reads the pointer
 * behind the array. Every criterion is evaluated, so that the crash does not depend on the event.
 */
static int match_v1(const char *const *inputs, const struct template *template)
{
    bool all = true;

    for (unsigned i = 0; i < template->field_count; i++)
        all &= criterion_holds(&template->fields[i], &inputs[i]);
    return all;
}

static int match_v2(const char *const *inputs, const struct template *template)
{
    if (template->field_count > EVENT_FIELDS)
        return -ERANGE;
    return match_v1(inputs, template);
}

int engine_match(const struct engine *engine, const struct template *template,
                 const struct event *event)
{
    for (unsigned i = 0; i < EVENT_FIELDS; i++)
        engine->inputs[i] = event->fields[i];
    return engine->version < 2 ? match_v1(engine->inputs, template)
                               : match_v2(engine->inputs, template);
}
