from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.chat_template import ChatTemplate
from neva.errors import ConfigError
from neva.model_profile import read_model_profile, template_of
from neva.reasons import Reason
from tests.neva.tiny_llava import config_files, write_model_dir

CHATML = """
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
PARTS = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}<image>\n"
    "{% endfor %}{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def test_chatml_writes_the_turns() -> None:
    rendered = ChatTemplate(CHATML).render("<video>Who?")
    assert rendered.strip("\n") == "<|im_start|>user\n<video>Who?<|im_end|>\n<|im_start|>assistant"


def test_a_template_of_parts_gets_parts() -> None:
    assert ChatTemplate(PARTS).render("Who?<video>") == "USER: Who?<video> ASSISTANT:"


@given(text=st.text())
def test_the_users_text_is_data_and_never_template(text: str) -> None:
    assert f"user\n{text}<|im_end|>" in ChatTemplate(CHATML).render(text)
    assert "{{ 7 * 6 }}" in ChatTemplate(CHATML).render("{{ 7 * 6 }}")


def test_special_texts_are_at_hand_and_end_answers() -> None:
    template = ChatTemplate(
        "{{ bos_token }}{{ messages[0]['content'] }}", {"bos_token": "<s>"}, ("<|im_end|>",)
    )
    assert template.render("Who?") == "<s>Who?"
    assert template.required_tokens == ("<s>",)
    assert template.clean(" a hand<|im_end|>\n") == "a hand"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{% for %}", "Expected"),
        ("{{ messages[0]['role'] }}", "repeat the user's text once"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "once"),
        ("{{ raise_exception('no users') }}", "no users"),
        ("{{ strftime_now('%Y') }}{{ messages[0]['content'] }}", "strftime_now"),
        ("{{ ''.__class__.__mro__ }}{{ messages[0]['content'] }}", "unsafe"),
        ("{{ messages.append(1) }}{{ messages[0]['content'] }}", "append"),
    ],
)
def test_a_template_that_can_not_be_used_is_refused(source: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        ChatTemplate(source)
    assert caught.value.reason is Reason.UNSUPPORTED_MODEL


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json", "tokenizer"])
def test_a_directorys_own_template_is_found_wherever_it_stands(tmp_path: Path, name: str) -> None:
    write_model_dir(tmp_path)
    if name == "chat_template.jinja":
        (tmp_path / name).write_text(CHATML)
    elif name == "chat_template.json":
        (tmp_path / name).write_text(json.dumps({"chat_template": CHATML}))
    else:
        several = [{"name": "tools", "template": "x"}, {"name": "default", "template": CHATML}]
        config = {"chat_template": several, "eos_token": {"content": "<|im_end|>"}}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    profile = read_model_profile(tmp_path)
    assert profile.template == "chat_template"
    template = template_of(profile)
    assert template.render("Who?").strip().startswith("<|im_start|>user\nWho?")
    assert template.end_markers == (("<|im_end|>",) if name == "tokenizer" else ())


def test_the_config_may_name_a_template_over_the_models_own(tmp_path: Path) -> None:
    files = config_files()
    files["config.json"]["conv_template"] = "llama_2"
    write_model_dir(tmp_path, files)
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    assert template_of(read_model_profile(tmp_path)).name == "llama_2"
