#!/usr/bin/env python3
"""Writes tests/golden/chat_templates.json: conversations rendered by transformers' apply_chat_template with templates of published shapes."""
from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import _compile_jinja_template, _render_with_assistant_indices

OUTPUT = Path(__file__).resolve().parents[1] / "chat_templates.json"
ALTERNATE = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
             "user/assistant/user/assistant/...') }}{% endif %}")
CHATML = ("{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
DEFAULT_SYSTEM = "{%% if loop.first and messages[0]['role'] != 'system' %%}{{ '<|im_start|>system\n%s<|im_end|>\n' }}{%% endif %%}"
# model -> (form, template); the texts of the models' tokenizer_config.json, Llama 3.1 without tools, Gemma 3 without images
TEMPLATES = {
    "ChatML": ("chatml", "{% for message in messages %}" + CHATML),
    "Qwen2": ("chatml", "{% for message in messages %}" + DEFAULT_SYSTEM % "You are a helpful assistant." + CHATML),
    "SmolLM2": ("chatml", "{% for message in messages %}"
                + DEFAULT_SYSTEM % "You are a helpful AI assistant named SmolLM, trained by Hugging Face" + CHATML),
    "Llama 2": ("llama2", "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
                "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
                "{% for message in loop_messages %}" + ALTERNATE + "{% if loop.index0 == 0 and system_message != false %}{% set content = "
                "'<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}"
                "{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
                "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"),
    "Llama 3": ("llama3", "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
                "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
                "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
                "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"),
    "Llama 3.1": ("llama3.1", "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- set date_string = \"26 Jul 2024\" %}\n{%- endif %}\n"
                  "{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content']|trim %}\n"
                  "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = \"\" %}\n{%- endif %}\n"
                  "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{{- \"Cutting Knowledge Date: December 2023\\n\" }}\n"
                  "{{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n{{- system_message }}\n{{- \"<|eot_id|>\" }}\n{%- for message in messages %}\n"
                  "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}\n"
                  "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"),
    "Mistral 7B Instruct v0.2": ("mistral", "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}"
                                 "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
                                 "{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
                                 "{% endif %}{% endfor %}"),
    "Gemma": ("gemma", "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
              "{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}"
              "{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
              "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"),
    "Gemma 3": ("gemma3", "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first_user_prefix = messages[0]['content'] + '\n\n' %}"
                "{% set loop_messages = messages[1:] %}{% else %}{% set first_user_prefix = \"\" %}{% set loop_messages = messages %}{% endif %}"
                "{% for message in loop_messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = \"model\" %}{% else %}"
                "{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else \"\") }}"
                "{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"),
    "Phi-3": ("phi3", "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
              "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
              "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}"
              "{% else %}{{ eos_token }}{% endif %}"),
    "Zephyr": ("zephyr", "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
               "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
               "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n"
               "{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"),
}
LOOP, OPEN = "{% for m in messages %}", "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
IM = "{{ '<|im_start|>' + m.role + '\\n' + m.content%s + '<|im_end|>%s' }}{%% endfor %%}"


def llama3(before="{{- bos_token }}\n", content="m['content'] | trim", after=""):
    return (before + "{%- for m in messages %}\n{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + " + content +
            " + '<|eot_id|>' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}" + after)


def tools_in_xml(think):
    """The shape of Qwen 2.5 and 3: tools as JSON lines, calls and answers of tools in XML marks, thinking of older turns left out."""
    thinking = """
        {%- set content = m.content if m.content is string else '' %}
        {%- set thought = '' %}
        {%- if m.reasoning_content is string %}{%- set thought = m.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query and (loop.last or thought) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}{{- '<|im_start|>assistant\\n' + content }}{%- endif %}""" if think else """
        {{- '<|im_start|>assistant' }}{%- if m.content %}{{- '\\n' + m.content }}{%- endif %}"""
    return """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools\\n\\nFunctions within <tools></tools>:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last_query=messages|length - 1) %}
{%- for m in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and m.role == 'user' and m.content is string and not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}
    {%- elif m.role == 'assistant' %}""" + thinking + """
        {%- for call in m.tool_calls or [] %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- call.name }}
            {{- '", "arguments": ' }}
            {%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif m.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""


def llama_with_tools(date):
    """The shape of Llama 3.1 and 3.2: the date and an environment in the system text, tools in the first message of the user."""
    return """{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not tools_in_user_message is defined %}{%- set tools_in_user_message = true %}{%- endif %}
{%- if not date_string is defined %}
    """ + date + """
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}{%- set system_message = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}{{- raise_exception("Cannot put tools in the first user message when there's no first user message!") }}{%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("This model only supports single tool-calls at once!") }}{%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}{%- else %}{{- message.content }}{%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""


def mistral(user, tools, strip="m['content']"):
    """Mistral's instruction tokens; v3 shows tools before the last message of the user."""
    shown = ("""{%- if tools is not none and (m == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS]""" + tools + """[" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}{%- else %}{{- '"' + key + '": ' + val|tojson }}{%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}""" if tools is not None else "")
    return """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for m in loop_messages %}
    {%- if not (m.role == "tool" or m.role == "tool_results" or (m.tool_calls is defined and m.tool_calls is not none)) %}
        {%- if (m["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for m in loop_messages %}
    {%- if m["role"] == "user" %}
        """ + shown + """
        {%- if loop.last and system_message is defined %}
            {{- """ + user % "system_message + \"\\n\\n\" + m['content']" + """ }}
        {%- else %}
            {{- """ + user % "m['content']" + """ }}
        {%- endif %}
    {%- elif m.tool_calls is defined and m.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for call in m.tool_calls %}
            {%- set out = call.function|tojson %}
            {{- out[:-1] }}
            {%- if not call.id is defined or call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif m["role"] == "assistant" %}
        {{- " " + """ + strip + """|trim + eos_token}}
    {%- elif m["role"] == "tool_results" or m["role"] == "tool" %}
        {%- if m.content is defined and m.content.content is defined %}{%- set content = m.content.content %}{%- else %}{%- set content = m.content %}{%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""


PARTS = """{%- macro parts(content) -%}
    {%- if content is string -%}{{ content | trim }}
    {%- elif content is iterable -%}
        {%- for item in content -%}
            {%- if item['type'] == 'image' -%}{{ '<image>' }}{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- else -%}{{ raise_exception("Invalid content type") }}{%- endif -%}
{%- endmacro -%}
"""
COMMAND = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = 'You are Command.' %}{% endif %}{% if system_message != false %}{{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' + system_message + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% for message in loop_messages %}""" + ALTERNATE + """{% set content = message['content'] %}{% if message['role'] == 'user' %}{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% elif message['role'] == 'assistant' %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>'  + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"""
DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<|User|>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is none or not message.content is defined %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls']%}{%- if not ns.is_first %}{{'<|Assistant|><|calls|>' + tool['type'] + '<|sep|>' + tool['function']['name'] + '\\n' + '```json' + '\\n' + tool['function']['arguments']|string + '\\n' + '```'}}{%- set ns.is_first = true -%}{%- else %}{{'\\n' + tool['type']}}{%- endif %}{%- endfor %}{{'<|end|>'}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is string %}{%- if ns.is_tool %}{{'<|outputs_end|>' + message['content'] + eos_token}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<|Assistant|>' + content + eos_token}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{'<|outputs|><|output|>' + message['content'] + '<|output_end|>'}}{%- set ns.is_output_first = false %}{%- else %}{{'\\n<|output|>' + message['content']}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<|outputs_end|>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<|Assistant|>%s'}}{% endif %}"""
GRANITE = """{%- if tools %}
    {{- '<|start_of_role|>available_tools<|end_of_role|>\n' }}
    {%- for tool in tools %}
    {{- tool | tojson(indent=4) }}
    {%- if not loop.last %}
        {{- '\n\n' }}
    {%- endif %}
    {%- endfor %}
    {{- '<|end_of_text|>\n' }}
{%- endif %}
{%- if documents %}
    {{- '<|start_of_role|>documents<|end_of_role|>\n' }}
    {%- for document in documents %}
    {{- 'Document ' + loop.index | string + '\n' + document['text'] }}
    {%- if not loop.last %}{{- '\n\n'}}{%- endif%}
    {%- endfor %}
    {{- '<|end_of_text|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'assistant_tool_call' or message.tool_calls %}
    {{- '<|start_of_role|>assistant<|end_of_role|><|tool_call|>' + (message.tool_calls | map(attribute='function') | list | tojson) + '<|end_of_text|>\n' }}
    {%- elif message['role'] == 'tool' %}
    {{- '<|start_of_role|>tool_response<|end_of_role|>' + message['content'] + '<|end_of_text|>\n' }}
    {%- else %}
    {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\n' }}
    {%- endif %}
    {%- if loop.last and add_generation_prompt %}
    {{- '<|start_of_role|>assistant<|end_of_role|>' }}
    {%- endif %}
{%- endfor %}"""
SMOLLM3 = """{# ───── defaults ───── #}
{%- if enable_thinking is not defined -%}
{%- set enable_thinking = true -%}
{%- endif -%}
{%- set reasoning_mode = "/think" if enable_thinking else "/no_think" -%}
{%- if messages[0].role == "system" -%}
  {%- set system_message = messages[0].content -%}
  {%- if "/no_think" in system_message -%}
    {%- set reasoning_mode = "/no_think" -%}
  {%- endif -%}
  {%- set custom_instructions = system_message.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- endif -%}
{{- "<|im_start|>system\n" -}}
{{- "## Metadata\n\nReasoning Mode: " + reasoning_mode + "\n\n" -}}
{%- if custom_instructions -%}
{{- "## Custom Instructions\n\n" + custom_instructions + "\n\n" -}}
{%- endif -%}
{%- if xml_tools or tools -%}
  {%- set ns = namespace(xml_tool_string="Functions within <tools></tools>:\n<tools>\n") -%}
  {%- for tool in (xml_tools or tools) -%}
    {%- set ns.xml_tool_string = ns.xml_tool_string ~ (tool | string) ~ "\n" -%}
  {%- endfor -%}
  {{- ns.xml_tool_string + "</tools>\n\n" -}}
{%- endif -%}
{{- "<|im_end|>\n" -}}
{%- for message in messages -%}
    {%- set content = message.content if message.content is string else "" -%}
    {%- if message.role == "user" -%}
        {{ "<|im_start|>" + message.role + "\n"  + content + "<|im_end|>\n" }}
    {%- elif message.role == "assistant" -%}
        {% generation %}
        {%- if reasoning_mode == "/think" -%}
            {{ "<|im_start|>assistant\n" + content.lstrip("\n") + "<|im_end|>\n" }}
        {%- else -%}
            {{ "<|im_start|>assistant\n" + "<think>\n\n</think>\n" + content.lstrip("\n") + "<|im_end|>\n" }}
        {%- endif -%}
        {% endgeneration %}
    {%- elif message.role == "tool" -%}
    {{ "<|im_start|>" + "user\n"  + content + "<|im_end|>\n" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ "<|im_start|>assistant\n" }}{%- if reasoning_mode == "/no_think" -%}{{ "<think>\n\n</think>\n" }}{%- endif -%}
{%- endif -%}"""
RECURSIVE = """{%- macro shape(spec, level=0) -%}
    {%- if spec.type == 'object' -%}{ {%- for key, value in (spec.properties or {}).items() %} {{ key }}{{ '' if key in (spec.required or []) else '?' }}: {{ shape(value, level + 1) }}{{ ',' if not loop.last }}{%- endfor %} }
    {%- elif spec.type == 'array' -%}{{ shape(spec['items'], level) }}[]
    {%- elif spec.enum is defined -%}{{ spec.enum | map('tojson') | join(' | ') }}
    {%- else -%}{{ spec.type | default('any', true) }}{%- endif -%}
{%- endmacro -%}
{%- for tool in tools or [] %}
type {{ tool.function.name }} = (_: {{ shape(tool.function.parameters) }}) => any; // {{ tool.function.description | default('') | upper }}
{% endfor %}
{% for m in messages if m.role != 'system' -%}
<{{ loop.index }}/{{ loop.length }} {{ m.role | capitalize }}{{ loop.cycle('', '*') }}>{{ m.content | default('-', true) }}{{ loop.changed(m.role) }}
{% else %}nothing{% endfor %}"""
# name -> template, written for this test in the shapes of published ones
MORE = {
    "ChatML, BOS in front": "{{ bos_token }}" + LOOP + IM % ("", "\\n") + OPEN,
    "ChatML, BOS with the first message": LOOP + "{% if loop.first %}{{ bos_token }}{% endif %}" + IM % ("", "\\n") + OPEN,
    "ChatML, trimmed": LOOP + IM % (" | trim", "\\n") + OPEN,
    "ChatML, no line break": LOOP + IM % ("", "") + OPEN,
    "ChatML, EOS at the end": LOOP + IM % ("", "\\n") + OPEN + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
    "ChatML, another default": "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}" + LOOP + IM % ("", "\\n") + OPEN,
    "ChatML, lines and indentation": "{%- for m in messages %}\n    {{- '<|im_start|>' + m.role }}\n    {{- '\\n' ~ m.content }}\n    {{- '<|im_end|>\\n' }}\n{%- endfor %}\n{% if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{% endif %}\n",
    "ChatML, blocks on lines": "{% for m in messages %}\n  {% if m.role == 'user' %}\nU: {{ m.content }}\n  {% else %}\n{{ m.role|upper }}: {{ m.content }}{{ eos_token }}\n  {% endif %}\n{% endfor %}\n\n",
    "ChatML, generation": LOOP + "{{ '<|im_start|>' ~ m.role ~ '\\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content ~ '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content ~ '<|im_end|>' }}{% endif %}\n{% endfor %}" + OPEN,
    "ChatML, generation across lines": "{% for m in messages %}\n{% if m.role == 'assistant' %}\n{% generation %}\nA: {{ m.content }}{{ eos_token }}\n{% endgeneration %}\n{% else %}\n{{ m.role }}: {{ m.content }}\n{% endif %}\n{% endfor %}",
    "ChatML, parts": LOOP + "{{ '<|im_start|>' + m.role + '\\n' }}{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% elif c['type'] == 'image' or 'image' in c %}{{ '<image>' }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}" + OPEN,
    "ChatML, printed": LOOP + "{{ '<|im_start|>' }}{{ m.role }}\n{{ m.content }}{{ '<|im_end|>' }}\n{% endfor %}" + OPEN,
    "ChatML, last message of the user": "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}" + LOOP + "{{ '<|im_start|>' + m.role + ('*' if loop.index0 == ns.last else '') + '\\n' + (m.content or '') + '<|im_end|>\\n' }}{% endfor %}" + OPEN,
    "Qwen 2.5, tools": tools_in_xml(False), "Qwen 3, thinking": tools_in_xml(True),
    "Qwen 3, with bos": "{{ bos_token }}" + tools_in_xml(True), "Hermes, tools": tools_in_xml(False).replace("# Tools", "You are a function calling AI model."),
    "Llama 2, not alternating": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content | trim + ' [/INST]' }}{% elif m.role == 'system' %}{{ '<<SYS>>\\n' + m.content + '\\n<</SYS>>\\n\\n' }}{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}",
    "Llama 3, not trimmed": llama3(content="m['content']"), "Llama 3, no BOS": llama3(before=""),
    "Llama 3, another default": llama3(before="{{- bos_token }}{%- if messages[0].role != 'system' %}{{- '<|start_header_id|>system<|end_header_id|>\\n\\nYou are kind.<|eot_id|>' }}{%- endif %}\n"),
    "Llama 3, EOS": llama3(after="{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"),
    "Llama 3.1, tools": llama_with_tools('{%- set date_string = "26 Jul 2024" %}'),
    "Llama 3.2, tools": llama_with_tools('{%- if strftime_now is defined and false %}{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}'),
    "Mistral v1": "{{ bos_token }}{% for m in messages %}" + ALTERNATE.replace("message", "m") + "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "Mistral v3": mistral('"[INST] " + %s + "[/INST]"', " "), "Mistral tekken": mistral('"[INST]" + %s + "[/INST]"', "", "m['content']"), "Mistral without tools": mistral('"[INST] " ~ (%s) ~ " [/INST]"', None),
    "Mistral small": "{%- set default = 'You are Mistral.' %}{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- if messages[0]['content'] is string %}{%- set system_message = messages[0]['content'] %}{%- else %}{%- set system_message = messages[0]['content'][0]['text'] %}{%- endif %}{%- set loop_messages = messages[1:] %}{%- else %}{%- set system_message = default %}{%- set loop_messages = messages %}{%- endif %}{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}{%- for message in loop_messages %}{%- if message['role'] == 'user' %}{%- if message['content'] is string %}{{- '[INST]' + message['content'] + '[/INST]' }}{%- else %}{{- '[INST]' }}{%- for block in message['content'] %}{%- if block['type'] == 'text' %}{{- block['text'] }}{%- elif block['type'] in ['image', 'image_url'] %}{{- '[IMG]' }}{%- else %}{{- raise_exception('Only text and image blocks are supported in message content!') }}{%- endif %}{%- endfor %}{{- '[/INST]' }}{%- endif %}{%- elif message['role'] == 'system' %}{{- '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}{%- elif message['role'] == 'assistant' %}{%- if message['content'] is string %}{{- message['content'] + eos_token }}{%- else %}{{- message['content'][0]['text'] + eos_token }}{%- endif %}{%- else %}{{- raise_exception('Only user, system and assistant roles are supported!') }}{%- endif %}{%- endfor %}",
    "Gemma 2": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
    "Gemma 3, parts": PARTS + "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n    {%- set first_user_prefix = parts(messages[0]['content']) + '\n\n' -%}\n    {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n    {%- set first_user_prefix = \"\" -%}\n    {%- set loop_messages = messages -%}\n{%- endif -%}\n{%- for message in loop_messages -%}\n    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\n        {{ raise_exception(\"Conversation roles must alternate user/assistant/user/assistant/...\") }}\n    {%- endif -%}\n    {%- if (message['role'] == 'assistant') -%}\n        {%- set role = \"model\" -%}\n    {%- else -%}\n        {%- set role = message['role'] -%}\n    {%- endif -%}\n    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else \"\") }}\n    {{- parts(message['content']) }}\n    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n    {{'<start_of_turn>model\n'}}\n{%- endif -%}\n",
    "Gemma without alternation": "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + (m.content | trim) + '<end_of_turn>\\n' }}{% endfor %}",
    "Phi 3 small": "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + '\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
    "Phi 3.5": "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
    "Phi 4": "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
    "Phi 4 mini": "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}",
    "DeepSeek": DEEPSEEK.replace("%s", ""), "DeepSeek R1": DEEPSEEK.replace("%s", "<think>\\n"),
    "DeepSeek V2": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n\\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    "Granite": GRANITE, "OLMo": "{{ eos_token }}{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "OLMo 2": "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\\n'  + message['content'] + eos_token + '\\n' }}{% else %}{{ '<|assistant|>\\n'  + message['content'] + eos_token }}{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}",
    "SmolLM3": SMOLLM3, "Command R": COMMAND, "Command R, strict": COMMAND.replace("'You are Command.'", "false"),
    "Falcon": "{% for message in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}{% if message['role'] == 'system' %}{{ 'System: ' + message['content'] | trim }}{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'].strip().replace('\\r\\n', '\\n').replace('\\n\\n', '\\n') }}{% elif message['role'] == 'assistant' %}{{ 'Falcon: ' + message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '\\n' + 'Falcon:' }}{% endif %}",
    "Yi": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}{% endif %}{% if system_message is defined %}{{ system_message }}{% endif %}{% for message in messages %}{% set content = message['content'] %}{% if message['role'] == 'user' %}{{ '<|im_start|>user\\n' + content + '<|im_end|>\\n<|im_start|>assistant\\n' }}{% elif message['role'] == 'assistant' %}{{ content + '<|im_end|>' + '\\n' }}{% endif %}{% endfor %}",
    "InternLM": "{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "Vicuna": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{%- set ns = namespace(found=false) -%}{%- for message in messages -%}{%- if message['role'] == 'system' -%}{%- set ns.found = true -%}{%- endif -%}{%- endfor -%}{{ bos_token }}{%- if not ns.found -%}{{ 'A chat.' + ' ' }}{%- endif %}{%- for message in messages %}{%- if message['role'] == 'system' %}{{ message['content'] + ' ' }}{%- else %}{%- if message['role'] == 'user' %}{{'USER: ' + message['content'] + ' '}}{%- else %}{{'ASSISTANT: ' + message['content'] + eos_token}}{%- endif %}{%- endif %}{%- endfor %}{%- if add_generation_prompt -%}{{'ASSISTANT:'}}{%- endif -%}",
    "Alpaca": "{% for m in messages %}{% if m.role == 'user' %}### Instruction:\n{{ m.content|trim -}}\n\n{% elif m.role == 'assistant' %}### Response:\n{{ m.content|trim -}}{{ eos_token }}\n{% elif m.role == 'system' %}{{ m.content|trim -}}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}",
    "Recursive schema": RECURSIVE,
    "Set blocks and filters": "{% set intro %}Today: {{ messages|length }} messages, {{ messages|map(attribute='role')|unique|join('/') }}{% endset %}{% filter upper %}{{ intro }}{% endfilter %}\n{% for m in messages %}{{ loop.revindex }}. {{ (m.content or 'none')|string|truncate(12)|indent(2) }}\n{% endfor %}",
    "Call blocks": "{% macro turn(role, mark='#') %}{{ mark * 2 }}{{ role|title }}: {{ caller() }}\n{% endmacro %}{% for m in messages %}{% call turn(m.role, mark='>' if loop.first else '=') %}{{ (m.content|string)[:20]|replace('\n', ' ') }}{% endcall %}{% endfor %}",
    "Grouped": "{% for role, group in messages|groupby('role') %}{{ role }}: {{ group|map(attribute='content', default='?')|map('string')|map('trim')|join(' | ') }}\n{% endfor %}{{ (messages|selectattr('role', 'equalto', 'user')|list|last).content|default('')|wordcount if messages|selectattr('role', 'eq', 'user')|list else 'none' }}",
    "Numbers": "{% for m in messages %}{{ '%02d %s %5.1f%%'|format(loop.index, m.role, 100 * loop.index / messages|length) }} {{ loop.index // 2 }} {{ (loop.index / 3)|round(2) }} {{ m.keys()|list }} {{ m.role in ('user', 'tool') }}\n{% endfor %}{{ [1, 2.0, none, true, {'a': ('b',)}] }} {{ {'x': 1e20, 'y': 1.5e-7} | tojson }}",
    "Raw and comments": "{# a note -#}   \n{% raw %}{{ not run }}{% endraw %}\n{%- for m in messages -%}\n  {#- inside -#}\n  [{{- m.role -}}] {{ m.content }}\n{% endfor %}",
    "Break at a tool": "{% for m in messages %}{% if m.role == 'tool' %}{% break %}{% elif m.role == 'system' %}{% continue %}{% endif %}{{ loop.index }}:{{ m.content }};{% endfor %}",
    "With and print": "{% with first = messages[0], rest = messages[1:] %}{{ first.role }}{% for m in rest %}{% with c = m.content %}{% print '|', m.role, '=', c %}{% endwith %}{% endfor %}{% endwith %}",
}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Tells the weather.", "parameters": {"type": "object", "properties": {
    "city": {"type": "string", "description": "Größe & \"name\""}, "days": {"type": "array", "items": {"type": "integer"}}, "unit": {"enum": ["C", "F"]}}, "required": ["city"]}}}]
