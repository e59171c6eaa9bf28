#include "trust/ca.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY 86400L
#define CA_DAYS 3650
#define SERVER_DAYS 397 /* the most that clients of the public web accept, so every tool does */
#define SKEW 3600L      /* s that a client's clock may be behind on the first day */
#define SERIAL_SIZE 16
#define COMMON_NAME_MAX 64 /* RFC 5280, ub-common-name */
#define PEM_MAX 65536

static void cleanup_pkey(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}
static void cleanup_cert(X509 **cert)
{
    X509_free(*cert);
}
static void cleanup_names(GENERAL_NAMES **names)
{
    GENERAL_NAMES_free(*names);
}
static void cleanup_bio(BIO **bio)
{
    BIO_free(*bio);
}
#define _cleanup_pkey_ __attribute__((cleanup(cleanup_pkey)))
#define _cleanup_cert_ __attribute__((cleanup(cleanup_cert)))
#define _cleanup_names_ __attribute__((cleanup(cleanup_names)))
#define _cleanup_bio_ __attribute__((cleanup(cleanup_bio)))

/* What OpenSSL says went wrong. */
static int openssl_failed(struct error *error, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    error_set(error, -EIO, "cannot %s: %s", what, reason ? reason : "OpenSSL gives no reason");
    ERR_clear_error();
    return -EIO;
}

/* A host name as RFC 1123 has it, a leading "*." allowed. One that ends in a number is a mistyped
 * address. */
static bool is_dns_name(const char *name)
{
    size_t label = 0, digits = 0;

    if (strlen(name) > 253)
        return false;
    if (strncmp(name, "*.", 2) == 0)
        name += 2;
    for (;; name++) {
        const char c = *name;
        const bool alnum =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (c == '.' || c == '\0') {
            if (label == 0 || label > 63 || name[-1] == '-')
                return false;
            if (c == '\0')
                return digits < label;
            label = digits = 0;
        } else if (alnum || (c == '-' && label > 0)) {
            label++;
            digits += c >= '0' && c <= '9';
        } else {
            return false;
        }
    }
}

/* Adds one DNS name or IP address to the subject's alternative names. */
static int add_name(GENERAL_NAMES *names, const char *text, struct error *error)
{
    GENERAL_NAME *name;
    ASN1_STRING *value;
    uint8_t address[sizeof(struct in6_addr)];
    int type = GEN_IPADD, len;

    if (inet_pton(AF_INET, text, address) == 1)
        len = sizeof(struct in_addr);
    else if (inet_pton(AF_INET6, text, address) == 1)
        len = sizeof(struct in6_addr);
    else if (is_dns_name(text))
        type = GEN_DNS, len = (int)strlen(text);
    else
        return error_set(error, -EINVAL,
                         "\"%.120s\" is neither a host name nor an IP address; give the names by "
                         "which devices reach the server",
                         text);
    name = GENERAL_NAME_new();
    value = type == GEN_DNS ? ASN1_IA5STRING_new() : ASN1_OCTET_STRING_new();
    if (!name || !value ||
        !ASN1_STRING_set(value, type == GEN_DNS ? (const void *)text : address, len)) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(value);
        return openssl_failed(error, "hold a name");
    }
    GENERAL_NAME_set0_value(name, type, value);
    if (!sk_GENERAL_NAME_push(names, name)) {
        GENERAL_NAME_free(name);
        return openssl_failed(error, "hold a name");
    }
    return 0;
}

