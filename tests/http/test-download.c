#include "site.h"

#include "../scratch.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/random.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE 500000

struct fixture {
    struct site *site;
    struct http_client *client;
    char *data, *source, *target;
    char digest[SHA256_HEX_SIZE];
    struct error error;
};

static int start(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    f->site = site_start(false, NULL);
    f->client = site_client(f->site, false);
    f->data = xmalloc(SIZE);
    random_bytes(f->data, SIZE);
    sha256_hex(f->data, SIZE, f->digest);
    f->source = path_join(f->site->dir, "file");
    f->target = path_join(f->site->dir, "download");
    scratch_write(f->source, f->data, SIZE, 0600);
    *state = f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;

    http_client_free(f->client);
    site_stop(f->site);
    free(f->data);
    free(f->source);
    free(f->target);
    free(f);
    return 0;
}

static int download(struct fixture *f, uint64_t size, int cancel)
{
    return http_download(f->client, "/file", f->target, size, f->digest, 0, cancel, &f->error);
}

static void assert_whole(const struct fixture *f)
{
    size_t len;
    _cleanup_free_ char *got = scratch_read(f->target, &len);

    assert_int_equal(len, SIZE);
    assert_memory_equal(got, f->data, SIZE);
}

static void a_file_is_downloaded_and_checked(void **state)
{
    struct fixture *f = *state;

    if (download(f, SIZE, -1) < 0)
        fail_msg("%s", f->error.text);
    assert_whole(f);
    /* Once it is there nobody is asked again. */
    assert_int_equal(download(f, SIZE, -1), 0);
    assert_int_equal(atomic_load(&f->site->handled), 1);
}

static void what_an_earlier_attempt_left_is_gone_on_with(void **state)
{
    struct fixture *f = *state;

    scratch_write(f->target, f->data, SIZE / 3, 0600);
    assert_int_equal(download(f, SIZE, -1), 0);
    assert_whole(f);
    /* Only the rest was asked for: what is there is taken for good until the digest is checked. */
    scratch_write(f->target, "not the beginning of it", 23, 0600);
    assert_int_equal(download(f, SIZE, -1), -EBADMSG);
    assert_int_equal(access(f->target, F_OK), -1);
    assert_int_equal(download(f, SIZE, -1), 0);
    assert_whole(f);
}

static void too_long_a_left_over_is_started_afresh(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ char *longer = xcalloc(1, SIZE + 1);

    scratch_write(f->target, longer, SIZE + 1, 0600);
    assert_int_equal(download(f, SIZE, -1), 0);
    assert_whole(f);
}

static void a_wrong_digest_removes_the_file(void **state)
{
    struct fixture *f = *state;

    f->digest[0] = f->digest[0] == '0' ? '1' : '0';
    assert_int_equal(download(f, SIZE, -1), -EBADMSG);
    assert_contains(f->error.text, f->digest);
    assert_int_equal(access(f->target, F_OK), -1);
    f->digest[0] = 'X';
    assert_int_equal(download(f, SIZE, -1), -EINVAL);
}

static void more_than_was_stated_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(download(f, SIZE - 1, -1), -EFBIG);
    assert_int_equal(access(f->target, F_OK), -1);
}

static void less_than_was_stated_is_kept_for_the_next_try(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    assert_int_equal(download(f, SIZE + 1, -1), -EIO);
    assert_int_equal(stat(f->target, &st), 0);
    assert_int_equal(st.st_size, SIZE);
}

static void a_missing_artifact_is_named(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(http_download(f->client, "/none", f->target, 1, f->digest, 0, -1, &f->error),
                     -ENOENT);
    assert_contains(f->error.text, "/none");
    assert_contains(f->error.text, "404");
}

static void a_link_in_place_of_the_target_is_not_followed(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(symlink(f->source, f->target), 0);
    assert_true(download(f, SIZE, -1) < 0);
}

static void a_download_can_be_cancelled_and_slowed(void **state)
{
    struct fixture *f = *state;
    int cancel = eventfd(1, EFD_CLOEXEC);
    double start;

    assert_int_equal(download(f, SIZE, cancel), -ECANCELED);
    (void)close(cancel);
    (void)unlink(f->target);
    start = clock_now(CLOCK_MONOTONIC);
    assert_int_equal(
        http_download(f->client, "/file", f->target, SIZE, f->digest, SIZE / 2, -1, &f->error), 0);
    assert_whole(f);
    assert_true(clock_now(CLOCK_MONOTONIC) - start > 0.8);
}

