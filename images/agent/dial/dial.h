/* Connections to ports that programs of this guest listen on, for the host: one channel each. */
#ifndef DIAL_H
#define DIAL_H

#include "../agent.h"

void handle_dial(struct port *port, const struct frame *frame, const struct fields *fields);

#endif
