/*
 * When a program may run in the warm interpreter: exactly when it could not tell. What could make `python3 FILE` start
 * differently now than when the modules were imported is looked at, and any doubt means a fresh interpreter.
 */
#ifndef FITS_H
#define FITS_H

#include "../process/exec.h"

/* Remembers what the interpreter has announced and how its search path looks now; false when that makes no sense. */
bool fits_learn(const char *announcement, size_t length);
void fits_forget(void);
bool fits(struct order *order);
/* Looks through the default directory ahead of time; `fits` need not look again until something in it changes. */
void fits_remember(void);
/*
 * The message that hands over a program that fits; 0 when it is longer than `max`. `there`: the interpreter is in the
 * order's working directory already.
 */
size_t fits_job(const struct order *order, bool reseed, bool there, char *out, size_t max);

#endif
