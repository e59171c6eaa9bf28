#include "trust/ca.h"

#include "../scratch.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const names[] = {"control.example.org", "*.edge.example.org", "127.0.0.1", "::1",
                                    NULL};

static X509 *load(const char *dir, const char *name)
{
    _cleanup_free_ char *path = path_join(dir, name);
    FILE *file = fopen(path, "re");
    X509 *cert;

    assert_non_null(file);
    cert = PEM_read_X509(file, NULL, NULL, NULL);
    (void)fclose(file);
    assert_non_null(cert);
    return cert;
}

static EVP_PKEY *load_key(const char *dir, const char *name)
{
    _cleanup_free_ char *path = path_join(dir, name);
    FILE *file = fopen(path, "re");
    EVP_PKEY *key;

    assert_non_null(file);
    key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    (void)fclose(file);
    assert_non_null(key);
    return key;
}

/* X509_V_OK when a TLS client that trusts `ca` would take `cert` for the host or address. */
static int verify(X509 *ca, X509 *cert, const char *host, const char *address)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    X509_VERIFY_PARAM *param;
    int result;

    assert_true(X509_STORE_add_cert(store, ca));
    assert_true(X509_STORE_CTX_init(context, store, cert, NULL));
    param = X509_STORE_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
    X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
    if (host)
        X509_VERIFY_PARAM_set1_host(param, host, 0);
    if (address)
        X509_VERIFY_PARAM_set1_ip_asc(param, address);
    result = X509_verify_cert(context) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(context);
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    return result;
}

static void the_server_is_trusted_under_its_names_and_no_others(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    struct error error = ERROR_INIT;
    X509 *ca, *cert;

    assert_int_equal(ca_make(dir, names, &error), 0);
    ca = load(dir, "ca.pem");
    cert = load(dir, "tls.pem");
    assert_int_equal(verify(ca, cert, "control.example.org", NULL), X509_V_OK);
    assert_int_equal(verify(ca, cert, "a.edge.example.org", NULL), X509_V_OK);
    assert_int_equal(verify(ca, cert, NULL, "127.0.0.1"), X509_V_OK);
    assert_int_equal(verify(ca, cert, NULL, "::1"), X509_V_OK);
    assert_int_equal(verify(ca, cert, "evil.example.org", NULL), X509_V_ERR_HOSTNAME_MISMATCH);
    assert_int_equal(verify(ca, cert, NULL, "127.0.0.2"), X509_V_ERR_IP_ADDRESS_MISMATCH);
    X509_free(ca);
    X509_free(cert);
}

static long days_valid(const X509 *cert)
{
    int days = 0, seconds = 0;

    assert_true(
        ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(cert), X509_get0_notAfter(cert)));
    assert_int_equal(seconds, 0);
    return days;
}

static void the_certificates_say_what_they_may_be_used_for(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    struct error error = ERROR_INIT;
    X509 *ca, *cert;
    int critical;
    BASIC_CONSTRAINTS *constraints;
    EVP_PKEY *key;
    char group[32];

    assert_int_equal(ca_make(dir, names, &error), 0);
    ca = load(dir, "ca.pem");
    cert = load(dir, "tls.pem");
    constraints = X509_get_ext_d2i(ca, NID_basic_constraints, &critical, NULL);
    assert_non_null(constraints);
    assert_int_equal(critical, 1);
    assert_true(constraints->ca);
    assert_int_equal(ASN1_INTEGER_get(constraints->pathlen), 0);
    BASIC_CONSTRAINTS_free(constraints);
    assert_int_equal(X509_get_key_usage(ca), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    assert_int_equal(X509_check_ca(cert), 0);
    assert_int_equal(X509_get_key_usage(cert), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_get_extended_key_usage(cert), XKU_SSL_SERVER);
    assert_int_equal(days_valid(ca), 3650);
    assert_int_equal(days_valid(cert), 397);
    assert_true(X509_cmp_time(X509_get0_notBefore(cert), NULL) < 0);
    key = X509_get0_pubkey(cert);
    assert_true(EVP_PKEY_get_group_name(key, group, sizeof(group), NULL));
    assert_string_equal(group, "prime256v1");
    assert_true(ASN1_INTEGER_cmp(X509_get0_serialNumber(ca), X509_get0_serialNumber(cert)) != 0);
    X509_free(ca);
    X509_free(cert);
}

static void private_keys_are_for_their_owner_only(void **state)
{
    static const char *const keys[] = {"ca.key", "tls.key"};
    static const char *const certs[] = {"ca.pem", "tls.pem"};
    _cleanup_scratch_ char *dir = scratch_make();
    struct error error = ERROR_INIT;
    struct stat st;

    assert_int_equal(ca_make(dir, names, &error), 0);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        _cleanup_free_ char *path = path_join(dir, keys[i]);
        X509 *cert = load(dir, certs[i]);
        EVP_PKEY *key = load_key(dir, keys[i]);

        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_true(X509_check_private_key(cert, key));
        EVP_PKEY_free(key);
        X509_free(cert);
    }
}