static bool set_serial(X509 *cert)
{
    uint8_t bytes[SERIAL_SIZE];
    BIGNUM *number;
    bool ok;

    random_bytes(bytes, sizeof(bytes));
    bytes[0] = (uint8_t)((bytes[0] & 0x3f) | 0x40); /* positive, and always as long */
    number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    return ok;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;
    bool ok;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_nconf_nid(NULL, &context, nid, value);
    ok = extension && X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

/* Everything but names and extensions. */
static X509 *new_cert(const char *common_name, EVP_PKEY *key, long days)
{
    X509 *cert = X509_new();
    X509_NAME *subject;
    const time_t from = (time_t)clock_now(CLOCK_REALTIME) - SKEW;

    if (!cert)
        return NULL;
    subject = X509_get_subject_name(cert);
    if (X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
        ASN1_TIME_set(X509_getm_notBefore(cert), from) &&
        ASN1_TIME_set(X509_getm_notAfter(cert), from + days * DAY) &&
        X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                   (const unsigned char *)common_name, -1, -1, 0) &&
        X509_set_pubkey(cert, key))
        return cert;
    X509_free(cert);
    return NULL;
}

static int make_ca(EVP_PKEY *key, X509 **ret, struct error *error)
{
    _cleanup_cert_ X509 *cert = NULL;
    char name[32] = "Maeslant CA ";

    /* A name of its own, so that the authorities of two installations can be trusted at once. */
    random_hex(name + strlen(name), 4);
    cert = new_cert(name, key, CA_DAYS);
    if (!cert || !X509_set_issuer_name(cert, X509_get_subject_name(cert)) ||
        !add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(cert, cert, NID_subject_key_identifier, "hash") ||
        !X509_sign(cert, key, EVP_sha256()))
        return openssl_failed(error, "make the authority's certificate");
    *ret = cert;
    cert = NULL;
    return 0;
}

static int make_server(X509 *ca, EVP_PKEY *ca_key, EVP_PKEY *key, const char *const *names,
                       X509 **ret, struct error *error)
{
    _cleanup_cert_ X509 *cert = NULL;
    _cleanup_names_ GENERAL_NAMES *list = GENERAL_NAMES_new();
    int r;

    if (!list)
        return openssl_failed(error, "hold names");
    if (!names[0])
        return error_set(error, -EINVAL,
                         "no name for the server; give the host names or addresses by which "
                         "devices reach it");
    for (size_t i = 0; names[i]; i++)
        if ((r = add_name(list, names[i], error)) < 0)
            return r;
    cert = new_cert(strlen(names[0]) <= COMMON_NAME_MAX ? names[0] : "maeslant", key, SERVER_DAYS);
    if (!cert || !X509_set_issuer_name(cert, X509_get_subject_name(ca)) ||
        !add_extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(cert, ca, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(cert, ca, NID_ext_key_usage, "serverAuth") ||
        !add_extension(cert, ca, NID_subject_key_identifier, "hash") ||
        !add_extension(cert, ca, NID_authority_key_identifier, "keyid:always") ||
        !X509_add1_ext_i2d(cert, NID_subject_alt_name, list, 0, 0) ||
        !X509_sign(cert, ca_key, EVP_sha256()))
        return openssl_failed(error, "make the server's certificate");
    *ret = cert;
    cert = NULL;
    return 0;
}

/* Writes what a memory BIO holds. */
static int save(const char *dir, const char *name, BIO *bio, mode_t mode, struct error *error)
{
    _cleanup_free_ char *path = path_join(dir, name);
    char *data;
    long len = BIO_get_mem_data(bio, &data);

    return file_write(AT_FDCWD, path, data, (size_t)len, mode, error);
}

static int save_key(const char *dir, const char *name, EVP_PKEY *key, struct error *error)
{
    _cleanup_bio_ BIO *bio = BIO_new(BIO_s_secmem()); /* wiped when freed */

    if (!bio || !PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL))
        return openssl_failed(error, "write a private key as PEM");
    return save(dir, name, bio, 0600, error);
}

static int save_cert(const char *dir, const char *name, X509 *cert, struct error *error)
{
    _cleanup_bio_ BIO *bio = BIO_new(BIO_s_mem());

    if (!bio || !PEM_write_bio_X509(bio, cert))
        return openssl_failed(error, "write a certificate as PEM");
    return save(dir, name, bio, 0644, error);
}

/* Makes and saves tls.key and tls.pem. Two files cannot change at once: after a power cut between
 * the two, ca_renew mends the pair. */
