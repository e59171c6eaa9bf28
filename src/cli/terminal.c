#include "cli/cli.h"

#include "base/clock.h"
#include "base/parse.h"

#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool is_colour(FILE *stream)
{
    const char *none = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(fileno(stream)) && !(none && *none) &&
           !(terminal && strcmp(terminal, "dumb") == 0);
}

const char *colour(FILE *stream, const char *name)
{
    static const struct {
        const char *name, *code;
    } codes[] = {{"red", "\033[31m"}, {"green", "\033[32m"}, {"yellow", "\033[33m"},
                 {"dim", "\033[2m"},  {"bold", "\033[1m"},   {"off", "\033[0m"}};
    if (!is_colour(stream))
        return "";
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
        if (strcmp(codes[i].name, name) == 0)
            return codes[i].code;
    return "";
}

size_t terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void wrap_text(const char *text, size_t columns, struct buf *ret)
{
    size_t column = 0, space = 0, after_space = 0; /* space: where in `ret` behind it, 0: none */
    while (*text) {
        size_t len = 1;
        if (*text == '\033') {
            len = strcspn(text, "ABCDEFGHJKm");
            len += text[len] != '\0';
            buf_add(ret, text, len);
            text += len;
            continue;
        }
        while (((unsigned char)text[len] & 0xc0) == 0x80)
            len++;
        if (*text == '\n') {
            column = space = 0;
        } else if (column == columns && space > 0) {
            ret->data[space - 1] = '\n';
            column -= after_space;
            space = 0;
        } else if (column == columns) {
            buf_add(ret, "\n", 1);
            column = 0;
        }
        buf_add(ret, text, len);
        column += *text != '\n';
        if (*text == ' ') {
            space = ret->len;
            after_space = column;
        }
        text += len;
    }
}

void print_json(const json_t *value)
{
    char *text = isatty(STDOUT_FILENO)
                     ? json_dumps(value, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY)
                     : json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);
    puts(text ? text : "null");
    free(text);
}

void grid_add(struct grid *grid, const char *const *cells)
{
    grid->cells = xrealloc(grid->cells, (grid->rows + 1) * grid->columns, sizeof *grid->cells);
    for (size_t i = 0; i < grid->columns; i++)
        grid->cells[grid->rows * grid->columns + i] = xstrdup(cells[i]);
    grid->rows++;
}

/* Columns that a terminal shows for UTF-8 text of one cell a character. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void grid_print(const struct grid *grid, FILE *stream)
{
    size_t *widths = xcalloc(grid->columns, sizeof *widths);
    for (size_t i = 0; i < grid->rows * grid->columns; i++) {
        size_t width = width_of(grid->cells[i]);
        if (width > widths[i % grid->columns])
            widths[i % grid->columns] = width;
    }
    for (size_t row = 0; row < grid->rows; row++) {
        fputs(row == 0 ? colour(stream, "bold") : "", stream);
        for (size_t i = 0; i < grid->columns; i++) {
            const char *cell = grid->cells[row * grid->columns + i];
            bool last = i + 1 == grid->columns;
            fprintf(stream, "%s%*s", cell, last ? 0 : (int)(widths[i] - width_of(cell)) + 2, "");
        }
        fputs(row == 0 ? colour(stream, "off") : "", stream);
        fputc('\n', stream);
    }
    free(widths);
}

void grid_free(struct grid *grid)
{
    for (size_t i = 0; i < grid->rows * grid->columns; i++)
        free(grid->cells[i]);
    free(grid->cells);
    *grid = (struct grid){0};
}

const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && *text ? text : "-";
}

double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

void when_text(double unix_ms, char *ret, size_t size)
{
    char span[32];
    if (unix_ms <= 0) {
        snprintf(ret, size, "-");
        return;
    }
    double ago = ((double)clock_ms(CLOCK_REALTIME) - unix_ms) / 1000;
    format_duration(floor(fabs(ago)), span, sizeof span);
    snprintf(ret, size, ago >= 0 ? "%s ago" : "in %s", span);
}
