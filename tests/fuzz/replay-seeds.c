/* Runs a fuzz target over the files of its corpus, without libFuzzer. */
#include "fuzz.h"

#include "base/buf.h"
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    struct dirent *entry;
    unsigned count = 0;

    if (!dir) {
        (void)fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
        return 2;
    }
    while ((entry = readdir(dir))) {
        _cleanup_buf_ struct buf seed = BUF_INIT;
        struct error error = ERROR_INIT;

        if (entry->d_name[0] == '.')
            continue;
        if (file_read(dirfd(dir), entry->d_name, 64 << 20, &seed, &error) < 0) {
            (void)fprintf(stderr, "%s\n", error.text);
            return 1;
        }
        (void)printf("%s\n", entry->d_name);
        (void)fflush(stdout); /* the last name printed is the one that crashed */
        (void)LLVMFuzzerTestOneInput((const uint8_t *)seed.data, seed.len);
        count++;
    }
    (void)closedir(dir);
    return count > 0 ? 0 : 1;
}
