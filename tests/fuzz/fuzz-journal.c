#include "fuzz.h"

#include "agent/journal.h"
#include "base/encode.h"

#include <errno.h>
#include <string.h>

/* A record that parses writes the same bytes again; any other is damaged, with a sentence. */
static void check(const char *text, size_t len)
{
    _cleanup_buf_ struct buf again = BUF_INIT;
    struct error error = ERROR_INIT;
    struct journal journal;
    int r = journal_parse(text, len, &journal, &error);

    if (r == 0) {
        journal_text(&journal, &again);
        must(again.len == len && memcmp(again.data, text, len) == 0);
    } else {
        must(r == -EBADMSG && error.text[0] != '\0' && journal.state == STATE_IDLE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_buf_ struct buf summed = BUF_INIT;
    char sum[SHA256_HEX_SIZE];

    check((const char *)data, size);
    /* With a sum that fits, the values alone decide. */
    buf_add(&summed, data, size);
    sha256_hex(data, size, sum);
    buf_addf(&summed, "sum %s\n", sum);
    check(summed.data, summed.len);
    return 0;
}
