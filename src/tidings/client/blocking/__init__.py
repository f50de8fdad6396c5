# Generated from aio/__init__.py by scripts/generate_blocking.py; do not edit.
