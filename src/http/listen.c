#include "base/file.h"
#include "base/log.h"
#include "http/private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define TLS_FILE_LIMIT (256u << 10)

bool address_is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)address;

        return IN6_IS_ADDR_LOOPBACK(&in->sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr) && in->sin6_addr.s6_addr[12] == 127);
    }
    return false;
}

void address_text(const struct sockaddr *address, char ret_text[static INET6_ADDRSTRLEN])
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
    const void *bytes = &in->sin_addr;
    int family = AF_INET;

    if (address->sa_family == AF_INET6) {
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

        bytes = mapped ? (const void *)&in6->sin6_addr.s6_addr[12] : &in6->sin6_addr;
        family = mapped ? AF_INET : AF_INET6;
    }
    if (!inet_ntop(family, bytes, ret_text, INET6_ADDRSTRLEN))
        ret_text[0] = '\0';
}

static int parse_address(const struct http_listen *listen, struct sockaddr_storage *ret,
                         socklen_t *ret_len, struct error *error)
{
    struct sockaddr_in *in = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, listen->address, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(listen->port);
        *ret_len = sizeof(*in);
        return 0;
    }
    if (inet_pton(AF_INET6, listen->address, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(listen->port);
        *ret_len = sizeof(*in6);
        return 0;
    }
    return error_set(error, -EINVAL,
                     "the address to listen on is \"%s\": expected an IPv4 or IPv6 address such "
                     "as 127.0.0.1, ::1 or 0.0.0.0",
                     listen->address);
}

int listen_open(const struct http_listen *listen_at, uint16_t *ret_port, struct error *error)
{
    struct sockaddr_storage address;
    socklen_t len;
    const int one = 1, zero = 0;
    int fd, r;

    r = parse_address(listen_at, &address, &len, error);
    if (r != 0)
        return r;
    if (!listen_at->certificate_path && !address_is_loopback((struct sockaddr *)&address))
        return error_set(error, -EPERM,
                         "plain HTTP is only served on loopback, not on %s: give a TLS "
                         "certificate and key, or listen on 127.0.0.1",
                         listen_at->address);
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        r = -errno;
        return error_set(error, r, "cannot make a socket: %s", strerror(-r));
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (address.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0) {
        r = -errno;
        cleanup_fd(&fd);
        return error_set(error, r, "cannot listen on %s port %u: %s%s", listen_at->address,
                         (unsigned)listen_at->port, strerror(-r),
                         r == -EADDRINUSE ? "; another program has it, choose another port" : "");
    }
    *ret_port = ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
                                                   : ((struct sockaddr_in6 *)&address)->sin6_port);
    return fd;
}

/* Certificates are often links to the newest ones. */
static int read_tls_file(const char *path, struct buf *ret, struct error *error)
{
    _cleanup_free_ char *real = realpath(path, NULL);

    if (!real) {
        int r = -errno;

        return error_set(error, r, "cannot read the TLS file %s: %s", path, strerror(-r));
    }
    return file_read(AT_FDCWD, real, TLS_FILE_LIMIT, ret, error);
}

int listen_load_tls(const struct http_listen *listen_at, struct buf *ret_certificate,
                    struct buf *ret_key, struct error *error)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t certificate, key;
    struct stat st;
    int r;

    r = read_tls_file(listen_at->certificate_path, ret_certificate, error);
    if (r < 0)
        return r;
    r = read_tls_file(listen_at->key_path, ret_key, error);
    if (r < 0)
        return r;
    if (stat(listen_at->key_path, &st) == 0 && (st.st_mode & 077) != 0)
        log_warning("tls-key-readable",
                    "the TLS key %s has mode %04o: others can read it; chmod it to 0600",
                    listen_at->key_path, (unsigned)(st.st_mode & 07777));
    certificate =
        (gnutls_datum_t){(unsigned char *)ret_certificate->data, (unsigned)ret_certificate->len};
    key = (gnutls_datum_t){(unsigned char *)ret_key->data, (unsigned)ret_key->len};
    r = gnutls_certificate_allocate_credentials(&credentials);
    if (r < 0)
        return error_set(error, -ENOMEM, "cannot prepare TLS: %s", gnutls_strerror(r));
    r = gnutls_certificate_set_x509_key_mem(credentials, &certificate, &key, GNUTLS_X509_FMT_PEM);
    gnutls_certificate_free_credentials(credentials);
    if (r < 0)
        return error_set(error, -EINVAL,
                         "the TLS certificate %s and key %s cannot be used: %s; both must be PEM "
                         "and belong together (maeslant init makes such a pair)",
                         listen_at->certificate_path, listen_at->key_path, gnutls_strerror(r));
    return 0;
}
