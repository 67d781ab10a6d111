#!/usr/bin/env python3
"""Writes tests/data/jinja_cases.json: small templates with what Python's jinja2 makes of them.

Needs jinja2 3.1. The environment is the one that Hugging Face's apply_chat_template sets up, with the
clock fixed at 2026-11-21T12:00:00. A case whose template changes lists or dicts in place (refused by
that environment, but used by published templates that other engines run) is rendered in the plain
sandbox instead.

Usage: make_jinja_cases.py > tests/data/jinja_cases.json
"""

import datetime
import json
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

from jinja_cases import CASES, MUTATING, VARIABLES

CLOCK = datetime.datetime(2026, 11, 21, 12, 0, 0)


class GenerationTag(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_render")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def render(source, is_mutating):
    base = SandboxedEnvironment if is_mutating else ImmutableSandboxedEnvironment
    environment = base(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = CLOCK.strftime
    variables = json.loads(json.dumps(VARIABLES))
    return environment.from_string(source).render(
        tools=None, documents=None, add_generation_prompt=True, **variables)


def make_case(source, is_mutating):
    try:
        return {"template": source, "expected": render(source, is_mutating)}
    except Exception as error:
        return {"template": source, "error": f"{type(error).__name__}: {error}"}


def main():
    cases = [make_case(source, False) for source in CASES]
    cases += [make_case(source, True) for source in MUTATING]
    json.dump({"variables": VARIABLES, "cases": cases}, sys.stdout, ensure_ascii=False, indent=1)
    print()


if __name__ == "__main__":
    main()
