/* Payloads: deterministic tar.zst, and the strict way out of one. Must never write outside the
 * target folder, nor make anything but regular files and directories. */
#pragma once

#include "base/error.h"

#include <stdint.h>

struct payload_limits {
    uint64_t unpacked; /* bytes */
    uint64_t files;
};
struct payload_info {
    char sha256[65];
    uint64_t size, unpacked, files;
};

/* Packs the folder `dir` into `path`: same tree, same bytes. Refuses links, devices, setuid bits
 * and non-ASCII names by name. */
int payload_pack(const char *dir, const char *path, struct payload_info *ret, struct error *error);
/* Unpacks into the folder `target` (made, must not exist), then fsyncs all of it. On error nothing
 * is left. Refused with the entry's name: absolute paths, "..", links, devices, FIFOs, setuid,
 * setgid and sticky bits, duplicates, non-ASCII, sparse entries, more than `limits` (also while the
 * header lies about sizes), names over 255 or paths over 1024 bytes. */
int payload_unpack(const char *path, const char *target, const struct payload_limits *limits,
                   struct error *error);
/* Digest over the unpacked tree: SHA-256 over "<mode> <size> <sha256> <path>\n" lines in order of
 * path; a folder's has size 0, the digest of nothing and a slash behind its path. Tells whether a
 * slot is whole; -EINVAL names what is neither file nor folder. */
int payload_tree_digest(const char *dir, char ret[static 65], struct error *error);
