#include "lab/lab.h"

#include "base/buf.h"
#include "base/encode.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/process.h"
#include "release/payload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CPU_SLACK 5 /* seconds of CPU beyond the wall-clock limit before the kernel steps in */
#define RECORD_OUTPUT 4096
#define LAST_LINES 3

/* The folder that goes away: payload/ unpacked, scratch/ empty. */
struct bench {
    char *root, *payload, *scratch;
};

static int bench_make(struct bench *bench, struct error *error)
{
    const char *base = getenv("TMPDIR");
    bench->root = path_join(base && *base ? base : "/tmp", "maeslant-lab-XXXXXX");
    if (!mkdtemp(bench->root))
        return error_set(error, -errno, "no throw-away folder %s: %s", bench->root,
                         strerror(errno));
    bench->payload = path_join(bench->root, "payload");
    bench->scratch = path_join(bench->root, "scratch");
    return dir_make(AT_FDCWD, bench->scratch, 0755, error);
}

static void bench_drop(struct bench *bench)
{
    if (bench->root)
        tree_remove(AT_FDCWD, bench->root, NULL);
    free(bench->root);
    free(bench->payload);
    free(bench->scratch);
}

static int check_payload(const struct manifest *manifest, const char *path, struct error *error)
{
    uint8_t digest[SHA256_SIZE];
    char text[SHA256_HEX_SIZE];
    uint64_t size;
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_set(error, -errno, "%s: %s", path, strerror(errno));
    int r = sha256_fd(fd, manifest->payload_size, digest, &size);
    hex_encode(digest, sizeof digest, text);
    if (r < 0 || size != manifest->payload_size || strcmp(text, manifest->payload_sha256) != 0)
        return error_set(error, -EBADMSG,
                         "%s is not the payload that the manifest names (SHA-256 %s, %lu bytes); "
                         "build the release again",
                         path, manifest->payload_sha256, (unsigned long)manifest->payload_size);
    return 0;
}

/* What a program printed, as text that JSON can hold. */
static char *printable(const struct buf *output)
{
    struct buf text = BUF_INIT;
    buf_reserve(&text, output->len + 1);
    for (size_t i = 0; i < output->len; i++) {
        unsigned char byte = (unsigned char)output->data[i];
        if (byte == '\n' || byte == '\t' || (byte >= 0x20 && byte < 0x7f))
            buf_add(&text, &output->data[i], 1);
        else
            buf_addf(&text, "\\x%02x", byte);
    }
    return buf_take(&text);
}

static int run_step(const struct lab_step *step, const struct pair_text *vars, size_t var_count,
                    const char *cwd, struct lab_verdict *ret, struct error *error)
{
    char *argv[65] = {NULL};
    size_t count = 0;
    int r = 0;
    for (; step->command[count] && r == 0; count++) {
        if (count == ARRAY_SIZE(argv) - 1)
            r = error_set(error, -E2BIG, "a lab command has more than 64 arguments");
        else
            r = substitute(step->command[count], vars, var_count, &argv[count], error);
        if (r < 0)
            break;
    }
    if (r == 0 && argv[0][0] != '/' && strchr(argv[0], '/')) {
        /* Relative to the lab's folder, as the manifest's page says. */
        char *absolute = path_join(cwd, argv[0]);
        free(argv[0]);
        argv[0] = absolute;
    }
    if (r == 0) {
        struct process_limits limits = {
            .timeout = step->timeout,
            .memory = step->memory,
            .file_size = step->file_size,
            .cpu = (uint64_t)step->timeout + CPU_SLACK,
            .output = step->output,
            .strict_output = true,
        };
        struct process_result result = {0};
        r = process_run(argv, NULL, cwd, NULL, &limits, -1, &result, error);
        if (r == 0) {
            ret->ran = true;
            ret->seconds = result.seconds;
            ret->passed = !result.timed_out && !result.output_exceeded && result.exit_status == 0;
            ret->output = printable(&result.output);
            if (result.output_exceeded)
                snprintf(ret->why, sizeof ret->why, "more than %lu bytes of output",
                         (unsigned long)step->output);
            else
                process_describe(&result, ret->why, sizeof ret->why);
            process_result_free(&result);
        }
    }
    for (size_t i = 0; i < count; i++)
        free(argv[i]);
    return r;
}

