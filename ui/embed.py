#!/usr/bin/env python3
"""Writes the page's files as a C source: embed.py OUT FILE…"""
import hashlib
import os
import sys

TYPES = {
    '.html': 'text/html; charset=utf-8',
    '.js': 'text/javascript; charset=utf-8',
    '.css': 'text/css; charset=utf-8',
    '.svg': 'image/svg+xml',
}

out, *files = sys.argv[1:]
with open(out, 'w', encoding='ascii') as target:
    target.write('#include "page.h"\n\n#include <string.h>\n\n')
    rows = []
    for number, name in enumerate(files):
        with open(name, 'rb') as source:
            data = source.read()
        base = os.path.basename(name)
        path = '/' if base == 'index.html' else '/' + base
        digest = hashlib.sha256(data).hexdigest()[:32]
        target.write(f'static const unsigned char file_{number}[] = {{\n')
        for start in range(0, len(data), 20):
            target.write(','.join(str(byte) for byte in data[start:start + 20]) + ',\n')
        target.write('0};\n')
        rows.append(f'    {{"{path}", "{TYPES[os.path.splitext(base)[1]]}", "\\"{digest}\\"", '
                    f'(const char *)file_{number}, sizeof file_{number} - 1}},\n')
    target.write('static const struct page_file files[] = {\n' + ''.join(rows) + '};\n\n')
    target.write('''const struct page_file *page_find(const char *path)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (strcmp(files[i].path, path) == 0)
            return &files[i];
    return NULL;
}
''')
