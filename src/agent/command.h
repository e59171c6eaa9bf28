/* The commands of the person at the machine (rule 17), one file each. argv[0] is the command's
 * name; they return the program's exit status: 0, 1 (refused or something fails), 2 (usage). Must
 * never change anything but what the command names. */
#pragma once

int command_status(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_remove(int argc, char **argv);
int command_snooze(int argc, char **argv);
int command_support_bundle(int argc, char **argv);

int command_enroll(int argc, char **argv);
int command_run(int argc, char **argv);
