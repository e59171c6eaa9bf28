#include "agent/check.h"
#include "agent/doctor.h"
#include "agent/journal.h"
#include "agent/prober.h"
#include "agent/slot.h"
#include "base/buf.h"
#include "base/encode.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char to_root[] = "ask as root";

static void check_journal(struct doctor *doctor, const char *what, const char *dir)
{
    _cleanup_free_ char *path = path_join(dir, "journal");
    struct error error = ERROR_INIT;
    struct journal journal;
    int r = journal_load(path, &journal, &error);

    if (r == 0)
        doctor_say(doctor, DOCTOR_OK, what, NULL, "journal: %s", trial_state_name(journal.state));
    else if (r == -ENOENT)
        doctor_say(doctor, DOCTOR_OK, what, NULL, "journal: none yet");
    else if (r == -EACCES)
        doctor_say(doctor, DOCTOR_WARN, what, to_root, "%s", error.text);
    else
        doctor_say(
            doctor, DOCTOR_FAIL, what,
            "restart the agent: it keeps the record as journal.damaged and goes by the links", "%s",
            error.text);
}

/* Every whole name in slots/, also those that no link names. */
static void check_slots(struct doctor *doctor, const struct config_product *product,
                        const char *dir, const char *current)
{
    const char *what = product->name;
    _cleanup_free_ char *path = path_join(dir, "slots");
    DIR *slots = opendir(path);
    struct dirent *entry;
    unsigned whole = 0;

    if (!slots) {
        if (errno != ENOENT)
            doctor_say(doctor, DOCTOR_WARN, what, to_root, "%s: cannot look into it: %s", path,
                       strerrordesc_np(errno));
        return;
    }
    while ((entry = readdir(slots))) {
        struct error error = ERROR_INIT;

        if (!is_digest(entry->d_name))
            continue;
        if (slot_verify(dir, entry->d_name, &error) == 0) {
            whole++;
            continue;
        }
        if (doctor_folders(doctor, product, dir, entry->d_name))
            continue;
        if (strcmp(entry->d_name, current) == 0)
            doctor_say(doctor, DOCTOR_FAIL, what,
                       "somebody changed what runs: publish a release that repairs it, or restore "
                       "the folder from a backup",
                       "the running slot is not as it was staged: %s", error.text);
        else
            doctor_say(doctor, DOCTOR_FAIL, what,
                       "remove the slot's folder: it is staged anew when it is needed",
                       "a slot is not as it was staged: %s", error.text);
    }
    (void)closedir(slots);
    doctor_say(doctor, DOCTOR_OK, what, NULL, "%u whole slot%s", whole, whole == 1 ? "" : "s");
}

static const char *program_fault(const char *program)
{
    struct stat st;

    if (*program != '/')
        return NULL; /* looked up in the system's folders, which a probe's run tells */
    if (stat(program, &st) < 0)
        return strerrordesc_np(errno);
    if (!S_ISREG(st.st_mode))
        return "it is no file";
    return access(program, X_OK) < 0 ? strerrordesc_np(errno) : NULL;
}

static bool check_program(struct doctor *doctor, const char *what, const char *role,
                          char *const *command, const struct check_vars *vars)
{
    struct error error = ERROR_INIT;
    _cleanup_free_ char *program = NULL;
    const char *fault;

    if (!command)
        return true;
    if (substitute(command[0], vars->pairs, vars->count, &program, &error) < 0) {
        doctor_say(doctor, DOCTOR_FAIL, what, "give the variable under vars in agent.yaml",
                   "%s: %s", role, error.text);
        return false;
    }
    fault = program_fault(program);
    if (fault)
        doctor_say(doctor, DOCTOR_FAIL, what, "install the product, or make the file executable",
                   "%s: %s cannot be run: %s", role, program, fault);
    return !fault;
}

static bool check_programs(struct doctor *doctor, const char *what, const struct manifest *manifest,
                           const struct check_vars *vars)
{
    bool well = check_program(doctor, what, "adapter.activate", manifest->activate, vars);

    well = check_program(doctor, what, "adapter.deactivate", manifest->deactivate, vars) && well;
    well = check_program(doctor, what, "active", manifest->active.command, vars) && well;
    for (size_t i = 0; i < manifest->probe_count; i++) {
        _cleanup_free_ char *role = xasprintf("probe %s", manifest->probes[i].name);

        well = check_program(doctor, what, role, manifest->probes[i].command, vars) && well;
    }
    if (well)
        doctor_say(doctor, DOCTOR_OK, what, NULL, "adapter: its programs can be run");
    return well;
}

static void check_probes(struct doctor *doctor, const char *what, const struct manifest *manifest,
                         const struct check_vars *vars)
{
    struct error error = ERROR_INIT;
    char running[65];

    if (check_active(&manifest->active, vars, -1, running, &error) < 0)
        doctor_say(doctor, DOCTOR_FAIL, what, "start the product, and ask again", "%s", error.text);
    else if (strcmp(running, manifest->release) != 0)
        doctor_say(doctor, DOCTOR_FAIL, what,
                   "somebody loaded other content: let the product load `current` again",
                   "the product runs %.12s…, `current` is %.12s…", running, manifest->release);
    else
        doctor_say(doctor, DOCTOR_OK, what, NULL, "active: the product runs %.12s…", running);
    for (size_t i = 0; i < manifest->probe_count; i++) {
        const struct manifest one = {.probes = &manifest->probes[i], .probe_count = 1};

        error = (struct error)ERROR_INIT;
        if (probes_pass(&one, vars, -1, &error) == 0)
            doctor_say(doctor, DOCTOR_OK, what, NULL, "probe %s passes", one.probes[0].name);
        else
            doctor_say(doctor, DOCTOR_FAIL, what,
                       "no trial begins while what runs is sick (unhealthy-before): see the "
                       "product's own log",
                       "%s", error.text);
    }
}

void doctor_product(struct doctor *doctor, const struct config_product *product)
{
    _cleanup_free_ char *dir = path_join(doctor->paths.state, product->name);
    struct error error = ERROR_INIT;
    struct manifest manifest = {0};
    struct check_vars vars;
    char current[65], previous[65];
    int r = slot_link(dir, "current", current, &error);

    if (r < 0) {
        doctor_say(doctor, r == -EACCES ? DOCTOR_WARN : DOCTOR_FAIL, product->name,
                   r == -EACCES ? to_root : "restart the agent: it sets the links right", "%s",
                   error.text);
        return;
    }
    check_journal(doctor, product->name, dir);
    check_slots(doctor, product, dir, current);
    doctor_link(doctor, product, dir);
    if (slot_link(dir, "previous", previous, &error) < 0)
        doctor_say(doctor, DOCTOR_FAIL, product->name, "restart the agent: it sets the links right",
                   "%s", error.text);
    if (!*current) {
        doctor_say(doctor, DOCTOR_WARN, product->name,
                   "`adopt` in agent.yaml takes in what is installed, as the first way back",
                   "no release of ours runs yet");
        return;
    }
    r = slot_manifest(dir, current, &manifest, &error);
    if (r < 0) {
        doctor_say(doctor, DOCTOR_FAIL, product->name,
                   "restart the agent: it goes by the slot that is whole", "%s", error.text);
        return;
    }
    check_vars_make(dir, current, product->name, product->vars, product->var_count,
                    doctor->config.probe_hosts, &vars);
    if (check_programs(doctor, product->name, &manifest, &vars))
        check_probes(doctor, product->name, &manifest, &vars);
    check_vars_free(&vars);
    manifest_free(&manifest);
}
