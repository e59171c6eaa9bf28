#include "trust/key.h"

#include "base/encode.h"
#include "base/file.h"
#include "base/random.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUBLIC_LABEL "maeslant public key v1 "
#define SECRET_LABEL "maeslant secret key v1 "
#define SEED_BASE64 44 /* characters of 32 bytes in base64 */
/* A label, the base64 and a newline: no key file is longer. */
#define KEY_FILE_MAX (sizeof(SECRET_LABEL) + SEED_BASE64 + 1)

static_assert(KEY_PUBLIC_SIZE == crypto_sign_PUBLICKEYBYTES, "Ed25519 public key");
static_assert(KEY_SECRET_SIZE == crypto_sign_SECRETKEYBYTES, "Ed25519 secret key");
static_assert(SIGNATURE_SIZE == crypto_sign_BYTES, "Ed25519 signature");

static void need_sodium(void)
{
    if (sodium_init() < 0)
        abort(); /* no source of randomness: every key made from here on would be worthless */
}

void key_generate(struct secret_key *ret)
{
    need_sodium();
    crypto_sign_keypair(ret->public.bytes, ret->bytes);
}

void key_wipe(struct secret_key *key)
{
    sodium_memzero(key->bytes, sizeof(key->bytes));
}

void key_device_id(const struct public_key *key, char ret[static 65])
{
    sha256_hex(key->bytes, sizeof(key->bytes), ret);
}

void key_id(const struct public_key *key, char ret[static KEY_ID_SIZE])
{
    char whole[65];

    key_device_id(key, whole);
    memcpy(ret, whole, KEY_ID_SIZE - 1);
    ret[KEY_ID_SIZE - 1] = '\0';
}

/* Decodes "<label><base64 of 32 bytes>" with at most one newline behind it. */
static int parse_line(const char *text, size_t len, const char *label, uint8_t ret[static 32])
{
    const size_t label_len = strlen(label);
    size_t got;

    if (len > 0 && text[len - 1] == '\n')
        len--;
    if (len != label_len + SEED_BASE64 || memcmp(text, label, label_len) != 0)
        return -EINVAL;
    if (base64_decode(text + label_len, SEED_BASE64, ret, 32, &got) < 0 || got != 32)
        return -EINVAL;
    return 0;
}

int key_public_parse(const char *text, size_t len, struct public_key *ret, struct error *error)
{
    struct public_key key;

    if (parse_line(text, len, PUBLIC_LABEL, key.bytes) < 0) {
        if (len >= strlen(SECRET_LABEL) && memcmp(text, SECRET_LABEL, strlen(SECRET_LABEL)) == 0)
            return error_set(error, -EINVAL,
                             "this is a secret key, a public one was expected; give the file that "
                             "begins \"" PUBLIC_LABEL "\" and keep this one to yourself");
        return error_set(error, -EINVAL,
                         "\"%.*s\" is no public key; expected one line \"" PUBLIC_LABEL
                         "\" and 44 characters of base64",
                         (int)(len < 60 ? len : 60), text);
    }
    need_sodium();
    /* Under a key of small order some signatures hold for every message. */
    if (!crypto_core_ed25519_is_valid_point(key.bytes))
        return error_set(error, -EINVAL,
                         "\"%.*s\" is no usable Ed25519 key: not a point of the prime-order group; "
                         "make a new pair",
                         (int)(len < 80 ? len : 80), text);
    *ret = key;
    return 0;
}

char *key_public_text(const struct public_key *key)
{
    _cleanup_free_ char *base64 = base64_encode(key->bytes, sizeof(key->bytes));

    return xasprintf(PUBLIC_LABEL "%s", base64);
}

int key_public_load(const char *path, struct public_key *ret, struct error *error)
{
    _cleanup_buf_ struct buf buf = BUF_INIT;
    int r;

    r = file_read(AT_FDCWD, path, 4096, &buf, error);
    if (r < 0)
        return r;
    r = key_public_parse(buf.data ? buf.data : "", buf.len, ret, error);
    return r < 0 ? error_prefix(error, r, "%s", path) : 0;
}

/* Reads into a buffer of the caller, who wipes it: file_read would leave copies on the heap. */
static int read_secret(const char *path, char *ret_text, size_t cap, size_t *ret_len,
                       struct error *error)
{
    _cleanup_fd_ int fd = -1;
    struct stat st;
    size_t len = 0;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        int code = -errno;

