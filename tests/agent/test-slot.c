#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../scratch.h"
#include "agent/slot.h"
#include "base/encode.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char text[] = "maeslant: 1\nproduct: tiny\n";

struct world {
    char *dir, *content;
    struct manifest manifest; /* only the name counts here */
};

static void make(struct world *world, char *dir)
{
    _cleanup_free_ char *data = NULL;

    world->dir = path_join(dir, "product");
    world->content = path_join(dir, "content");
    data = path_join(world->content, "data");
    assert_int_equal(dir_make(AT_FDCWD, world->content, 0755, NULL), 0);
    scratch_write(data, "one\n", 4, 0644);
    world->manifest = (struct manifest){0};
    sha256_hex(text, strlen(text), world->manifest.release);
    assert_int_equal(slots_open(world->dir, NULL), 0);
}

static void cleanup_world(struct world *world)
{
    free(world->dir);
    free(world->content);
}
#define _cleanup_world_ __attribute__((cleanup(cleanup_world)))

static int adopt(struct world *world, struct error *error)
{
    return slot_adopt(world->dir, &world->manifest, text, strlen(text), world->content, error);
}

static void a_slot_is_whole_until_a_byte_of_it_changes(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_world_ struct world world = {0};
    const char *const parts[] = {"payload/data", "manifest.yaml", "digest"};

    make(&world, dir);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        _cleanup_free_ char *slot = slot_path(world.dir, world.manifest.release);
        _cleanup_free_ char *part = path_join(slot, parts[i]);

        assert_int_equal(adopt(&world, NULL), 0);
        assert_int_equal(slot_verify(world.dir, world.manifest.release, NULL), 0);
        scratch_write(part, "other\n", 6, 0644);
        assert_true(slot_verify(world.dir, world.manifest.release, NULL) < 0);
    }
    /* A damaged slot is made anew. */
    assert_int_equal(adopt(&world, NULL), 0);
    assert_int_equal(slot_verify(world.dir, world.manifest.release, NULL), 0);
}

static int fail_after;

static int fault(const char *call, const char *path)
{
    return fail_after-- == 0 ? -ENOSPC : 0;
}

static void staging_that_fails_at_any_call_leaves_no_slot_or_a_whole_one(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_world_ struct world world = {0};

    make(&world, dir);
    for (int i = 0;; i++) {
        int r;

        fail_after = i;
        file_set_fault(fault);
        r = adopt(&world, NULL);
        file_set_fault(NULL);
        if (slot_exists(world.dir, world.manifest.release))
            assert_int_equal(slot_verify(world.dir, world.manifest.release, NULL), 0);
        else
            assert_true(r < 0);
        if (r == 0)
            break;
        assert_true(i < 1000);
    }
}

static void current_never_points_at_a_slot_that_is_not_there(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_world_ struct world world = {0};
    char found[65];

    make(&world, dir);
    assert_int_equal(slot_set_link(world.dir, "current", world.manifest.release, NULL), -ENOENT);
    assert_int_equal(slot_link(world.dir, "current", found, NULL), 0);
    assert_string_equal(found, "");
    assert_int_equal(adopt(&world, NULL), 0);
    assert_int_equal(slot_set_link(world.dir, "current", world.manifest.release, NULL), 0);
    assert_int_equal(slot_link(world.dir, "current", found, NULL), 0);
    assert_string_equal(found, world.manifest.release);
}

static void a_link_that_leads_elsewhere_is_no_release(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_world_ struct world world = {0};
    _cleanup_free_ char *link = NULL;
    char found[65];

    make(&world, dir);
    link = path_join(world.dir, "current");
    assert_int_equal(symlink("/etc", link), 0);
    assert_int_equal(slot_link(world.dir, "current", found, NULL), -EBADMSG);
    assert_string_equal(found, "");
}

static void content_with_links_or_devices_is_not_adopted(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_world_ struct world world = {0};
    _cleanup_free_ char *bad = NULL;
    struct error error = ERROR_INIT;

    make(&world, dir);
    bad = path_join(world.content, "bad");
    assert_int_equal(symlink("/etc/passwd", bad), 0);
    assert_true(adopt(&world, &error) < 0);
    assert_false(slot_exists(world.dir, world.manifest.release));
    assert_int_equal(unlink(bad), 0);
    assert_int_equal(mkfifo(bad, 0600), 0);
    assert_true(adopt(&world, &error) < 0);
    assert_non_null(strstr(error.text, "bad"));
}

static void what_a_cut_left_is_gone_and_what_is_named_is_kept(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_world_ struct world world = {0};
    _cleanup_free_ char *left = NULL;

    make(&world, dir);
    left = path_join(world.dir, "slots/.tmp-x/payload");
    assert_int_equal(dir_make(AT_FDCWD, left, 0755, NULL), 0);
    assert_int_equal(adopt(&world, NULL), 0);
    assert_int_equal(slots_open(world.dir, NULL), 0);
    assert_true(access(left, F_OK) < 0);
    slots_collect(world.dir, (const char *const[]){"", world.manifest.release, NULL});
    assert_true(slot_exists(world.dir, world.manifest.release));
    slots_collect(world.dir, (const char *const[]){"", NULL});
    assert_false(slot_exists(world.dir, world.manifest.release));
}

static void how_a_slot_was_confirmed_reads_back(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_world_ struct world world = {0};
    struct slot_mark mark = {.at = 5}, found;

    make(&world, dir);
    assert_int_equal(adopt(&world, NULL), 0);
    assert_int_equal(slot_mark_read(world.dir, world.manifest.release, &found), -ENOENT);
    memset(mark.from, 'a', 64);
    memset(mark.permit, 'b', 32);
    assert_int_equal(slot_mark_write(world.dir, world.manifest.release, &mark, NULL), 0);
    assert_int_equal(slot_mark_read(world.dir, world.manifest.release, &found), 0);
    assert_string_equal(found.from, mark.from);
    assert_string_equal(found.permit, mark.permit);
    assert_int_equal(found.at, 5);
    assert_int_equal(slot_verify(world.dir, world.manifest.release, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_is_whole_until_a_byte_of_it_changes),
        cmocka_unit_test(staging_that_fails_at_any_call_leaves_no_slot_or_a_whole_one),
        cmocka_unit_test(current_never_points_at_a_slot_that_is_not_there),
        cmocka_unit_test(a_link_that_leads_elsewhere_is_no_release),
        cmocka_unit_test(content_with_links_or_devices_is_not_adopted),
        cmocka_unit_test(what_a_cut_left_is_gone_and_what_is_named_is_kept),
        cmocka_unit_test(how_a_slot_was_confirmed_reads_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