static int issue(const char *dir, X509 *ca, EVP_PKEY *ca_key, const char *const *names,
                 struct error *error)
{
    _cleanup_pkey_ EVP_PKEY *key = EVP_EC_gen("P-256");
    _cleanup_cert_ X509 *cert = NULL;
    int r;

    if (!key)
        return openssl_failed(error, "make a P-256 key");
    if ((r = make_server(ca, ca_key, key, names, &cert, error)) < 0 ||
        (r = save_key(dir, "tls.key", key, error)) < 0)
        return r;
    return save_cert(dir, "tls.pem", cert, error);
}

static bool is_there(const char *dir, const char *name)
{
    _cleanup_free_ char *path = path_join(dir, name);
    struct stat st;

    return lstat(path, &st) == 0;
}

int ca_make(const char *dir, const char *const *names, struct error *error)
{
    _cleanup_pkey_ EVP_PKEY *key = NULL;
    _cleanup_cert_ X509 *cert = NULL;
    int r;

    if (is_there(dir, "ca.key") || is_there(dir, "ca.pem"))
        return error_set(error, -EEXIST,
                         "%s holds an authority already (ca.key, ca.pem), which devices may trust; "
                         "renew the server's certificate with it, or move both away",
                         dir);
    key = EVP_EC_gen("P-256");
    if (!key)
        return openssl_failed(error, "make a P-256 key");
    if ((r = make_ca(key, &cert, error)) < 0)
        return r;
    /* The authority comes last: without it the whole can simply be made again. */
    if ((r = issue(dir, cert, key, names, error)) < 0 ||
        (r = save_key(dir, "ca.key", key, error)) < 0)
        return r;
    r = save_cert(dir, "ca.pem", cert, error);
    if (r < 0) {
        _cleanup_free_ char *path = path_join(dir, "ca.key");

        (void)file_unlink(AT_FDCWD, path, NULL);
    }
    return r;
}

/* No passphrase is ever asked for on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *data)
{
    return -1;
}

static int load(const char *dir, X509 **ret_cert, EVP_PKEY **ret_key, struct error *error)
{
    _cleanup_free_ char *cert_path = path_join(dir, "ca.pem"), *key_path = path_join(dir, "ca.key");
    _cleanup_buf_ struct buf cert_text = BUF_INIT, key_text = BUF_INIT;
    _cleanup_bio_ BIO *cert_bio = NULL, *key_bio = NULL;
    int r;

    if ((r = file_read(AT_FDCWD, cert_path, PEM_MAX, &cert_text, error)) < 0 ||
        (r = file_read(AT_FDCWD, key_path, PEM_MAX, &key_text, error)) < 0)
        return r;
    cert_bio = BIO_new_mem_buf(cert_text.data, (int)cert_text.len);
    key_bio = BIO_new_mem_buf(key_text.data, (int)key_text.len);
    *ret_cert = cert_bio ? PEM_read_bio_X509(cert_bio, NULL, NULL, NULL) : NULL;
    if (!*ret_cert) {
        ERR_clear_error();
        return error_set(error, -EINVAL, "%s holds no certificate in PEM", cert_path);
    }
    *ret_key = key_bio ? PEM_read_bio_PrivateKey(key_bio, NULL, no_passphrase, NULL) : NULL;
    OPENSSL_cleanse(key_text.data, key_text.len);
    if (!*ret_key) {
        ERR_clear_error();
        return error_set(error, -EINVAL, "%s holds no private key in PEM without a passphrase",
                         key_path);
    }
    if (!X509_check_private_key(*ret_cert, *ret_key)) {
        ERR_clear_error();
        return error_set(error, -EINVAL, "%s is not the key of %s", key_path, cert_path);
    }
    return 0;
}

int ca_renew(const char *dir, const char *const *names, struct error *error)
{
    _cleanup_pkey_ EVP_PKEY *key = NULL;
    _cleanup_cert_ X509 *cert = NULL;
    int r;

    r = load(dir, &cert, &key, error);
    return r < 0 ? r : issue(dir, cert, key, names, error);
}
