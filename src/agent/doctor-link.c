#include "agent/doctor.h"
#include "agent/link.h"
#include "agent/slot.h"
#include "base/buf.h"
#include "base/file.h"

#include <errno.h>
#include <string.h>

#define SHOWN_MOST 8

/* A file of a package that nothing diverts: it was, or will be, written through the link into
 * whatever slot is current. */
static void say_undiverted(struct doctor *doctor, const char *what, const struct link *link,
                           const struct owned_file *file)
{
    _cleanup_free_ char *way_out =
        xasprintf("move it out of the slot: dpkg-divert --local --rename --divert %s/%s --add %s",
                  link->inside, file->below, file->path);

    doctor_say(doctor, DOCTOR_FAIL, what, way_out,
               "link: %s of the package %s is not diverted: it came after the adoption and is "
               "written into a slot",
               file->path, file->package);
}

static void check_owned(struct doctor *doctor, const char *what, const struct link *link)
{
    struct error error = ERROR_INIT;
    struct owned owned = OWNED_INIT;
    size_t loose = 0;

    if (link_owned(link, &owned, &error) < 0) {
        doctor_say(doctor, DOCTOR_WARN, what, "ask as root", "link: %s", error.text);
        return;
    }
    for (size_t i = 0; i < owned.count; i++)
        if (!owned.files[i].diverted && loose++ < SHOWN_MOST)
            say_undiverted(doctor, what, link, &owned.files[i]);
    if (loose > SHOWN_MOST)
        doctor_say(doctor, DOCTOR_FAIL, what, "divert these, and ask again",
                   "link: %zu more files of packages are not diverted", loose - SHOWN_MOST);
    if (loose == 0)
        doctor_say(doctor, DOCTOR_OK, what, NULL,
                   "link: %s leads to the current slot; %zu file%s of packages diverted",
                   link->path, owned.count, owned.count == 1 ? "" : "s");
    owned_free(&owned);
}

/* Not taken in yet: is it going to be? */
static void check_content(struct doctor *doctor, const struct config_product *product,
                          const struct link *link)
{
    struct error error = ERROR_INIT;
    struct owned owned = OWNED_INIT;

    if (link->made) {
        doctor_say(doctor, DOCTOR_FAIL, product->name,
                   "move it away, or maeslant-agent remove the product",
                   "link: %s is a folder again, though its content was taken in before",
                   link->real);
        return;
    }
    if (link_owned(link, &owned, &error) < 0)
        doctor_say(doctor, DOCTOR_WARN, product->name, "ask as root", "link: %s", error.text);
    else if (owned.count > 0 && product->refuse_package_paths)
        doctor_say(doctor, DOCTOR_FAIL, product->name,
                   "let paths_owned_by_packages be divert, or give `link` another path",
                   "link: %s belongs to the package %s (package-owned)", owned.files[0].path,
                   owned.files[0].package);
    else
        doctor_say(doctor, DOCTOR_WARN, product->name,
                   "start the agent: it takes the content in and makes the link",
                   "link: %s is not a link of ours yet", link->path);
    owned_free(&owned);
}

void doctor_link(struct doctor *doctor, const struct config_product *product, const char *dir)
{
    struct error error = ERROR_INIT;
    struct link link;
    int r = link_look(&doctor->paths, product, dir, &link, &error);

    if (r < 0)
        doctor_say(doctor, DOCTOR_FAIL, product->name, "make its folder, or correct `link`", "%s",
                   error.text);
    else if (!link.path)
        ;
    else if (link.stands == LINK_OURS)
        check_owned(doctor, product->name, &link);
    else if (link.stands == LINK_CONTENT)
        check_content(doctor, product, &link);
    else
        doctor_say(doctor, link.stands == LINK_FOREIGN || link.made ? DOCTOR_FAIL : DOCTOR_WARN,
                   product->name,
                   link.stands == LINK_FOREIGN ? "move it away, or correct `link`"
                                               : "start the agent anew: it makes the link",
                   link.stands == LINK_FOREIGN
                       ? "link: %s is a file or a link to elsewhere: expected a folder, or nothing"
                       : "link: there is nothing at %s",
                   link.real);
    link_free(&link);
}

bool doctor_folders(struct doctor *doctor, const struct config_product *product, const char *dir,
                    const char *release)
{
    _cleanup_free_ char *slot = slot_path(dir, release);
    _cleanup_free_ char *payload = path_join(slot, "payload");
    struct owned folders = OWNED_INIT;
    struct link link;
    bool found = false;

    if (!product->link || link_look(&doctor->paths, product, dir, &link, NULL) < 0)
        return false;
    if (link.made && link_folders(&link, payload, &folders, NULL) == 0 && folders.count > 0) {
        found = true;
        doctor_say(doctor, DOCTOR_WARN, product->name,
                   "the agent takes empty ones out again with its next look at the plan; more than "
                   "that is said below",
                   "an upgrade of the package %s made its folder %s in the slot %.12s…",
                   folders.files[0].package, folders.files[0].below, release);
    }
    owned_free(&folders);
    link_free(&link);
    return found;
}
