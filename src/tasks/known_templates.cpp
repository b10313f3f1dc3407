#include "tasks/known_templates.h"

namespace deeplora {
namespace {

/// text(message): its content, with list parts joined; nothing for a message without one.
const std::string kText =
    "{%- macro text(message) -%}{%- set content = message.content -%}{%- if content is string -%}{{ content }}{%- elif "
    "content is iterable -%}"
    "{%- for part in content -%}{%- if part is string -%}{{ part }}{%- elif part.text is string -%}{{ part.text }}{%- "
    "else -%}"
    "{{ raise_exception('the content holds a part that is no text') }}{%- endif -%}{%- endfor -%}{%- endif -%}{%- "
    "endmacro -%}";

/// user and assistant take turns in `turns`, beginning with user.
const std::string kTurns =
    "{%- for message in turns -%}{%- if message.role not in ['user', 'assistant'] -%}{{ raise_exception(\"role '\" ~ "
    "message.role ~ \"' at place \" ~ "
    "(loop.index + offset) ~ \"; expected user or assistant\") }}{%- elif (message.role == 'user') != (loop.index0 % 2 "
    "== 0) -%}"
    "{{ raise_exception('user and assistant must take turns, beginning with user; place ' ~ (loop.index + offset) ~ ' "
    "is ' ~ message.role) }}"
    "{%- endif -%}{%- endfor -%}";

const std::string kSystemFirst =
    "{%- set offset = 1 if messages and messages[0].role == 'system' else 0 -%}{%- set turns = messages[offset:] -%}";
const std::string kNoSystem =
    "{%- set offset = 0 -%}{%- set turns = messages -%}{%- if messages and messages[0].role == 'system' -%}"
    "{{ raise_exception('this chat template has no system message; put its text into the first user message') }}{%- "
    "endif -%}";

std::string chatml() {
  return kText +
         "{%- for message in messages -%}{{ '<|im_start|>' ~ message.role ~ '\\n' }}{%- if message.role == 'assistant' "
         "-%}"
         "{%- generation -%}{{ text(message) ~ '<|im_end|>' }}{%- endgeneration -%}{%- else -%}{{ text(message) ~ "
         "'<|im_end|>' }}{%- endif -%}"
         "{{ '\\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";
}

/// `before`: what stands between the first token and the turns.
std::string llama3(const std::string& before) {
  return kText + "{{ bos_token }}" + before +
         "{%- for message in turns -%}{{ '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' }}{%- if "
         "message.role == 'assistant' -%}"
         "{%- generation -%}{{ text(message)|trim ~ '<|eot_id|>' }}{%- endgeneration -%}{%- else -%}{{ "
         "text(message)|trim ~ '<|eot_id|>' }}{%- endif -%}"
         "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- "
         "endif -%}";
}

std::string llama31() {
  return llama3(kSystemFirst +
                "{{ '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\nToday "
                "Date: 26 Jul 2024\\n\\n' }}"
                "{%- if offset -%}{{ text(messages[0])|trim }}{%- endif -%}{{ '<|eot_id|>' }}");
}

std::string llama2() {
  return kText + kSystemFirst + kTurns +
         "{%- for message in turns -%}{%- if message.role == 'user' -%}{%- set content = text(message) -%}{%- if "
         "loop.first and offset -%}"
         "{%- set content = '<<SYS>>\\n' ~ text(messages[0]) ~ '\\n<</SYS>>\\n\\n' ~ content -%}{%- endif -%}"
         "{{ bos_token ~ '[INST] ' ~ content.strip() ~ ' [/INST]' }}{%- else -%}{%- generation -%}{{ ' ' ~ "
         "text(message).strip() ~ ' ' ~ eos_token }}"
         "{%- endgeneration -%}{%- endif -%}{%- endfor -%}";
}

std::string mistral() {
  return kText + kNoSystem + kTurns +
         "{{ bos_token }}{%- for message in turns -%}{%- if message.role == 'user' -%}{{ '[INST] ' ~ text(message) ~ ' "
         "[/INST]' }}{%- else -%}"
         "{%- generation -%}{{ text(message) ~ eos_token }}{%- endgeneration -%}{%- endif -%}{%- endfor -%}";
}

std::string gemma(const std::string& system) {
  return kText + system + kTurns +
         "{{ bos_token }}{%- for message in turns -%}{%- if message.role == 'user' -%}{{ '<start_of_turn>user\\n' }}"
         "{%- if loop.first and offset -%}{{ text(messages[0]) ~ '\\n\\n' }}{%- endif -%}{{ text(message)|trim ~ "
         "'<end_of_turn>\\n' }}{%- else -%}"
         "{{ '<start_of_turn>model\\n' }}{%- generation -%}{{ text(message)|trim ~ '<end_of_turn>' }}{%- endgeneration "
         "-%}{{ '\\n' }}{%- endif -%}"
         "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}";
}

/// Roles as marks of their own: <|user|>, ...; `end` closes a message, `close` a conversation that is not left open.
std::string marked_roles(const std::string& end, const std::string& close) {
  return kText +
         "{%- for message in messages -%}{%- if message.role not in ['system', 'user', 'assistant'] -%}"
         "{{ raise_exception(\"role '\" ~ message.role ~ \"' at place \" ~ loop.index ~ \"; expected system, user or "
         "assistant\") }}{%- endif -%}"
         "{{ '<|' ~ message.role ~ '|>\\n' }}{%- if message.role == 'assistant' -%}{%- generation -%}{{ text(message) "
         "~ " +
         end + " }}{%- endgeneration -%}{%- else -%}{{ text(message) ~ " + end +
         " }}{%- endif -%}{{ '\\n' }}{%- endfor -%}"
         "{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- else -%}{{ " +
         close + " }}{%- endif -%}";
}

}  // namespace

const std::vector<std::pair<std::string, std::string>>& known_templates() {
  static const std::vector<std::pair<std::string, std::string>> templates{
      {"chatml", chatml()},
      {"gemma", gemma(kNoSystem)},
      {"gemma3", gemma(kSystemFirst)},
      {"llama2", llama2()},
      {"llama3", llama3("{%- set turns = messages -%}")},
      {"llama3.1", llama31()},
      {"mistral", mistral()},
      {"phi3", marked_roles("'<|end|>'", "eos_token")},
      {"zephyr", marked_roles("eos_token", "''")}};
  return templates;
}

}  // namespace deeplora
