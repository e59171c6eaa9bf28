/* Only the pinned CAs count: the store is ours, whatever libcurl was built to load. */
#include "base/file.h"
#include "http/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <string.h>
#include <time.h>

#define CA_LIMIT (1u << 20)

static int add_certificates(X509_STORE *store, const char *path, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    _cleanup_free_ char *real = realpath(path, NULL);
    unsigned count = 0;
    X509 *certificate;
    BIO *bio;
    int r;

    if (!real) {
        r = -errno;
        return error_set(error, r, "cannot read the CA file %s: %s", path, strerror(-r));
    }
    r = file_read(AT_FDCWD, real, CA_LIMIT, &text, error);
    if (r < 0)
        return r;
    bio = BIO_new_mem_buf(text.data ? text.data : "", (int)text.len);
    if (!bio)
        abort();
    while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        if (X509_STORE_add_cert(store, certificate) == 1)
            count++;
        X509_free(certificate);
    }
    ERR_clear_error();
    BIO_free(bio);
    if (count == 0)
        return error_set(error, -EINVAL,
                         "the CA file %s has no certificate: expected PEM with \"-----BEGIN "
                         "CERTIFICATE-----\"",
                         path);
    return 0;
}

int trust_load(struct trust *trust, const char *ca_path, const char *extra_ca_path,
               struct error *error)
{
    int r;

    trust->store = X509_STORE_new();
    if (!trust->store)
        abort();
    /* Any pinned certificate is an anchor, also one that another CA signed. */
    X509_STORE_set_flags(trust->store, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
    r = add_certificates(trust->store, ca_path, error);
    if (r == 0 && extra_ca_path)
        r = add_certificates(trust->store, extra_ca_path, error);
    return r;
}

void trust_free(struct trust *trust)
{
    X509_STORE_free(trust->store);
    trust->store = NULL;
}

static CURLcode on_ssl_context(CURL *easy, void *context, void *user)
{
    struct trust *trust = user;
    int64_t min = atomic_load(&trust->min_unix_time);
    int64_t now = (int64_t)time(NULL);

    if (X509_STORE_up_ref(trust->store) != 1)
        return CURLE_OUT_OF_MEMORY;
    SSL_CTX_set_cert_store(context, trust->store);
    /* A machine whose clock fell back to its epoch still gets to know a certificate. */
    X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(context), (time_t)(now > min ? now : min));
    return CURLE_OK;
}

void trust_apply(struct trust *trust, CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, NULL);
    curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_ssl_context);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, trust);
}