/* The last lines of the output: what is wrong seldom stands in the very last. */
static const char *last_words(const char *output, int *ret_len)
{
    size_t end = strlen(output), from, lines = 0;
    while (end > 0 && output[end - 1] == '\n')
        end--;
    for (from = end; from > 0; from--)
        if (output[from - 1] == '\n' && ++lines == LAST_LINES)
            break;
    *ret_len = (int)(end - from);
    return output + from;
}

static int run_named(const char *name, const struct lab_step *step, const struct pair_text *vars,
                     size_t var_count, const char *cwd, struct lab_verdict *ret,
                     struct error *error)
{
    int r = run_step(step, vars, var_count, cwd, ret, error);
    if (r < 0)
        return error_prefix(error, r, "lab.%s", name);
    if (ret->passed)
        return 0;
    int len;
    const char *words = last_words(ret->output ? ret->output : "", &len);
    return error_set(error, -EPERM, "the lab refuses the release: lab.%s ended with %s%s%.*s", name,
                     ret->why, len ? "; its last words: " : "", len, words);
}

int lab_run(const struct manifest *manifest, const char *release_dir, const char *lab_dir,
            struct lab_result *ret, struct error *error)
{
    struct bench bench = {0};
    struct payload_limits limits = {manifest->payload_unpacked, manifest->payload_files};
    _cleanup_free_ char *archive = path_join(release_dir, "payload.tar.zst");
    _cleanup_free_ char *cwd = realpath(lab_dir, NULL);
    *ret = (struct lab_result){0};
    if (!cwd)
        return error_set(error, -errno, "the lab's folder %s: %s", lab_dir, strerror(errno));
    if (!manifest->load.command)
        return error_set(error, -ENOENT,
                         "the manifest names no lab.load, so nothing has ever loaded this payload; "
                         "add one, or publish with --skip-lab REASON, which goes on the record");
    int r;
    if ((r = check_payload(manifest, archive, error)) == 0 &&
        (r = bench_make(&bench, error)) == 0 &&
        (r = payload_unpack(archive, bench.payload, &limits, error)) == 0) {
        const struct pair_text vars[] = {
            {(char *)"payload", bench.payload},       {(char *)"scratch", bench.scratch},
            {(char *)"release", (char *)release_dir}, {(char *)"digest", (char *)manifest->release},
            {(char *)"product", manifest->product},
        };
        if (manifest->validate.command)
            r = run_named("validate", &manifest->validate, vars, ARRAY_SIZE(vars), cwd,
                          &ret->validate, error);
        if (r == 0)
            r = run_named("load", &manifest->load, vars, ARRAY_SIZE(vars), cwd, &ret->load, error);
    }
    bench_drop(&bench);
    return r;
}

void lab_result_free(struct lab_result *result)
{
    free(result->validate.output);
    free(result->load.output);
    *result = (struct lab_result){0};
}

static json_t *verdict_json(const struct lab_verdict *verdict)
{
    if (!verdict->ran)
        return json_null();
    const char *output = verdict->output ? verdict->output : "";
    size_t len = strlen(output);
    if (len > RECORD_OUTPUT)
        output += len - RECORD_OUTPUT;
    return json_pack("{s:b, s:f, s:s, s:s}", "passed", verdict->passed, "seconds", verdict->seconds,
                     "why", verdict->why, "output", output);
}

json_t *lab_result_json(const struct lab_result *result)
{
    return json_pack("{s:o, s:o}", "validate", verdict_json(&result->validate), "load",
                     verdict_json(&result->load));
}