USER, ANSWER = {"role": "user", "content": " What is 2+2?\nSay it. "}, {"role": "assistant", "content": " It is 4. \n"}
SYSTEM = {"role": "system", "content": "Be brief. "}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "id": "abcdefgh1", "function": {"name": "weather", "arguments": {"city": "Köln", "days": [1, 2]}}}]}
RESULT = {"role": "tool", "name": "weather", "tool_call_id": "abcdefgh1", "content": '{"t": 21.5}'}
SIMPLE = {
    "question": [USER], "answered": [USER, ANSWER], "two turns": [USER, ANSWER, {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}],
    "system": [SYSTEM, USER, ANSWER], "system and question": [SYSTEM, USER]}
CONVERSATIONS = {name: {"messages": messages} for name, messages in SIMPLE.items()} | {
    "two users": {"messages": [USER, {"role": "user", "content": "Ready?"}, ANSWER]},
    "assistant first": {"messages": [ANSWER, USER, {"role": "assistant", "content": "日本 <b> & 😀"}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Name a river. "}, {"type": "text", "text": "Now!"}]}, {"role": "assistant", "content": "The Loire."}]},
    "null content": {"messages": [USER, {"role": "assistant", "content": None}, USER]},
    "tools": {"messages": [SYSTEM, USER, CALL, RESULT, {"role": "assistant", "content": "21.5 degrees."}], "tools": TOOLS},
    "thinking": {"messages": [USER, {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\n4"}, {"role": "user", "content": "And 3+3?"},
                              {"role": "assistant", "reasoning_content": "Three and three.", "content": "6"}]},
    "system in the middle": {"messages": [USER, ANSWER, {"role": "system", "content": "Now rhyme."}, USER], "documents": [{"title": "A", "text": "First."}, {"title": "B", "text": "Second."}]},
}


def rendered(tokenizer, template, conversation, open_):
    """{"text", "marked"}, or {"error": true} for whatever the template raises."""
    try:
        text = tokenizer.apply_chat_template(conversation["messages"], tools=conversation.get("tools"), documents=conversation.get("documents"),
                                             chat_template=template, tokenize=False, add_generation_prompt=open_)
    except Exception:  # every exception of a template is one
        return {"error": True}
    if "endgeneration" not in template:
        return {"text": text}
    messages = [{key: value for key, value in message.items() if value is not None} for message in conversation["messages"]]
    again, places = _render_with_assistant_indices(_compile_jinja_template(template), messages, conversation.get("tools"), conversation.get("documents"),
                                                   open_, **tokenizer.special_tokens_map)
    assert again == text
    return {"text": text, "marked": [text[begin:end] for begin, end in places]}


def main() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")
    rows, errors = [], 0
    templates = {model: {"form": form, "template": template} for model, (form, template) in TEMPLATES.items()}
    templates |= {name: {"template": template} for name, template in MORE.items()}
    for name, entry in templates.items():
        for title, conversation in CONVERSATIONS.items():
            open_ = conversation["messages"][-1]["role"] == "user"
            result = rendered(tokenizer, entry["template"], conversation, open_)
            errors += "error" in result
            rows.append({"name": name, "conversation": title, "open": open_, **result})
    golden = {"made_with": {"transformers": transformers.__version__}, "templates": templates, "conversations": CONVERSATIONS, "rows": rows}
    OUTPUT.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n", "utf-8")
    print(f"{len(templates)} templates, {len(CONVERSATIONS)} conversations, {len(rows)} rows, {errors} of them errors")


if __name__ == "__main__":
    main()
