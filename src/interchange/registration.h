// The forms that a run can be exported to.
#pragma once

#include "interchange/export_form.h"

namespace deeplora {

/// Every form by its name, one line each.
ExportForms make_export_forms();

}  // namespace deeplora
