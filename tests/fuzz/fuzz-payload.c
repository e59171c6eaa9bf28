#include "fuzz.h"

#include "base/file.h"
#include "release/payload.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

static char dir[] = "/tmp/maeslant-fuzz-XXXXXX";

static void remove_dir(void)
{
    (void)tree_remove(AT_FDCWD, dir, NULL);
}

static void write_payload(int dirfd, const uint8_t *data, size_t size, bool pack)
{
    static uint8_t packed[1 << 20];
    const size_t len = pack ? ZSTD_compress(packed, sizeof(packed), data, size, 1) : size;
    const int fd = openat(dirfd, "payload", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    must(fd >= 0 && !ZSTD_isError(len));
    must(write(fd, pack ? packed : data, len) == (ssize_t)len);
    must(close(fd) == 0);
}

/* The first byte says whether the rest is a payload or a tar to be made one. Accepted: the folder
 * can be digested (so it holds files and folders only) and packed. Refused: nothing is left. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int dirfd = -1;
    static char payload[64], target[64], again[64];
    const struct payload_limits limits = {.unpacked = 65536, .files = 16};
    struct error error = ERROR_INIT;
    struct stat st;
    int r;

    if (dirfd < 0) {
        must(mkdtemp(dir) != NULL);
        (void)atexit(remove_dir);
        dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        (void)snprintf(payload, sizeof(payload), "%s/payload", dir);
        (void)snprintf(target, sizeof(target), "%s/target", dir);
        (void)snprintf(again, sizeof(again), "%s/again", dir);
    }
    if (size == 0 || size > 512 * 1024)
        return 0;
    write_payload(dirfd, data + 1, size - 1, data[0] == 't');
    r = payload_unpack(payload, target, &limits, &error);
    if (r < 0) {
        must(error.text[0] != '\0');
        must(fstatat(dirfd, "target", &st, AT_SYMLINK_NOFOLLOW) < 0);
    } else {
        struct payload_info info;
        char digest[65];

        must(payload_tree_digest(target, digest, &error) == 0);
        must(payload_pack(target, again, &info, &error) == 0);
        must(info.files <= limits.files && info.unpacked <= limits.unpacked);
        must(tree_remove(AT_FDCWD, target, &error) == 0);
    }
    return 0;
}