/* Passes bytes on to the site, and cuts every connection off after so many of the answer. */
struct cutter {
    int fd;
    uint16_t port, behind;
    size_t after;
    unsigned cuts;
    pthread_t thread;
};

static void pass_on(const struct cutter *cutter, int front, bool cut)
{
    int back = dial(cutter->behind);
    _cleanup_free_ char *request = read_until(front, "\r\n\r\n");
    size_t passed = 0;

    put_text(back, request);
    for (;;) {
        char chunk[10000];
        struct pollfd fds[2] = {{.fd = back, .events = POLLIN}, {.fd = front, .events = POLLIN}};
        ssize_t got;

        if (poll(fds, 2, 10000) <= 0 || fds[1].revents)
            break;
        got = recv(back, chunk, sizeof(chunk), 0);
        if (got <= 0 || send(front, chunk, (size_t)got, MSG_NOSIGNAL) != got)
            break;
        passed += (size_t)got;
        if (cut && passed >= cutter->after)
            break;
    }
    (void)close(back);
    (void)close(front);
}

static void *run_cutter(void *user)
{
    struct cutter *cutter = user;

    for (unsigned i = 0; i <= cutter->cuts; i++) {
        int front = accept(cutter->fd, NULL, NULL);

        if (front < 0)
            break;
        pass_on(cutter, front, i < cutter->cuts);
    }
    return NULL;
}

static struct http_client *start_cutter(struct cutter *cutter, const struct site *site,
                                        size_t after, unsigned cuts)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    struct http_client *client;
    struct site fake = *site;

    *cutter = (struct cutter){
        .fd = socket(AF_INET, SOCK_STREAM, 0), .behind = site->port, .after = after, .cuts = cuts};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(cutter->fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(cutter->fd, 8), 0);
    assert_int_equal(getsockname(cutter->fd, (struct sockaddr *)&address, &len), 0);
    fake.port = ntohs(address.sin_port);
    client = site_client(&fake, false);
    assert_int_equal(pthread_create(&cutter->thread, NULL, run_cutter, cutter), 0);
    return client;
}

static void a_download_that_is_cut_goes_on_where_it_stopped(void **state)
{
    struct fixture *f = *state;
    struct cutter cutter;
    struct http_client *client = start_cutter(&cutter, f->site, SIZE / 4, 3);

    if (http_download(client, "/file", f->target, SIZE, f->digest, 0, -1, &f->error) < 0)
        fail_msg("%s", f->error.text);
    assert_whole(f);
    assert_int_equal(atomic_load(&f->site->handled), 4);
    http_client_free(client);
    (void)shutdown(cutter.fd, SHUT_RDWR);
    (void)pthread_join(cutter.thread, NULL);
    (void)close(cutter.fd);
}

static void a_download_that_is_cut_too_often_goes_on_in_the_next_call(void **state)
{
    struct fixture *f = *state;
    struct cutter cutter;
    struct http_client *client = start_cutter(&cutter, f->site, 20000, 5);
    struct stat st;

    assert_int_equal(http_download(client, "/file", f->target, SIZE, f->digest, 0, -1, &f->error),
                     -EIO);
    assert_int_equal(stat(f->target, &st), 0);
    assert_true(st.st_size > 0 && st.st_size < SIZE);
    assert_int_equal(http_download(client, "/file", f->target, SIZE, f->digest, 0, -1, &f->error),
                     0);
    assert_whole(f);
    http_client_free(client);
    (void)shutdown(cutter.fd, SHUT_RDWR);
    (void)pthread_join(cutter.thread, NULL);
    (void)close(cutter.fd);
}

int main(void)
{
#define with_fixture(test) cmocka_unit_test_setup_teardown(test, start, stop)
    const struct CMUnitTest tests[] = {
        with_fixture(a_file_is_downloaded_and_checked),
        with_fixture(what_an_earlier_attempt_left_is_gone_on_with),
        with_fixture(too_long_a_left_over_is_started_afresh),
        with_fixture(a_wrong_digest_removes_the_file),
        with_fixture(more_than_was_stated_is_refused),
        with_fixture(less_than_was_stated_is_kept_for_the_next_try),
        with_fixture(a_missing_artifact_is_named),
        with_fixture(a_link_in_place_of_the_target_is_not_followed),
        with_fixture(a_download_can_be_cancelled_and_slowed),
        with_fixture(a_download_that_is_cut_goes_on_where_it_stopped),
        with_fixture(a_download_that_is_cut_too_often_goes_on_in_the_next_call),
    };

    return cmocka_run_group_tests_name("http download", tests, NULL, NULL);
}
