#!/usr/bin/env python3
"""Writes core/text/html_entity_table.h from Python's copy of HTML 5's named character references.

    python3 tools/make_html_entities.py > core/text/html_entity_table.h
"""
import html.entities
import string

# strings stay under the 4095 bytes that ISO C promises
LETTERS = string.ascii_uppercase + string.ascii_lowercase


def rows(letter):
    for name, value in sorted(html.entities.html5.items()):
        if name.endswith(";") and name[0] == letter:
            sign = "*" if name[:-1] in html.entities.html5 else "="
            yield " " + name[:-1] + sign + "+".join(f"{ord(c):x}" for c in value)


def lines(words, width=94):
    line = ""
    for word in words:
        if len(line) + len(word) > width:
            yield line
            line = ""
        line += word
    yield line


print("""/* Made by tools/make_html_entities.py from HTML 5's table of named character references: for each
 * first letter " NAME=CODE" or " NAME=CODE+CODE", hexadecimal; "*" instead of "=": the name also
 * stands without its semicolon. */
#ifndef ZT_CORE_TEXT_HTML_ENTITY_TABLE_H
#define ZT_CORE_TEXT_HTML_ENTITY_TABLE_H

// clang-format off
static const char *const html_entity_table[52] = {""")
for letter in LETTERS:
    words = list(rows(letter)) + [" "]
    print("    /* %s */" % letter)
    print("\n".join('    "%s"' % line for line in lines(words)) + ",")
print("""};
// clang-format on

#endif""")
