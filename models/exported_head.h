// Native models under the head that our own export put on an archive.
#pragma once

#include "lm/language_model.h"

namespace deeplora {

/// The family for archives with such a head too: its model of the archive's base, pooled and multiplied with the head,
/// whose weight is a site of role "head".
ModelFamily with_exported_head(const ModelFamily& family);

}  // namespace deeplora
