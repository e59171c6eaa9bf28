/* What the subcommands share: options, the way to the control plane, answers for people and for
 * scripts. One file a subcommand; the table is in maeslant.c. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "http/client.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>

/* Exit codes, the same for every subcommand (maeslant(1)). */
enum {
    EXIT_OK = 0,
    EXIT_REFUSED = 1, /* it was understood and did not happen */
    EXIT_USAGE = 2,
    EXIT_UNREACHED = 3 /* the control plane did not answer */
};

struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};
/* Finds argv[1] in the table and runs it; prints the table for --help. `prefix` is "maeslant
 * release". */
int dispatch(const char *prefix, const struct command *commands, size_t count, int argc,
             char **argv);

int command_init(int argc, char **argv);
int command_serve(int argc, char **argv);
int command_release(int argc, char **argv);
int command_release_build(int argc, char **argv);
int command_release_sign(int argc, char **argv);
int command_release_publish(int argc, char **argv);
int command_release_list(int argc, char **argv);
int command_release_show(int argc, char **argv);
int command_rollout(int argc, char **argv);
int command_rollout_start(int argc, char **argv);
int command_rollout_status(int argc, char **argv);
int command_rollout_watch(int argc, char **argv);
int command_rollout_explain(int argc, char **argv);
int command_rollout_list(int argc, char **argv);
int command_rollout_events(int argc, char **argv);
int command_rollout_act(int argc, char **argv); /* pause, resume, halt, approve, hold */
int command_device(int argc, char **argv);
int command_device_enroll(int argc, char **argv);
int command_device_list(int argc, char **argv);
int command_device_show(int argc, char **argv);
int command_device_retire(int argc, char **argv);
int command_log(int argc, char **argv);
int command_sim(int argc, char **argv);
int command_replay(int argc, char **argv);

/* Options of a subcommand. `usage` is its whole help text, printed for --help. */
struct option_spec {
    const char *name; /* "release-key" */
    char kind;        /* 's' one text, 'm' many texts, 'f' flag */
    void *target;     /* const char **, struct text_list *, bool * */
};
struct text_list {
    const char *items[64];
    size_t count;
};
/* Parses argv[1…]; operands are left in `operands` (at most `max`, at least `min`). Returns -1 when
 * the subcommand should go on, else an exit code that it should return. */
int options_parse(int argc, char **argv, const char *usage, const struct option_spec *specs,
                  size_t spec_count, const char **operands, size_t min, size_t max);

/* Where the control plane is and who asks. Filled from --dir, --server, --ca, --token-file, or from
 * MAESLANT_DIR, MAESLANT_SERVER, MAESLANT_CA, MAESLANT_TOKEN_FILE. */
struct control {
    const char *directory, *server, *ca, *token_file;
    bool json; /* --json */
    struct http_client *client;
    char *authorization; /* header line */
    char *base_url, *ca_path;
};
#define CONTROL_OPTIONS(control)                                                                   \
    {"dir", 's', &(control).directory}, {"server", 's', &(control).server},                        \
        {"ca", 's', &(control).ca}, {"token-file", 's', &(control).token_file},                    \
    {                                                                                              \
        "json", 'f', &(control).json                                                               \
    }
#define CONTROL_HELP                                                                               \
    "\nWhere the control plane is:\n"                                                              \
    "  --dir DIR          its folder, on this machine           (or $MAESLANT_DIR)\n"              \
    "  --server URL       its address                           (or $MAESLANT_SERVER)\n"           \
    "  --ca FILE          the CA that its certificate must have (or $MAESLANT_CA)\n"               \
    "  --token-file FILE  admin.token or viewer.token           (or $MAESLANT_TOKEN_FILE)\n"       \
    "  --json             print the answer as JSON\n"
int control_open(struct control *control, struct error *error);
void control_close(struct control *control);

/* GET (body NULL) or POST; the parsed answer is the caller's. An answer that is no 200 is an error
 * with the problem's text: -EACCES 401/403, -ENOENT 404, -EEXIST 409, -EINVAL 400, -EAGAIN 503. */
int control_call(struct control *control, const char *path, const json_t *body, json_t **ret,
                 struct error *error);
/* Sends a file as an artifact in parts, with progress on a terminal. */
int control_upload(struct control *control, const char *path, const char *sha256,
                   struct error *error);

/* The whole name of a "release" or "device" (`kind`) from its first digits; the caller's. */
int control_resolve(struct control *control, const char *kind, const char *prefix, char **ret,
                    struct error *error);
/* A subcommand that shows what one GET answers: a list without operands, or the "release" or
 * "device" that the operand names. -1 with the answer, which is printed already where JSON was
 * asked for; or an exit code. */
int control_list(int argc, char **argv, const char *usage, const char *path,
                 struct control *control, json_t **ret);
int control_show(int argc, char **argv, const char *usage, const char *kind,
                 struct control *control, json_t **ret);
/* A file of a release's folder, which must not be empty. */
int release_read(const char *directory, const char *name, size_t limit, struct buf *ret,
                 struct error *error);

/* Prints "maeslant: text" to stderr and returns the exit code that fits `r`. */
int fail(int r, const struct error *error);
/* Prints JSON, indented on a terminal. */
size_t terminal_columns(void); /* of standard output; 80 where it has none */
/* Adds the text with lines of at most so many columns, broken at spaces where there are any. Escape
 * codes take no room. */
void wrap_text(const char *text, size_t columns, struct buf *ret);
void print_json(const json_t *value);

/* The terminal. */
bool is_colour(FILE *stream);
const char *
colour(FILE *stream,
       const char *name); /* "red", "green", "yellow", "dim", "bold", "off"; "" without colour */
/* Table of rows of text columns, aligned, with a header. */
struct grid {
    size_t columns, rows;
    char **cells;
};
void grid_add(struct grid *grid, const char *const *cells); /* copies `columns` cells */
void grid_print(const struct grid *grid, FILE *stream);
void grid_free(struct grid *grid);

/* Members of answers, with "-" / 0 where absent. */
const char *text_of(const json_t *object, const char *key);
double number_of(const json_t *object, const char *key);
/* "2m ago", "in 3h", from Unix milliseconds. */
void when_text(double unix_ms, char *ret, size_t size);