static void an_authority_is_never_replaced(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "ca.key"), *before = NULL, *after = NULL;
    struct error error = ERROR_INIT;

    assert_int_equal(ca_make(dir, names, &error), 0);
    before = scratch_read(path, NULL);
    assert_int_equal(ca_make(dir, names, &error), -EEXIST);
    assert_non_null(strstr(error.text, "renew"));
    after = scratch_read(path, NULL);
    assert_string_equal(before, after);
}

static void a_renewed_certificate_is_new_and_by_the_same_authority(void **state)
{
    static const char *const others[] = {"new.example.org", NULL};
    _cleanup_scratch_ char *dir = scratch_make();
    struct error error = ERROR_INIT;
    X509 *ca, *cert;
    EVP_PKEY *key;

    assert_int_equal(ca_make(dir, names, &error), 0);
    ca = load(dir, "ca.pem");
    assert_int_equal(ca_renew(dir, others, &error), 0);
    cert = load(dir, "tls.pem");
    key = load_key(dir, "tls.key");
    assert_int_equal(verify(ca, cert, "new.example.org", NULL), X509_V_OK);
    assert_int_equal(verify(ca, cert, "control.example.org", NULL), X509_V_ERR_HOSTNAME_MISMATCH);
    assert_true(X509_check_private_key(cert, key));
    EVP_PKEY_free(key);
    X509_free(ca);
    X509_free(cert);
}

static void a_name_that_is_none_is_quoted_and_nothing_is_made(void **state)
{
    static const char *const bad[] = {"bad name",  "-a.example", "a-.example", "a..b", ".",
                                      "",          "a.",         "*",          "*.",   "b.*.c",
                                      "300.1.1.1", "user@host",  "http://x",   "x:443"};
    _cleanup_scratch_ char *dir = scratch_make();

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const char *const list[] = {"good.example", bad[i], NULL};
        struct error error = ERROR_INIT;

        assert_int_equal(ca_make(dir, list, &error), -EINVAL);
        if (!strstr(error.text, bad[i]))
            fail_msg("\"%s\" does not quote \"%s\"", error.text, bad[i]);
    }
    const char *const none[] = {NULL};
    struct error error = ERROR_INIT;

    assert_int_equal(ca_make(dir, none, &error), -EINVAL);
    assert_int_equal(rmdir(dir), 0);
    free(dir);
    dir = NULL;
}

static void a_damaged_authority_is_named(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make(), *other = scratch_make();
    _cleanup_free_ char *key_path = path_join(dir, "ca.key"), *foreign = path_join(other, "ca.key");
    _cleanup_free_ char *foreign_key = NULL;
    struct error error = ERROR_INIT;

    assert_int_equal(ca_renew(dir, names, &error), -ENOENT);
    assert_int_equal(ca_make(dir, names, &error), 0);
    assert_int_equal(ca_make(other, names, &error), 0);
    foreign_key = scratch_read(foreign, NULL);
    scratch_write(key_path, foreign_key, strlen(foreign_key), 0600);
    assert_int_equal(ca_renew(dir, names, &error), -EINVAL);
    assert_non_null(strstr(error.text, "is not the key of"));
    scratch_write(key_path, "garbage", 7, 0600);
    assert_int_equal(ca_renew(dir, names, &error), -EINVAL);
    assert_non_null(strstr(error.text, key_path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_server_is_trusted_under_its_names_and_no_others),
        cmocka_unit_test(the_certificates_say_what_they_may_be_used_for),
        cmocka_unit_test(private_keys_are_for_their_owner_only),
        cmocka_unit_test(an_authority_is_never_replaced),
        cmocka_unit_test(a_renewed_certificate_is_new_and_by_the_same_authority),
        cmocka_unit_test(a_name_that_is_none_is_quoted_and_nothing_is_made),
        cmocka_unit_test(a_damaged_authority_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
