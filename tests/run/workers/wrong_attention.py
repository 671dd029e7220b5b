"""train.py with a fault put in: responses of a packed row do not see their prompt."""

import sys
from dataclasses import replace

import dpo.model.attention as attention
from dpo.cli import main

right = attention._per_segment


def blind(query, key, value, segments, options):
    return right(query, key, value, replace(segments, bounds=[(a, b, a, a) for a, b, *_ in segments.bounds]), options)


attention._per_segment = blind
sys.exit(main(sys.argv[1:]))
