#include "interchange/registration.h"

namespace deeplora {

ExportForms make_export_forms() {
  ExportForms forms("export form");
  forms.add("torchscript", torchscript_form());
  forms.add("pt2", pt2_form());
  forms.add("safetensors", safetensors_form());
  forms.add("peft", peft_form());
  forms.add("sentence-transformers", sentence_transformers_form());
  forms.add("gguf", gguf_form());
  return forms;
}

}  // namespace deeplora
