// What writing to a terminal takes.
#pragma once

#include <string_view>

namespace deeplora {

/// Whether lines there can be drawn anew: a terminal, and TERM does not say that it is a dumb one.
bool is_terminal(int descriptor);

/// Columns of the terminal; 80 when it does not say.
int terminal_width(int descriptor);

/// Writes all of `text`; false when nobody can read it. A broken pipe does not end the program: SIGPIPE is held back in
/// this thread, and taken from the queue if this write raised it.
bool write_quietly(int descriptor, std::string_view text);

}  // namespace deeplora
