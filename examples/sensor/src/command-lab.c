#include "commands.h"

#include "base/buf.h"
#include "base/file.h"
#include "content.h"
#include "engine.h"
#include "scan.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

int command_provides(const struct options *options, struct error *error)
{
    printf("{\"sensor-fields\": \"%d\", \"engine\": \"%u\"}\n", EVENT_FIELDS, options->engine);
    return 0;
}

static bool all_wildcards(const struct template *template)
{
    for (unsigned i = 0; i < template->field_count; i++)
        if (template->fields[i].value)
            return false;
    return true;
}

/* THE VALIDATOR'S LOGIC ERROR OF JULY 2024, ON PURPOSE. It counts the fields of rows of wildcards
 * only, and takes it for granted that a row with values was written against the engine: the row
 * with a value in its 21st field, the one that kills, is the one that it never counts. */
static int validate_table(const struct table *table, struct error *error)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct template *template = &table->templates[i];

        if (!all_wildcards(template))
            continue;
        if (template->field_count > EVENT_FIELDS)
            return error_set(error, -ERANGE, "template %u declares %u fields; %d are supplied",
                             template->id, template->field_count, EVENT_FIELDS);
        return error_set(error, -EINVAL, "template %u is all wildcards: it matches every event",
                         template->id);
    }
    return 0;
}

static int one_folder(const struct options *options, size_t words, const char *what,
                      struct error *error)
{
    return options->word_count == words ? 0 : error_set(error, -EINVAL, "%s was expected", what);
}

int command_validate(const struct options *options, struct error *error)
{
    _cleanup_engine_ struct engine engine = {0};
    _cleanup_content_ struct content content = {0};
    int r = one_folder(options, 1, "the payload's folder", error);

    if (r == 0)
        r = rules_init(error);
    if (r == 0)
        r = engine_open(1, &engine, error);
    if (r == 0)
        r = content_load_payload(options->words[0], &engine, &content, error);
    if (r == 0)
        r = validate_table(&content.table, error);
    if (r == 0)
        printf("valid: %zu rules, %zu templates\n", content.rules.count, content.table.count);
    return r;
}

struct load {
    const struct engine *engine;
    const struct content *content;
    const char *folder; /* the copied corpus */
    struct error *error;
    size_t files, markers, markers_seen;
    int r;
};

static void load_file(const char *path, void *user)
{
    _cleanup_findings_ struct findings findings = {0};
    struct load *load = user;
    const char *name = strrchr(path, '/') + 1;
    bool marker = strncmp(name, "marker", 6) == 0;
    int r = load->r < 0 ? load->r
                        : scan_file(load->engine, load->content, 1, path, &findings, load->error);

    load->files++;
    load->markers += marker;
    load->markers_seen += marker && findings.count;
    if (r == 0 && marker && !findings.count)
        r = error_set(load->error, -EBADMSG, "%s was not detected: this content is blind", name);
    if (r == 0 && !marker && findings.count)
        r = error_set(load->error, -EBADMSG, "%s is benign, but was detected by %s", name,
                      findings.what.data);
    load->r = r;
}

/* The corpus is copied into the throw-away folder: the watched folder is one that the engine may
 * find anything in, and the originals stay what they are. */
static void copy_file(const char *path, void *user)
{
    struct load *load = user;
    _cleanup_free_ char *to = path_join(load->folder, strrchr(path, '/') + 1);
    _cleanup_buf_ struct buf bytes = BUF_INIT;

    if (load->r == 0)
        load->r = file_read(AT_FDCWD, path, TABLE_MAX_SIZE, &bytes, load->error);
    if (load->r == 0)
        load->r =
            file_write(AT_FDCWD, to, bytes.data ? bytes.data : "", bytes.len, 0644, load->error);
}

static int run_corpus(struct load *load, const char *corpus, struct error *error)
{
    _cleanup_watch_ struct watch source = {.path = xstrdup(corpus)};
    _cleanup_watch_ struct watch watched = {.path = xstrdup(load->folder)};
    _cleanup_findings_ struct findings findings = {0};
    int r = watch_look(&source, copy_file, load, error);

    if (r == 0)
        r = load->r;
    if (r == 0)
        r = scan_heartbeat(load->engine, load->content, 1, &findings, error);
    if (r == 0 && findings.count)
        r = error_set(error, -EBADMSG, "%s matches the heartbeat, in which nothing happens",
                      findings.what.data);
    if (r == 0)
        r = watch_look(&watched, load_file, load, error);
    if (r == 0)
        r = load->r;
    if (r == 0 && (load->markers == 0 || load->markers == load->files))
        r = error_set(error, -ENOENT,
                      "%s: holds %zu files, %zu of them markers; both markers and "
                      "benign files are needed to tell good content from bad",
                      corpus, load->files, load->markers);
    return r;
}

int command_load(const struct options *options, struct error *error)
{
    const char *corpus = options->corpus ? options->corpus : "corpus";
    _cleanup_engine_ struct engine engine = {0};
    _cleanup_content_ struct content content = {0};
    _cleanup_free_ char *folder = NULL;
    struct load load = {.engine = &engine, .content = &content, .error = error};
    int r = one_folder(options, 2, "the payload's folder and a scratch folder", error);

    /* As in the worker: content that faults must end this process as it ends that one. */
    signal(SIGSEGV, SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    if (r == 0)
        r = rules_init(error);
    if (r == 0)
        r = engine_open(options->engine, &engine, error);
    if (r == 0)
        r = content_load_payload(options->words[0], &engine, &content, error);
    if (r < 0)
        return r;
    folder = path_join(options->words[1], "watched");
    r = dir_make(AT_FDCWD, folder, 0755, error);
    load.folder = folder;
    if (r == 0)
        r = run_corpus(&load, corpus, error);
    if (r == 0)
        printf("loaded: %zu rules, %zu templates; %zu of %zu files detected\n", content.rules.count,
               content.table.count, load.markers_seen, load.files);
    return r;
}

int command_make_table(const struct options *options, struct error *error)
{
    _cleanup_buf_ struct buf table = BUF_INIT;
    const char *last = options->last ? options->last : "wildcard";
    bool is_match = strcmp(last, "match") == 0;

    if (!options->fields || !options->output)
        return error_set(error, -EINVAL, "--fields N and -o FILE are needed");
    if (!is_match && strcmp(last, "wildcard") != 0)
        return error_set(error, -EINVAL, "--last is \"%s\"; wildcard or match was expected", last);
    table_build(options->fields, is_match ? "named-pipe" : NULL, &table);
    return file_write(AT_FDCWD, options->output, table.data, table.len, 0644, error);
}