        if (code == -ELOOP)
            return error_set(error, code,
                             "%s is a symbolic link; a secret key must be a file of its own", path);
        return error_set(error, code, "cannot open the secret key %s: %s", path, strerror(-code));
    }
    if (fstat(fd, &st) < 0)
        return error_set(error, -errno, "cannot look at the secret key %s: %s", path,
                         strerror(errno));
    if (!S_ISREG(st.st_mode))
        return error_set(error, -EINVAL, "%s is no regular file, a secret key was expected", path);
    if ((st.st_mode & 0077) != 0)
        return error_set(error, -EACCES,
                         "%s is open to others (mode %04o), so its key may be known already; if it "
                         "is not, chmod 600 it",
                         path, (unsigned)(st.st_mode & 07777));
    while (len < cap) {
        ssize_t n = read(fd, ret_text + len, cap - len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(error, -errno, "cannot read %s: %s", path, strerror(errno));
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *ret_len = len;
    return 0;
}

int key_secret_load(const char *path, struct secret_key *ret, struct error *error)
{
    char text[KEY_FILE_MAX + 1];
    uint8_t seed[crypto_sign_SEEDBYTES];
    size_t len = 0;
    int r;

    r = read_secret(path, text, sizeof(text), &len, error);
    if (r == 0) {
        need_sodium();
        r = parse_line(text, len, SECRET_LABEL, seed);
        if (r == 0)
            crypto_sign_seed_keypair(ret->public.bytes, ret->bytes, seed);
        else
            error_set(error, r,
                      "%s holds no secret key; expected one line \"" SECRET_LABEL
                      "\" and 44 characters of base64",
                      path);
    }
    sodium_memzero(text, sizeof(text));
    sodium_memzero(seed, sizeof(seed));
    return r;
}

/* Gives the file at `from` its final name, never over another file. */
static int rename_new(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    /* Network file systems know no RENAME_NOREPLACE, but link refuses an existing name too. */
    if (link(from, to) < 0)
        return -errno;
    return unlink(from) < 0 ? -errno : 0;
}

static int sync_parent(const char *path, struct error *error)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *parent = NULL;

    if (!slash)
        parent = xstrdup(".");
    else
        parent = xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
    return dir_sync(AT_FDCWD, parent, error);
}

static int save_secret(const struct secret_key *key, const char *path, struct error *error)
{
    _cleanup_free_ char *temporary = NULL;
    char suffix[17], text[KEY_FILE_MAX];
    char base64[sodium_base64_ENCODED_LEN(crypto_sign_SEEDBYTES, sodium_base64_VARIANT_ORIGINAL)];
    uint8_t seed[crypto_sign_SEEDBYTES];
    int r, len;

    random_hex(suffix, 8);
    temporary = xasprintf("%s.new-%s", path, suffix);
    crypto_sign_ed25519_sk_to_seed(seed, key->bytes);
    sodium_bin2base64(base64, sizeof(base64), seed, sizeof(seed), sodium_base64_VARIANT_ORIGINAL);
    len = snprintf(text, sizeof(text), SECRET_LABEL "%s\n", base64);
    assert(len > 0 && (size_t)len < sizeof(text));

    r = file_write(AT_FDCWD, temporary, text, (size_t)len, 0600, error);
    sodium_memzero(seed, sizeof(seed));
    sodium_memzero(base64, sizeof(base64));
    sodium_memzero(text, sizeof(text));
    if (r < 0)
        return r;
    r = rename_new(temporary, path);
    if (r < 0) {
        (void)unlink(temporary);
        if (r == -EEXIST)
            return error_set(error, r,
                             "%s is there already; a key is never written over: move it away or "
                             "give another name",
                             path);
        return error_set(error, r, "cannot name the new key %s: %s", path, strerror(-r));
    }
    return sync_parent(path, error);
}

int key_save(const struct secret_key *key, const char *path, const char *public_path,
             struct error *error)
{
    _cleanup_free_ char *line = NULL, *text = NULL;
    int r;

    need_sodium();
    r = save_secret(key, path, error);
    if (r < 0 || !public_path)
        return r;
    line = key_public_text(&key->public);
    text = xasprintf("%s\n", line);
    r = file_write(AT_FDCWD, public_path, text, strlen(text), 0644, error);
    if (r < 0)
        (void)unlink(path); /* so that the call can be repeated */
    return r;
}

static char *with_context(const char *context, const void *message, size_t len, size_t *ret_len)
{
    const size_t context_len = strlen(context);
    char *whole = xmalloc(context_len + len + 1);

    memcpy(whole, context, context_len);
    if (len > 0)
        memcpy(whole + context_len, message, len);
    *ret_len = context_len + len;
    return whole;
}

void key_sign(const struct secret_key *key, const char *context, const void *message, size_t len,
              uint8_t ret[static SIGNATURE_SIZE])
{
    size_t whole_len;
    _cleanup_free_ char *whole = with_context(context, message, len, &whole_len);

    need_sodium();
    crypto_sign_detached(ret, NULL, (const uint8_t *)whole, whole_len, key->bytes);
}

bool key_verify(const struct public_key *key, const char *context, const void *message, size_t len,
                const uint8_t signature[static SIGNATURE_SIZE])
{
    size_t whole_len;
    _cleanup_free_ char *whole = with_context(context, message, len, &whole_len);

    need_sodium();
    /* Refuses keys and R of small order, and S ≥ L, by itself. */
    return crypto_sign_verify_detached(signature, (const uint8_t *)whole, whole_len, key->bytes) ==
           0;
}
