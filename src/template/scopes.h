// Where every variable of a template lives, worked out before it runs.
#pragma once

#include "template/syntax.h"

namespace deeplora::jinja {

/// Fills in slots and scopes by Jinja's own rules: a scope copies outer variables that it assigns to when it is
/// entered, a macro sees those of the scope around it as they are when it is called, and a name that is assigned before
/// it is read hides the variable given to the template. Throws Error with line and column for unknown filters and
/// tests, break outside of loops, blocks defined twice.
void resolve_scopes(SyntaxTree& tree);

}  // namespace deeplora::jinja
