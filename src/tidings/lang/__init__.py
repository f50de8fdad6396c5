"""Reading the language of filters and statements."""

from tidings.lang.parser import parse_filter, parse_statements

__all__ = ["parse_filter", "parse_statements"]
